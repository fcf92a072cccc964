"""``--temperature``, ``--top-p`` and ``--samples``: what they ask for, and every contradiction in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.eval_verb import command
from harness.cli.options import build_specs
from harness.exceptions import HarnessError
from harness.pytest_plugin.evaluations import spec_of
from harness.spec import EvalSpec
from harness.spec.sampling import draws_given

pytestmark = pytest.mark.unit


def spec(*arguments: str) -> EvalSpec:
    """What the command line asks for."""
    context = command.make_context("eval", ["checkpoint", "--out", "out", *arguments])
    with context:
        (found,) = build_specs(context.params).values()
    return found


def test_what_they_ask_for() -> None:
    found = spec("--temperature", "0.7", "--top-p", "0.95", "--samples", "8")
    assert (found.temperature, found.top_p, found.noise_seeds) == (0.7, 0.95, 8)
    assert spec("--temperature", "0.7").noise_seeds == EvalSpec("arith").noise_seeds
    assert spec("--temperature", "0.7", "--noise-seeds", "3").noise_seeds == 3
    assert spec("--temperature", "0.7", "--noise-seeds", "3", "--samples", "3").noise_seeds == 3
    assert spec("--temperature", "0").sampling is None
    assert spec().sampling is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--samples", "4"], "--samples 4 without --temperature"),
        (["--samples", "4", "--temperature", "0"], "--samples 4 without --temperature"),
        (["--top-p", "0.9"], "--top-p 0.9 without --temperature"),
        (["--temperature", "1", "--samples", "4", "--noise-seeds", "5"], "--samples 4 with --noise-seeds 5"),
        (["--temperature", "1", "--samples", "0"], "--samples 0"),
        (["--temperature", "-1"], "--temperature -1"),
        (["--temperature", "nan"], "--temperature nan"),
        (["--temperature", "1", "--top-p", "0"], "--top-p 0"),
        (["--temperature", "1", "--top-p", "1.01"], "--top-p 1.01"),
    ],
)
def test_contradictions_are_one_line(
    arguments: list[str], words: str, cli: Callable[..., Any], tmp_path: Path, tiny: Path
) -> None:
    said = cli("eval", tiny, "--task", "arith", "--out", tmp_path / "run", *arguments)
    assert said.code == 2 and words in said.line
    assert not (tmp_path / "run").exists()


def given(**values: Any) -> dict[str, Any]:
    from harness.gate_options import in_pytest

    return {option.key: None for option in in_pytest()} | values


def test_pytest_asks_for_the_same() -> None:
    found = spec_of(given(temperature=0.7, top_p=0.9, samples=3), None)
    assert (found.temperature, found.top_p, found.noise_seeds) == (0.7, 0.9, 3)
    with pytest.raises(HarnessError, match="--samples 3 without --temperature"):
        spec_of(given(samples=3), None)
    with pytest.raises(HarnessError, match="--samples 3 with --noise-seeds 2"):
        spec_of(given(temperature=0.7, samples=3, noise_seeds=2), None)


def test_draws_by_either_name() -> None:
    assert draws_given(None, None, 0.0) is None
    assert draws_given(None, 4, 0.0) == draws_given(4, None, 0.7) == draws_given(4, 4, 0.7) == 4
