"""Every way to lose, double or misplace the noise makes the run INVALID, and the words name it."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from harness.evaluate import run as run_module
from harness.exceptions import NoiseSpecError
from harness.gates import INVALID, PASS, GatePolicy, gate
from harness.noise import frames, kernel, noisy, session
from harness.noise.ledger import Ledger
from harness.noise.session import NoiseSession
from harness.noise.ways import modules
from harness.record import CERTIFIED, INVALID_EVIDENCE
from harness.spec.errors import RelativeGaussian

pytestmark = pytest.mark.contract
ANY_ANSWER = GatePolicy(margin=0.2, floor=0.0)
"""The runs here are too short for right answers, so that only the evidence can stand against a PASS."""


def problems(run):
    certificate = run.arm.certificate
    return [*certificate.problems, *(words for level in certificate.levels for words in level.problems)]


def test_an_honest_run_is_certified(evaluated):
    run = evaluated()
    assert run.arm.certificate.status == CERTIFIED
    assert problems(run) == []
    assert gate(run.arm, run.arm, ANY_ANSWER).verdict == PASS


def at_strength(monkeypatch, change):
    """A kernel that draws at another strength than it is asked for."""
    honest = kernel.Kernel.perturb

    def other(self, error, y, key, level, *rest):
        return honest(self, error, y, key, change(level), *rest)

    monkeypatch.setattr(kernel.Kernel, "perturb", other)


def zero_draws(monkeypatch):
    at_strength(monkeypatch, lambda level: 0.0)


def missing_site(monkeypatch):
    honest = modules._after

    def skip(site, session):
        return (lambda *_: None) if site.name.endswith("layers.1.mlp.up_proj") else honest(site, session)

    monkeypatch.setattr(modules, "_after", skip)


def scaled(monkeypatch, change):
    honest = NoiseSession.batch

    @contextlib.contextmanager
    def other(self, items, seeds, scale, *rest):
        with honest(self, items, seeds, change(scale), *rest):
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
    missing_site: "layers.1.mlp.up_proj counted 0 rows",
    halved: "0.500 of the requested 0.05",
    doubled: "of the requested 0.05",
    left_on: "noise in the clean arm",
    harmless_control: "positive control: at scale 1 only",
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
    judged = gate(run.arm, run.arm, ANY_ANSWER)
    assert judged.verdict == INVALID
    assert judged.exit_code == 4


def dropped_frames(monkeypatch):
    """The rows of a forward are keyed without their seeds: all seeds are one, and look like agreement."""
    honest = session.row_bases
    monkeypatch.setattr(session, "row_bases", lambda items, seeds, key: honest(items, [0] * len(seeds), key))


def dropped_items(monkeypatch):
    honest = session.row_bases
    monkeypatch.setattr(session, "row_bases", lambda items, seeds, key: honest(["same"] * len(items), seeds, key))


def dropped_positions(monkeypatch):
    honest = frames.counter_keys
    monkeypatch.setattr(frames, "counter_keys", lambda key, counters: honest(key, 0 * counters))


@pytest.mark.parametrize(
    ("sabotage", "sites"),
    [(dropped_frames, 14), (dropped_items, 2), (dropped_positions, 2)],  # after q, k and v the products differ
)
def test_noise_that_repeats_is_invalid(evaluated_as, monkeypatch, sabotage, sites):
    """Counts and strength are right; only rows with the same product show that their draws are one draw."""
    assert problems(evaluated_as("relative_gaussian @ op:linear", 0.1, noise_seeds=2)) == []
    sabotage(monkeypatch)
    run = evaluated_as("relative_gaussian @ op:linear", 0.1, noise_seeds=2)
    (problem,) = (words for words in problems(run) if words.startswith("audit: prefill: ") and "another row" in words)
    assert problem.startswith("audit: prefill: model.layers.0.self_attn.q_proj gave ")
    assert problem.endswith(f"rows the noise of another row, and {sites} more sites")
    (drawn,) = (words for words in problems(run) if words.startswith("audit: decode: ") and "their keys" in words)
    assert "elements that the draws of their keys do not give" in drawn
    assert run.arm.certificate.status == INVALID_EVIDENCE


def test_rows_of_a_shared_chip_may_repeat(evaluated_as):
    run = evaluated_as("relative_gaussian @ op:linear key:shared", 0.1, noise_seeds=2)
    assert problems(run) == []


OTHER_MODELS = {
    ("deadzone", 0.01): "elements that deadzone(0.01) does not give",
    ("truncation", 0.02): "elements that truncation(0.02) does not give",
    ("absolute_gaussian", 0.1): "has error 0.05, 0.1 was asked for",
    ("bit_flip(bit=20)", 0.01): "of its elements, 0.01 was asked for",
    ("spike", 0.01): "of its elements, 0.01 was asked for",
}


@pytest.mark.parametrize(("error", "level"), OTHER_MODELS)
def test_half_the_strength_of_another_error_model_is_invalid_and_named(evaluated_as, monkeypatch, error, level):
    """The error relative to a result depends on the data; what is asked for is measured in the model's own terms."""
    assert problems(evaluated_as(f"{error} @ op:linear", level)) == []
    at_strength(monkeypatch, lambda strength: strength / 2)
    found = problems(evaluated_as(f"{error} @ op:linear", level))
    assert any(OTHER_MODELS[error, level] in problem for problem in found), found


def test_another_error_model_than_the_one_asked_for_is_invalid(evaluated_as, monkeypatch):
    honest = NoiseSession.batch
    other = RelativeGaussian()
    monkeypatch.setattr(
        NoiseSession,
        "batch",
        lambda self, items, seeds, scale, error, *rest: honest(self, items, seeds, scale, other, *rest),
    )
    found = problems(evaluated_as("deadzone @ op:linear", 0.01))
    assert any("elements that deadzone(0.01) does not give" in problem for problem in found), found


def test_hooks_that_stay_after_their_session_are_found(small, evaluated, monkeypatch):
    """All of them: the model is noisy for whoever comes next, which the clean arm shows."""
    handles, model = [], small.checkpoint.model
    monkeypatch.setattr(NoiseSession, "hook", staticmethod(lambda stack, handle: handles.append(handle)))
    with noisy(model, "relative_gaussian(0.01) @ op:linear"), torch.no_grad():
        model(input_ids=torch.tensor([[1, 2, 3]]))
    monkeypatch.undo()
    try:
        found = problems(evaluated())
    finally:
        for handle in handles:
            handle.remove()
    assert any("gave" in problem and "differ from its own product" in problem for problem in found), found


def test_one_hook_that_stays_is_refused_in_the_next_forward(small, evaluated, monkeypatch):
    """One site's alone does not know whose rows it is given, and says so."""
    honest, handles = NoiseSession.hook, []

    def forgetful(stack, handle):
        if len(handles) < 3:
            handles.append(handle)
        else:
            honest(stack, handle)

    model = small.checkpoint.model
    monkeypatch.setattr(NoiseSession, "hook", staticmethod(forgetful))
    with noisy(model, "relative_gaussian(0.01) @ op:linear"), torch.no_grad():
        model(input_ids=torch.tensor([[1, 2, 3]]))
    monkeypatch.undo()
    try:
        handles[0].remove()  # those of the model itself
        handles[1].remove()
        with pytest.raises(NoiseSpecError, match="outside the model's forward"):
            evaluated()
    finally:
        handles[2].remove()


def test_an_unaudited_level_is_invalid(evaluated, monkeypatch):
    monkeypatch.setattr(run_module.Chooser, "choose", lambda *given: None)
    assert any("was not audited" in problem for problem in problems(evaluated()))
