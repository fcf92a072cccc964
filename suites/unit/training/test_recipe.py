"""The recipe object: its file form, what it comes to, and what makes two of them the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import HarnessError
from harness.strict import fill
from harness.training.injection import AqnPart, NoisePart, QuantizationPart
from harness.training.recipe import VARIABLE, Recipe, current_recipe, write_recipe
from harness.training.sections import (
    AlgorithmPart,
    DataPart,
    MachinePart,
    ModelPart,
    OptimizerPart,
    RunPart,
    TuningPart,
)
from harness.training.tables import merged

NOISE = "relative_gaussian(0.05) @ op:linear,matmul"


def recipe(**other: Any) -> Recipe:
    given: dict[str, Any] = {
        "name": "one",
        "title": "one",
        "label": "E5",
        "source": "nowhere",
        "profile": "tiny",
        "model": ModelPart("model", "tiny"),
        "data": DataPart("arith", 80, 32, 256, 128, 8),
        "algorithm": AlgorithmPart("grpo", 4),
        "optimizer": OptimizerPart(1e-5, 4),
        "run": RunPart(2, 5, 10),
        "machine": MachinePart("cpu", devices=1),
    }
    return Recipe(**(given | other))


def test_json_gives_back_an_equal_recipe(tmp_path: Path) -> None:
    full = recipe(
        noise=NoisePart(NOISE, ("backward", "rollout", "training_forward")),
        quantization=QuantizationPart("mxfp4", "mxfp4", ("layers.0",)),
        aqn=AqnPart(0.05, 0.0005, epoch_aware=True),
        tuning=TuningPart("lora", 8),
        algorithm=AlgorithmPart("grpo", 4, correction={"rollout_is": "token", "rollout_is_threshold": 2.0}),
    )
    file = tmp_path / "recipe.json"
    write_recipe(full, file)
    assert current_recipe({VARIABLE: str(file)}) == full
    assert current_recipe({}) is None


def test_steps_and_updates_of_the_published_batches() -> None:
    grpo = recipe(data=DataPart("gsm8k", 7473, 1319, 1024, 1024, 128), optimizer=OptimizerPart(5e-7, 32))
    assert (grpo.total_steps, grpo.updates_per_step) == (116, 4)
    drawn = DataPart("gsm8k", 7473, 1319, 1024, 1024, 128, 256)
    kept = recipe(data=drawn, optimizer=OptimizerPart(5e-7, 32), algorithm=AlgorithmPart("dapo", 8, filter_groups=True))
    every = recipe(data=drawn, optimizer=OptimizerPart(5e-7, 32), algorithm=AlgorithmPart("dapo", 8))
    assert (kept.steps_per_epoch, kept.updates_per_step, every.updates_per_step) == (29, 4, 8)


def test_settings_that_act_the_same_have_one_effective_hash() -> None:
    one = recipe(aqn=AqnPart(0.01, 0.001, multipliers="targeted:1-2"))
    other = recipe(
        name="two",
        title="other words",
        run=RunPart(1, 7, 20, steps=20, seed=5),
        aqn=AqnPart(0.01, 0.001, multipliers="layers:0=0,1=1,2=1,3=0", stages_per_epoch=9),
    )
    assert one.recipe_hash != other.recipe_hash
    assert one.effective(4)["aqn"] != other.effective(4)["aqn"], "the final norm stands in no layer"
    same = replace(other, aqn=AqnPart(0.01, 0.001, multipliers="targeted:1,2"))
    assert one.effective_hash(4) == same.effective_hash(4)


@pytest.mark.parametrize(
    "changed",
    [
        {"aqn": AqnPart(0.02, 0.001)},
        {"noise": NoisePart(NOISE, ("rollout",), "one_side")},
        {"noise": NoisePart(NOISE, ("rollout", "training_forward"), "independent")},
        {"quantization": QuantizationPart("mxfp4")},
        {"quantization": QuantizationPart("mxfp4", "mxfp4", point="output")},
        {"tuning": TuningPart("lora", 8)},
        {"optimizer": OptimizerPart(1e-5, 4, dropout=0.1)},
        {"algorithm": AlgorithmPart("grpo", 4, filter_groups=True)},
    ],
)
def test_a_setting_that_acts_changes_one_factor_at_least(changed: dict[str, Any]) -> None:
    before, after = recipe().effective(4), recipe(**changed).effective(4)
    assert [name for name in before if before[name] != after[name]]


def test_a_cut_gradient_is_another_quantization_and_needs_an_adapter() -> None:
    lora, parts = (
        TuningPart("lora", 8),
        [QuantizationPart("mxfp4", "mxfp4", straight_through=each) for each in (True, False)],
    )
    straight, cut = (recipe(tuning=lora, quantization=part).effective(4)["quantization"] for part in parts)
    assert straight != cut
    with pytest.raises(HarnessError, match=r"straight_through = false; .* trained weights would get none"):
        recipe(quantization=parts[1])
    with pytest.raises(HarnessError, match="straight_through = false"):
        recipe(tuning=lora, quantization=replace(parts[1], activations=""))


def test_results_are_quantized_everywhere_but_at_the_head() -> None:
    weights, activations = QuantizationPart("mxfp4", "mxfp4", exclude=("layers.0", "lm_head"), point="output").specs()
    assert weights.exclude == ("layers.0",), "the head stays by itself"
    assert activations.exclude == ("layers.0", "lm_head")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            {"quantization": QuantizationPart("mxfp4", exclude=("layers.1", "layers.0", "lm_head"))},
            {"quantization": QuantizationPart("mxfp4", exclude=("embed_tokens", "layers.0", "layers.1"))},
        ),
        (
            {"tuning": TuningPart("lora", 8, targets=("q_proj", "k_proj"))},
            {"tuning": TuningPart("lora", 8, targets=("k_proj", "q_proj"))},
        ),
        (
            {"aqn": AqnPart(0.01, 0.001, layer_types=("rmsnorm", "linear"))},
            {"aqn": AqnPart(0.01, 0.001, layer_types=("linear", "rmsnorm"))},
        ),
        ({"algorithm": AlgorithmPart("grpo", 4, correction={"bypass_mode": False})}, {}),
        (
            {"noise": NoisePart("relative_gaussian(0.05)", ("rollout", "backward"))},
            {"noise": NoisePart("relative_gaussian(0.050) @ op:linear", ("backward", "rollout"))},
        ),
    ],
)
def test_the_same_settings_in_other_words_have_one_hash(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert recipe(**one).effective_hash(4) == recipe(**other).effective_hash(4)


def test_what_is_off_does_not_count() -> None:
    one = recipe(algorithm=AlgorithmPart("grpo", 4, kl_coef=0.5, filter_metric="score", overlong_penalty=1.0))
    assert one.effective_hash(4) == recipe().effective_hash(4)


def test_the_training_pass_and_its_gradient_are_one_specification() -> None:
    def when(*passes: str) -> str | None:
        spec = NoisePart(NOISE, passes, "one_side").spec_in("training_forward")
        return None if spec is None else spec.when

    assert (when("training_forward"), when("backward"), when("rollout")) == ("forward", "backward", None)
    assert when("training_forward", "backward") == "both"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NoisePart(f"{NOISE} when:both", ("rollout",)), "drop when:"),
        (lambda: NoisePart(f"{NOISE} tokens:first", ("rollout",)), "drop tokens:first"),
        (lambda: NoisePart("relative_gaussian @ op:linear", ("rollout",)), "one level"),
        (lambda: NoisePart(NOISE, ("rolout",)), "did you mean 'rollout'"),
        (lambda: NoisePart(NOISE, ("rollout",), "same"), "only one side is noisy"),
        (lambda: NoisePart(NOISE, ("rollout", "backward"), "one_side"), "both sides are noisy"),
        (lambda: NoisePart("relative_gaussian(0) @ op:linear", ("rollout",), "one_side"), "perturbs nothing"),
        (lambda: NoisePart(NOISE, ()), "nothing would be perturbed"),
        (QuantizationPart, "name one"),
        (lambda: QuantizationPart("mxfp44"), "unknown format"),
        (lambda: QuantizationPart("mxfp4", exclude=("lm_head",), head=True), "contrary"),
        (lambda: TuningPart("lora"), "from 1 up"),
        (lambda: TuningPart("full", 8), "an adapter has a rank"),
        (lambda: AlgorithmPart("dapo", 8, kl_loss=True), "DAPO has no KL term"),
        (lambda: AlgorithmPart("grpo", 1), "from 2 up"),
        (lambda: AlgorithmPart("grpo", 4, correction={"rollout_iss": True}), "did you mean 'rollout_is'"),
        (lambda: AlgorithmPart("grpo", 4, clip_low=0.3), "swap the two"),
        (lambda: RunPart(1, 0, 5), "run.validate_every 0"),
        (lambda: DataPart("arith", 80, 32, 256, 128, 8, 4), "cannot keep more prompts"),
        (lambda: recipe(optimizer=OptimizerPart(1e-5, 3)), "whole number of updates"),
        (lambda: OptimizerPart(float("nan"), 3), "finite number above 0"),
    ],
)
def test_contradictions_are_refused_in_one_line(make: Any, words: str) -> None:
    with pytest.raises(HarnessError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_tables_are_read_strictly() -> None:
    good = {"learning_rate": 1, "mini_batch": 4}
    assert fill(OptimizerPart, good, "optimizer").learning_rate == 1.0
    for table, words in (
        (good | {"weight_decy": 0.1}, "did you mean 'weight_decay'"),
        (good | {"mini_batch": 4.0}, "whole number"),
        (good | {"mini_batch": True}, "whole number"),
        ({"mini_batch": 4}, "no learning_rate"),
        ([], "must be a table"),
    ):
        with pytest.raises(HarnessError, match=words):
            fill(OptimizerPart, table, "optimizer")


def test_a_table_is_merged_key_by_key_and_taken_out_by_false() -> None:
    below = {"aqn": {"sigma_start": 1, "mode": "absolute"}, "noise": {"spec": "x"}, "title": "a"}
    assert merged(below, {"aqn": {"mode": "relative"}, "noise": False, "title": "b"}) == {
        "aqn": {"sigma_start": 1, "mode": "relative"},
        "title": "b",
    }
