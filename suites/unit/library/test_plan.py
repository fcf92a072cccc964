"""The calls behind ``harness plan``: what a noise perturbs in a model without weights, and what a gate can tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import GatePolicy, HarnessError, PlanOptions, parse_noise, plan, power
from harness.baselines.book import accept
from harness.testing import tiny_config

pytestmark = pytest.mark.unit


@pytest.fixture
def config(tmp_path: Path) -> Path:
    tiny_config().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_plan_of_a_configuration(config: Path) -> None:
    text = plan("relative_gaussian(0.05) @ op:linear", config=config, options=PlanOptions(tokens=2, device="cpu"))
    noise = parse_noise("relative_gaussian(0.05) @ op:linear")
    objects = plan([noise], config=str(config), options=PlanOptions(tokens=2, device="cpu"))
    (one,) = text["plans"]
    assert one["sites"] == 2 * 7 + 1 and one["expected"]["calls"] == 15 and text["tokens"] == 2
    assert one["expected"] == objects["plans"][0]["expected"]
    json.dumps(text, allow_nan=False)


def test_a_plan_says_which_tokens_and_what_share_of_a_sequence_they_are(config: Path) -> None:
    noise = "relative_gaussian(0.05) @ profile:matmul tokens:"
    given = {"device": "cpu", "attention": "eager", "tokens": 5}

    def selection(words: str, **more: Any) -> Any:
        (one,) = plan(noise + words, config=config, options=PlanOptions(**given, **more))["plans"]
        return one["selection"]

    assert selection("first") == {"tokens": ["first"]}
    one, other = (selection(words, new_tokens=4) for words in ("prefill", "decode"))
    assert (one["rows"], one["of_rows"], one["head_rows"], one["of_head_rows"]) == (5, 8, 1, 4)
    assert (other["rows"], other["head_rows"]) == (3, 3)
    (every,) = plan(noise + "prefill,decode", config=config, options=PlanOptions(**given | {"tokens": 8}))["plans"]
    assert "selection" not in every
    assert one["share"] + other["share"] == pytest.approx(every["products"]["share"])
    with pytest.raises(HarnessError, match="--new-tokens 0"):
        PlanOptions(new_tokens=0)


def test_exactly_one_model_is_planned_for(config: Path) -> None:
    for given in ({}, {"checkpoint": config, "config": config}):
        with pytest.raises(HarnessError, match="give exactly one of them"):
            plan("relative_gaussian @ op:linear", **given)


@pytest.mark.parametrize(
    ("option", "words"),
    [({"tokens": 0}, "--tokens 0"), ({"dtype": "fp32"}, "--dtype fp32"), ({"attention": "sdp"}, "did you mean 'sdpa'")],
)
def test_options_out_of_range_are_refused(option: dict[str, Any], words: str) -> None:
    with pytest.raises(HarnessError) as caught:
        PlanOptions(**option)
    assert words in str(caught.value)


def test_power_is_told_by_level_and_as_a_whole(tmp_path: Path, make_run: Any) -> None:
    run = make_run(tmp_path / "run", {0.0: [[1]] * 60, 0.05: [[1]] * 60})
    accept(run, tmp_path / "baselines", "mine", "for a test")
    found = power("mine", GatePolicy(margin=0.1), baselines_dir=tmp_path / "baselines")
    assert [level["level"] for level in found.to_json()["power"]] == [0.0, 0.05]
    assert found.sentence and found.to_json()["whole_gate"]
    with pytest.raises(HarnessError, match="level"):
        power("mine", GatePolicy(margins=((0.07, 0.1),)), baselines_dir=tmp_path / "baselines")
