"""Noise at some tokens in evaluations: what no sequence can have is refused, and windows of a text are sequences."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import HarnessError
from harness.record import CERTIFIED
from harness.runs.evidence import Fed
from harness.runs.loaded import load_run
from harness.spec import EvalSpec, NoiseSpec, parse_noise
from suites.small import lower_layers

pytestmark = pytest.mark.unit


def noise(words: str) -> NoiseSpec:
    return parse_noise(f"relative_gaussian @ op:linear tokens:{words}")


def test_a_step_behind_the_longest_answer_is_refused(two_layers: Path) -> None:
    spec = EvalSpec("arith", items=4, max_new_tokens=8, noise=noise("decode:7"))
    assert prepare(two_layers, spec, "cpu").plan.spec.tokens == ("decode:7",)
    beyond = replace(spec, noise=noise("decode:8-"))
    with pytest.raises(HarnessError, match="none of 4 sequences has such a token: their decode steps end at 7"):
        prepare(two_layers, beyond, "cpu")
    assert prepare(two_layers, replace(beyond, levels=(0.0,)), "cpu")  # nothing is perturbed anyway


def test_choices_of_one_token_have_no_decode_step(two_layers: Path, tmp_path: Path) -> None:
    data = tmp_path / "letters.jsonl"
    rows = [{"context": f"{n} of A or B?", "choices": ["A", "B"], "answer": "A"} for n in range(4)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = EvalSpec("choice", str(data), 4)
    lengths = {len(each.continuation) for own in prepare(two_layers, asked, "cpu").requests.values() for each in own}
    steps = max(lengths) - 1
    with pytest.raises(HarnessError, match=f"none of 8 sequences has such a token: their decode steps end at {steps}"):
        prepare(two_layers, replace(asked, noise=noise(f"decode:{steps + 1}-")), "cpu")


def test_each_window_of_a_text_has_a_context_and_steps_of_its_own(shipped: Path, tmp_path: Path) -> None:
    """A text of three windows: the last one is conditioned on most of what stands before it."""
    short = lower_layers(shipped, tmp_path / "short")
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 40}))
    data = tmp_path / "text.jsonl"
    data.write_text("".join(json.dumps({"text": f"Mia has {n} pens. " * 6}) + "\n" for n in range(10, 14)))
    spec = EvalSpec("perplexity", str(data), None, levels=(0.0, 0.2), noise_seeds=1, noise=noise("first,decode:2"))
    prepared = prepare(short, replace(spec, positive_control=False), "cpu")
    windows = [each for own in prepared.requests.values() for each in own]
    assert len(windows) > 8 and {len(each.context) for each in windows} > {1}
    evaluate(prepared, tmp_path / "run", 4)
    run = load_run(tmp_path / "run")
    assert run.arm.certificate.status == CERTIFIED
    noisy = [result for result in run.results if result.level]
    steps = sum(1 + (len(each.continuation) > 2) for each in windows)
    assert Fed.of(noisy, ("first", "decode:2")).tokens == steps
    assert {count.rows for count in run.counts if count.level} == {steps}
