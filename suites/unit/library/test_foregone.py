"""What is known before a checkpoint is evaluated is said, or refused, before a model is looked for."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import GatePolicy, accept_baseline, gate
from harness.baselines.book import load_named
from harness.baselines.file import Baseline
from harness.checkpoints.stored_quantization import stored_quantization
from harness.exceptions import CheckpointError, NotComparableError
from harness.gates.policy_file import load_policy
from harness.library.for_gate import GateEvaluation

pytestmark = pytest.mark.unit

NOWHERE = Path("no-such-checkpoint")
"""Whoever looks for the model first says that it is not there."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_run: Any) -> Path:
    """60 items with two seeds, all right."""
    path = tmp_path_factory.mktemp("foregone")
    run = make_run(path / "run", {0.0: [[1]] * 60, 0.05: [[1, 1]] * 60})
    accept_baseline(run, path / "baselines", "mine", "for a test", False)
    return path / "baselines"


@pytest.fixture(scope="module")
def held(folder: Path) -> Baseline:
    found = load_named(folder, "mine")
    key = dict(found.arm.key) | {"engine": "transformers", "dtype": "float32", "quantization": "none"}
    return replace(found, arm=replace(found.arm, key=key | {"attention": "sdpa"}))


def _refused(held: Baseline, policy: GatePolicy, **how: Any) -> str:
    with pytest.raises(NotComparableError) as caught:
        gate(NOWHERE, held, policy, GateEvaluation(**how))
    assert caught.value.exit_code == 4 and "nothing was evaluated" in str(caught.value)
    return str(caught.value)


def test_a_margin_out_of_reach_is_refused_and_the_one_that_is_named_is_enough(held: Baseline) -> None:
    said = _refused(held, GatePolicy(margin=0.03))
    assert "INCONCLUSIVE is foregone" in said and "give a margin of 0.0432 or more" in said
    with pytest.raises(CheckpointError, match=str(NOWHERE)):
        gate(NOWHERE, held, GatePolicy(margin=0.0432))


def test_what_can_pass_is_announced_with_its_joint_odds(held: Baseline, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "harness"), pytest.raises(CheckpointError):
        gate(NOWHERE, held, GatePolicy(margin=0.1))
    assert "the whole gate over 2 levels, if nothing changed: PASS" in caplog.text


def test_a_quick_check_that_cannot_pass_says_so_and_goes_on(held: Baseline, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "harness"), pytest.raises(CheckpointError):
        gate(NOWHERE, held, GatePolicy(margin=0.03), GateEvaluation(items=20))
    assert "PASS is out of reach" in caplog.text and "can only find damage" in caplog.text


@pytest.mark.parametrize(
    ("how", "field"),
    [
        ({"dtype": "bfloat16"}, "dtype"),
        ({"engine": "vllm"}, "engine"),
        ({"quantize": "weights=mxfp4"}, "quantization"),
        ({"attention": "eager"}, "attention"),
    ],
)
def test_another_key_without_across_is_refused(held: Baseline, how: dict[str, str], field: str) -> None:
    assert f"measurement keys differ in {field}" in _refused(held, GatePolicy(margin=0.1), **how)
    with pytest.raises(CheckpointError):
        gate(NOWHERE, held, GatePolicy(margin=0.1, across=field), GateEvaluation(**how))


def test_an_evaluation_takes_the_noise_of_the_baseline(held: Baseline) -> None:
    key = {**held.arm.key, "noise": "relative_gaussian @ op:linear"}
    told = replace(held, arm=replace(held.arm, key=key))
    assert "noise was to differ" in _refused(told, GatePolicy(margin=0.1, across="noise"))


def test_a_file_that_is_stored_quantized_is_told_from_its_configuration(held: Baseline, tmp_path: Path) -> None:
    fp8 = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2", "quantization_config": fp8}))
    with pytest.raises(NotComparableError, match="measurement keys differ in quantization: candidate 'file in fp8"):
        gate(tmp_path, held, GatePolicy(margin=0.1))
    with pytest.raises(CheckpointError):  # it has no weights
        gate(tmp_path, held, GatePolicy(margin=0.1, across="quantization"))
    theirs = stored_quantization(tmp_path)
    assert theirs is not None
    alike = replace(held, arm=replace(held.arm, key=held.arm.key | {"quantization": theirs.text}))
    with pytest.raises(CheckpointError):
        gate(tmp_path, alike, GatePolicy(margin=0.1))


def test_other_items_are_refused(held: Baseline, tmp_path: Path) -> None:
    data = tmp_path / "items.jsonl"
    data.write_text(json.dumps({"question": "1 + 1?", "answer": "#### 2"}) + "\n")
    assert held.spec is not None
    other = replace(held, spec={**held.spec, "task": "gsm8k"})
    assert "measurement keys differ in dataset" in _refused(other, GatePolicy(margin=0.1), data=str(data))


@pytest.mark.parametrize("items", [None, 20])
def test_a_baseline_at_the_floor_is_refused(held: Baseline, items: int | None) -> None:
    wrong = replace(next(iter(held.arm.outcomes[0.0].values()))[0], score=0.0, reason="wrong")
    zeros = {
        level: {item: dict.fromkeys(row, wrong) for item, row in rows.items()}
        for level, rows in held.arm.outcomes.items()
    }
    lost = replace(held, arm=replace(held.arm, outcomes=zeros))
    assert "at the floor" in _refused(lost, GatePolicy(margin=0.1), items=items)


def test_fewer_seeds_than_the_policy_asks_for_are_refused(held: Baseline) -> None:
    assert "2 noise seeds, the policy asks for 5" in _refused(held, GatePolicy(margin=0.1, noise_seeds=5))


def test_a_retention_that_the_baseline_has_not_is_said(
    make_run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path / "run", {0.0: [[1]] * 60, 0.05: [[1, 0]] * 60})
    accept_baseline(run, tmp_path / "baselines", "halved", "for a test", False)
    halved = load_named(tmp_path / "baselines", "halved")
    for least, said in ((0.3, False), (0.9, True)):
        caplog.clear()
        with caplog.at_level(logging.INFO, "harness"), pytest.raises(CheckpointError):
            gate(NOWHERE, halved, GatePolicy(margin=0.2, min_retention=least))
        warned = "a checkpoint that is as the baseline is would be FAIL at level 0.05" in caplog.text
        assert warned == said == ("the retention is 0.5000" in caplog.text)


POLICIES = {
    'margin = 0.06\nmargin_at = { "0.05" = 0.001 }': "give a margin of 0.0432 or more",
    "margin = 0.1\nalpha = 0.0000001": "INCONCLUSIVE is foregone",
    "margin = 0.1\nfloor = 0.99": "INVALID is foregone",
    "margin = 0.1\nlevels = [0, 0.2]": "no outcomes at level 0.2",
    "margin = 0.1\nnoise_seeds = 3": "2 noise seeds, the policy asks for 3",
}


@pytest.mark.parametrize("text", POLICIES)
def test_a_policy_file_that_is_foregone_is_refused(held: Baseline, tmp_path: Path, text: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f"[policy]\n{text}\n")
    assert POLICIES[text] in _refused(held, load_policy(file))
