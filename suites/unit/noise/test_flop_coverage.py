"""Coverage of a plan: the same line for every attention and without weights, and what counts as named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate.checkpoint import load_checkpoint
from harness.noise.flop_coverage import coverage_of, names_left_out, product_share
from harness.noise.planner import build_plan
from harness.runs.identity import coverage_problems
from harness.spec import parse_noise

pytestmark = pytest.mark.long


def coverage(path: Path, noise: str, attention: str = "sdpa", device: str = "cpu", longest: int = 1) -> Any:
    model = load_checkpoint(path, "float32", attention, device).model
    return coverage_of(build_plan(model, parse_noise(f"relative_gaussian @ {noise}")), model, longest)


@pytest.mark.parametrize("noise", ["op:linear", "op:linear exclude:q_proj", "scope:mlp"])
def test_attention_and_weights_do_not_change_the_line(tiny: Path, noise: str) -> None:
    lines = {coverage(tiny, noise, *how).text for how in (("sdpa",), ("eager",), ("sdpa", "meta"), ("eager", "meta"))}
    assert len(lines) == 1


def test_what_is_left_out_is_named_with_its_reason(tiny: Path) -> None:
    whole, less = coverage(tiny, "op:linear"), coverage(tiny, "op:linear exclude:q_proj")
    assert whole.sites == less.sites + 1 and whole.share > less.share
    assert set(less.left_out) - set(whole.left_out) == {"model.layers.0.self_attn.q_proj"}
    assert less.left_out["model.layers.0.self_attn.q_proj"] == "exclude:q_proj"
    assert "model.layers.0.self_attn" in whole.left_out
    assert whole.text != less.text and not whole.named and less.named


def test_the_share_of_long_sequences_stands_beside_it_and_not_in_the_line(tiny: Path) -> None:
    short, long = coverage(tiny, "op:linear"), coverage(tiny, "op:linear", longest=500)
    assert short.text == long.text and long.share_longest < short.share
    model = load_checkpoint(tiny, "float32", "sdpa", "cpu").model
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear"))
    assert short.share == product_share(plan, model, 1)["share"]


@pytest.mark.parametrize(
    ("noise", "named"),
    [
        ("op:linear", False),
        ("profile:linear", False),
        ("profile:matmul", False),
        ("op:linear,qk", False),
        ("op:linear key:shared", False),
        ("op:qk,pv", True),
        ("scope:mlp", True),
        ("module:*.up_proj", True),
        ("class:Linear", True),
        ("op:linear layers:0-2", True),
        ("op:linear exclude:layers.3", True),
        ("op:linear include:mlp", True),
    ],
)
def test_narrower_than_all_linears_is_named(noise: str, named: bool) -> None:
    assert names_left_out(parse_noise(f"relative_gaussian @ {noise}")) is named


def test_a_small_share_needs_a_name(tiny: Path) -> None:

    small = replace(coverage(tiny, "op:linear layers:0"), share=0.31)
    assert coverage_problems(small) == ()
    (words,) = coverage_problems(replace(small, named=False))
    assert words.startswith("only 31.0 % of the floating-point operations") and "(50 % are needed" in words
    assert coverage_problems(replace(small, named=False, share=0.5)) == ()
