"""What a recipe is expected to do: sizes of the published models, injections per step, steps that are validated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import HarnessError
from harness.training.book import GPU, TINY, load_recipe
from harness.training.estimate import estimate, expected_injections, saved_steps, validated_steps
from harness.training.recipe import Recipe
from harness.training.reward import compute_score
from harness.training.sizes import Sizes, sizes_of, trained_parameters


def both(name: str, profile: str = GPU, changes: dict[str, Any] | None = None) -> tuple[Recipe, Sizes]:
    recipe = load_recipe(name, profile, changes)
    return recipe, sizes_of(recipe)


@pytest.mark.parametrize(
    ("name", "billions", "linears", "norms"),
    [("E5", 1.5437, 197, 57), ("E7a", 7.6156, 197, 57), ("E7a-30b", 30.53, 18673, 193)],
)
def test_sizes_of_the_published_models(name: str, billions: float, linears: int, norms: int) -> None:
    _, sizes = both(name)
    assert sizes.parameters / 1e9 == pytest.approx(billions, rel=2e-3)
    assert (sizes.counts["linear"], sizes.counts["rms_norm"]) == (linears, norms)


def test_an_adapter_of_rank_32_has_37_million_parameters() -> None:
    assert trained_parameters(*both("E12")) == pytest.approx(37e6, rel=0.01)


def test_the_shipped_model_is_read_from_its_folder() -> None:
    _, sizes = both("E5", TINY)
    assert (sizes.layers, sizes.head_size, sizes.counts["linear"]) == (4, 32, 29)
    assert sizes.parameters == pytest.approx(920_192, rel=3e-3)


def test_injections_of_a_step_follow_the_passes() -> None:
    counts = {each.name: (each.sites, each.calls) for each in expected_injections(*both("E5", TINY))}
    # 8 prompts x 4 answers in micro-batches of 8: 4 forwards, one for each half of an update
    assert counts["old_log_prob"] == counts["training_forward"] == (29, 116)
    assert counts["backward"] == (29, 232)
    assert counts["rollout"] == (29, None)
    backward = {each.name: each.calls for each in expected_injections(*both("E8d", TINY))}
    assert [name for name, calls in backward.items() if calls] == ["backward"]
    forward = {each.name: each.calls for each in expected_injections(*both("E8c", TINY))}
    assert forward["backward"] == 0 and forward["training_forward"] == 116


def test_the_reference_counts_only_where_there_is_a_kl_term() -> None:
    calls = {each.name: each.calls for each in expected_injections(*both("E10a", TINY))}
    assert calls["reference"] == 0 and calls["old_log_prob"] == 116


def test_layers_restrict_the_sites_and_globs_are_left_to_the_model() -> None:
    spec = "relative_gaussian(0.05) @ op:linear layers:1-2"
    found = expected_injections(*both("E5", TINY, {"noise": {"spec": spec}}))
    assert found[1].sites == 14
    spec = "relative_gaussian(0.05) @ op:linear include:mlp"
    assert expected_injections(*both("E5", TINY, {"noise": {"spec": spec}}))[1].sites is None
    assert expected_injections(*both("E7b-30b"))[1].sites is None


def test_the_last_step_is_validated_and_saved_while_the_frequency_is_above_0() -> None:
    recipe = load_recipe("E13j", GPU)
    assert (validated_steps(recipe), saved_steps(recipe)) == ((20, 29), (29,))
    never = load_recipe("E13j", GPU, {"run": {"validate_every": -1}})
    assert validated_steps(never) == ()


def test_the_estimate_of_a_published_run() -> None:
    found = estimate(*both("E5b"))
    assert (found["steps"], found["updates"], found["gpu_hours"]) == (116, 464, pytest.approx(16, abs=0.1))
    assert found["sigma"]["sigma"][116] == 0.0005 and found["aqn_layers"] == 57
    assert found["cpu_minutes"] is None
    json.dumps(found, allow_nan=False)


def test_memory_falls_with_devices_and_with_adapters() -> None:
    full, adapter = (estimate(*both(name))["memory_gib"] for name in ("E8a-dapo", "E7a-lora"))
    alone = estimate(*both("E8a-dapo", GPU, {"machine": {"devices": 1}}))["memory_gib"]
    assert adapter < full < alone


def test_a_model_that_nothing_describes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="did you mean"):
        both("E5", GPU, {"model": {"architecture": "qwen2.5-1.5"}})
    (tmp_path / "config.json").write_text('{"hidden_size": 8}')
    with pytest.raises(HarnessError, match="a size is missing"):
        both("E5", TINY, {"model": {"path": str(tmp_path)}})


def test_the_reward_is_the_strict_scorer() -> None:
    assert compute_score("arith", "3 + 4 = 7\n#### 7", "7") == {"score": 1.0, "acc": 1.0, "parsed": 1.0}
    assert compute_score("arith", "#### 8", "7", extra_info={"x": 1}, other=2)["score"] == 0.0
    assert compute_score("arith", "it is 7", "7") == {"score": 0.0, "acc": 0.0, "parsed": 0.0}
