"""Every way to lose, double or misplace the noise makes the run INVALID, and the words name it."""

from __future__ import annotations

import contextlib

import pytest
from torch import nn

from harness.evaluate import run as run_module
from harness.gates import INVALID, PASS, GatePolicy, gate
from harness.noise import kernel
from harness.noise.ledger import Ledger
from harness.noise.session import NoiseSession
from harness.record import CERTIFIED, INVALID_EVIDENCE

pytestmark = pytest.mark.contract


def problems(run):
    certificate = run.arm.certificate
    return [*certificate.problems, *(words for level in certificate.levels for words in level.problems)]


def test_an_honest_run_is_certified(evaluated):
    run = evaluated()
    assert run.arm.certificate.status == CERTIFIED
    assert problems(run) == []
    assert gate(run.arm, run.arm, GatePolicy(margin=0.2)).verdict == PASS


def at_strength(monkeypatch, change):
    """A kernel that draws at another strength than it is asked for."""
    honest = kernel.Kernel.perturb

    def other(self, error, y, key, level, *rest):
        return honest(self, error, y, key, change(level), *rest)

    monkeypatch.setattr(kernel.Kernel, "perturb", other)


def zero_draws(monkeypatch):
    at_strength(monkeypatch, lambda level: 0.0)


def missing_site(monkeypatch):
    honest = NoiseSession._linear_hook

    def skip(self, site):
        return (lambda *_: None) if site.name.endswith("layers.2.mlp.up_proj") else honest(self, site)

    monkeypatch.setattr(NoiseSession, "_linear_hook", skip)


def scaled(monkeypatch, change):
    honest = NoiseSession.batch

    @contextlib.contextmanager
    def other(self, items, seeds, scale):
        with honest(self, items, seeds, change(scale)):
            yield self

    monkeypatch.setattr(NoiseSession, "batch", other)


def halved(monkeypatch):
    scaled(monkeypatch, lambda scale: scale / 2 if scale < 1 else scale)


def doubled(monkeypatch):
    scaled(monkeypatch, lambda scale: scale * 2)


def left_on(monkeypatch):
    scaled(monkeypatch, lambda scale: scale or 0.01)


def harmless_control(monkeypatch):
    scaled(monkeypatch, lambda scale: scale if scale < 1 else 1e-4)


def counted_twice(monkeypatch):
    honest = Ledger.note

    def twice(self, *given):
        honest(self, *given)
        honest(self, *given)

    monkeypatch.setattr(Ledger, "note", twice)


def foreign_noise(monkeypatch):
    """Somebody else's patch, active in every arm."""
    honest = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: honest(self, x) * 1.001)


def off_after_the_first_batch(monkeypatch):
    """A counter that goes on while the noise does not: the ledger measures, so the level is ineffective."""
    calls = []

    def fading(level):
        calls.append(1)
        return level * (0.5 if len(calls) > 100 else 1.0)

    at_strength(monkeypatch, fading)


SABOTAGE = {
    zero_draws: "ineffective injection",
    missing_site: "layers.2.mlp.up_proj counted 0 rows",
    halved: "0.500 of the requested 0.05",
    doubled: "of the requested 0.05",
    left_on: "noise in the clean arm",
    harmless_control: "positive control: scale 1 left",
    counted_twice: "wrong injection count",
    foreign_noise: "differ from its own product",
    off_after_the_first_batch: "ineffective injection",
}


@pytest.mark.parametrize("sabotage", SABOTAGE, ids=lambda sabotage: sabotage.__name__)
def test_sabotage_is_invalid_and_named(evaluated, monkeypatch, sabotage):
    sabotage(monkeypatch)
    run = evaluated()
    assert run.arm.certificate.status == INVALID_EVIDENCE
    assert any(SABOTAGE[sabotage] in problem for problem in problems(run)), problems(run)
    monkeypatch.undo()
    judged = gate(run.arm, run.arm, GatePolicy(margin=0.2))
    assert judged.verdict == INVALID
    assert judged.exit_code == 4


def test_an_unaudited_level_is_invalid(evaluated, monkeypatch):
    honest = run_module.batches

    def unaudited(*given):
        for batch in honest(*given):
            yield run_module.Batch(batch.level, batch.prompts, audited=False)

    monkeypatch.setattr(run_module, "batches", unaudited)
    assert any("was not audited" in problem for problem in problems(evaluated()))
