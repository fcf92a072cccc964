"""Every way to draw otherwise than a run says makes it INVALID, and the words name the record and the token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.engines import generation
from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.numerics import gumbel
from harness.record import CERTIFIED, INVALID_EVIDENCE
from harness.runs.loaded import load_run
from harness.spec import EvalSpec

pytestmark = pytest.mark.contract
SPEC = EvalSpec(
    *("arith", None, 8),
    levels=(0.0, 0.05),
    noise_seeds=2,
    max_new_tokens=24,
    positive_control=False,
    temperature=1.3,
    top_p=0.8,
)


@pytest.fixture
def sampled(two_layers, tmp_path):
    """Evaluates 8 items with two draws at 0 and 5 %, and returns the stored run."""

    def run():
        evaluate(prepare(two_layers, SPEC, "cpu"), tmp_path / "run")
        return load_run(tmp_path / "run")

    return run


def dropped_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """All draws of an item are the first one."""
    honest = generation.answer_streams
    monkeypatch.setattr(generation, "answer_streams", lambda items, draws: honest(items, [0] * len(draws)))


def dropped_items(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = generation.answer_streams
    monkeypatch.setattr(generation, "answer_streams", lambda items, draws: honest(["same"] * len(items), draws))


def dropped_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = generation.step_keys
    monkeypatch.setattr(generation, "step_keys", lambda streams, step: honest(streams, 0))


def drawn(change: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        honest = generation.drawn_tokens

        def other(logits: Any, rows: Any, columns: Any, temperature: float, top_p: float) -> Any:
            return change(honest, logits, rows, columns, temperature, top_p)

        monkeypatch.setattr(generation, "drawn_tokens", other)

    return plant


def of_a_generator(honest: Any, logits: Any, *rest: Any) -> Any:
    """Multinomial draws from the right distribution, by another generator."""
    return torch.multinomial((logits / SPEC.temperature).softmax(-1), 1)[:, 0]


WAYS = {
    "all draws are the first": dropped_draws,
    "all items draw alike": dropped_items,
    "all positions draw alike": dropped_positions,
    "half the temperature": drawn(lambda honest, logits, rows, columns, t, p: honest(logits, rows, columns, t / 2, p)),
    "a little colder": drawn(lambda honest, logits, rows, columns, t, p: honest(logits, rows, columns, t * 0.9, p)),
    "no cut": drawn(lambda honest, logits, rows, columns, t, p: honest(logits, rows, columns, t)),
    "a wider cut": drawn(lambda honest, logits, rows, columns, t, p: honest(logits, rows, columns, t, 0.9)),
    "a narrower cut": drawn(lambda honest, logits, rows, columns, t, p: honest(logits, rows, columns, t, 0.7)),
    "greedy": drawn(lambda honest, logits, *rest: logits.argmax(-1)),
    "another generator": drawn(of_a_generator),
}


def problems(run: Any) -> list[str]:
    certificate = run.arm.certificate
    return [*certificate.problems, *(words for level in certificate.levels for words in level.problems)]


def test_an_honest_sampled_run_is_certified(sampled):
    run = sampled()
    assert run.arm.certificate.status == CERTIFIED
    assert problems(run) == []


@pytest.mark.parametrize("way", WAYS)
def test_another_draw_is_found(way, sampled, monkeypatch):
    WAYS[way](monkeypatch)
    run = sampled()
    assert run.arm.certificate.status == INVALID_EVIDENCE
    assert any("replay: item" in words and "in the record and" in words for words in problems(run)), problems(run)


def test_draws_that_are_no_gumbels_are_found(sampled, monkeypatch):
    """Normal numbers in place of Gumbels: keyed, repeatable, and no softmax."""
    from harness.numerics.keyed_random import normals

    monkeypatch.setattr(gumbel, "gumbels", lambda rows, columns: normals(rows, columns).double())
    assert any("replay: item" in words for words in problems(sampled()))
