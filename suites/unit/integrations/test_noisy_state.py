"""The ancestor's interface over time: phases, backward passes, contexts, threads, and switching on by variables."""

import gc
import logging
import re
import threading

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from harness.exceptions import EvidenceError, NoiseSpecError
from harness.integrations.noisy_ops import PREFIX, enable_from_environment
from harness.integrations.noisy_state import NoisyOps
from harness.noise.phases import current_phase
from suites.unit.integrations.noisy_totals import IDS, PRODUCTS, differs, totals

pytestmark = pytest.mark.long
PHASES = ("rollout", "actor_forward", "actor_backward", "unknown")


def test_phases_are_counted_where_they_are_set(ops, x, w):
    ops.enable(0.05)
    ops.set_phase("rollout")
    F.linear(x, w)
    ops.set_phase("actor_forward")
    y = F.linear(x, w)
    ops.set_phase("actor_backward")
    y.sum().backward()
    counts = ops.get_injection_stats()["counts"]
    assert set(counts) == {f"{phase}_{way}" for phase in PHASES for way in ("forward", "backward")}
    assert {name: calls for name, calls in counts.items() if calls} == {
        "rollout_forward": 1,
        "actor_forward_forward": 1,
        "actor_backward_backward": 2,
    }
    assert current_phase() == "training"


@pytest.mark.parametrize("change", [NoisyOps.disable, lambda ops: ops.set_selective_operators(["linear"])])
def test_a_backward_pass_belongs_to_the_sessions_of_its_forward(ops, x, w, change):
    ops.enable(0.05)
    y = F.linear(x, w)
    change(ops)
    with pytest.raises(EvidenceError, match="session is closed"):
        y.sum().backward()


def test_without_backward_noise_a_backward_pass_may_come_later(ops, x, w):
    F.linear(x, w).sum().backward()
    exact, x.grad = x.grad, None
    ops.set_noise_phases(forward=True, backward=False)
    with ops.context(0.05):
        y = F.linear(x, w)
    y.sum().backward()
    assert torch.equal(x.grad, exact)


def test_a_context_ends_in_what_was_on_before(ops, x, w):
    ops.enable(0.05)
    with ops.context(0.2):
        assert ops.settings.scale == 0.2
    assert ops.settings.scale == 0.05 and ops.get_injection_stats()["enabled"]
    ops.disable()
    with pytest.raises(ZeroDivisionError), ops.context(0.2):
        1 / 0  # noqa: B018
    assert not ops.get_injection_stats()["enabled"]
    assert torch.overrides._get_current_function_mode_stack() == []


def test_noise_of_bare_calls_is_that_of_one_thread(ops, x, w):
    clean, found, said = F.linear(x, w), [], []

    def elsewhere():
        found.append(F.linear(x, w))
        try:
            ops.disable()
        except NoiseSpecError as error:
            said.append(str(error))

    ops.enable(0.05)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert torch.equal(found[0], clean)
    assert "another thread" in said[0]
    assert not torch.equal(F.linear(x, w), clean)
    ops.disable()


def test_a_registered_model_is_perturbed_in_every_thread(ops, toy):
    model = toy("eager")
    ops.register_layer_hooks(model)
    ops.enable(0.05)
    thread = threading.Thread(target=lambda: model(IDS))
    thread.start()
    thread.join()
    assert totals(ops) == (PRODUCTS + 4, 0)


def test_checkpointing_without_a_model_is_refused(ops, x, w):
    ops.enable(0.05)
    with pytest.raises(NoiseSpecError, match="checkpointed computation"):
        checkpoint(lambda x: F.linear(x, w), x, use_reentrant=False)


def test_nothing_changed_is_said(ops, x, w, caplog):
    """The default scale is below the resolution of bfloat16."""
    with caplog.at_level(logging.WARNING), ops.context():
        F.linear(x.bfloat16(), w.bfloat16())
    assert "NOTHING was changed: 320 elements were seen" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING), ops.context():
        F.linear(x, w)
    assert caplog.text == ""
    assert "NOTHING was injected" in NoisyOps().summary()


def test_models_are_held_weakly(ops, toy, x, w):
    model = toy("eager")
    ops.register_layer_hooks(model)
    del model
    gc.collect()
    assert differs(ops, lambda: F.linear(x, w).detach())


def variables(**given):
    return {f"{PREFIX}{name}": text for name, text in given.items()}


def test_no_variables_mean_nothing(ops):
    assert not enable_from_environment({}, ops)
    assert not enable_from_environment(variables(ENABLED="0", SCALE="nonsense"), ops)
    assert not ops.get_injection_stats()["enabled"]


def test_variables(ops):
    given = variables(ENABLED="true", SCALE="0.2", TYPE="absolute_gaussian", ALL_OPS="1", FORWARD_ONLY="yes")
    assert enable_from_environment(given, ops)
    settings = ops.settings
    assert (settings.scale, settings.error_type, settings.all_ops) == (0.2, "absolute_gaussian", True)
    assert (settings.forward, settings.backward, settings.training_only) == (True, False, False)
    ops.disable()
    assert enable_from_environment(variables(ENABLED="1", SCALE="0.1", BACKWARD_ONLY="1"), ops)
    assert ops.get_noise_phases() == {"forward_enabled": False, "backward_enabled": True}


def test_training_only_gates_by_the_phase(ops, x, w):
    clean = x @ w
    assert enable_from_environment(variables(ENABLED="1", SCALE="0.1", TRAINING_ONLY="1", FORWARD_ONLY="1"), ops)
    with pytest.raises(NoiseSpecError, match="no phase is declared"):
        F.linear(x, w)
    for phase, is_on in (("rollout", False), ("actor_forward", True), ("rollout", False), ("actor_backward", True)):
        ops.set_phase(phase)
        assert torch.equal(x @ w, clean) is not is_on
    assert totals(ops) == (2, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ENABLED": "1"}, "SCALE 'unset'"),
        ({"ENABLED": "1", "SCALE": "much"}, "it is a number"),
        ({"ENABLED": "1", "SCALE": "-1"}, "scale -1"),
        ({"ENABLED": "maybe", "SCALE": "0.1"}, "write 1 or 0"),
        ({"ENABLED": "1", "SCALE": "0.1", "TYPE": "gaussian"}, "did you mean"),
        ({"ENABLED": "1", "SCALE": "0.1", "SKIP_VLLM": "1"}, "TRAINING_ONLY"),
        ({"ENABLED": "1", "SCALE": "0.1", "FORWARD_ONLY": "1", "BACKWARD_ONLY": "1"}, "exclude each other"),
        ({"ENABLED": "1", "SCALLE": "0.1"}, "did you mean 'SCALE'"),
        ({"SCALE": "0.1"}, "ENABLED=1"),
    ],
)
def test_wrong_variables_are_refused_and_change_nothing(ops, given, message):
    before = ops.settings
    with pytest.raises(NoiseSpecError, match=re.escape(message)):
        enable_from_environment(variables(**given), ops)
    assert ops.settings == before
    assert not ops.get_injection_stats()["enabled"]
