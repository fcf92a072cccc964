"""Sessions without a model: noise on the function calls of one thread."""

import gc
import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from harness.exceptions import NoiseSpecError
from harness.noise import ledger, noisy
from harness.record import BACKWARD, FORWARD

pytestmark = pytest.mark.unit
LINEAR = "relative_gaussian(0.05) @ op:linear"


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Linear(8, 8)


@pytest.fixture
def x():
    return torch.randn(4, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)


def test_calls_of_one_operator_are_one_site_with_draws_of_their_own(linear, x):
    with noisy(None, f"{LINEAR} when:both") as noise:
        results = [linear(x) for _ in range(5)]
        counts = {count.label: count.calls for count in noise.counts()}
    assert counts == {":linear": 5}
    assert not any(torch.equal(results[0], other) for other in results[1:])
    with noisy(None, f"{LINEAR} when:both"):
        again = [linear(x) for _ in range(5)]
    assert all(map(torch.equal, results, again))


def test_calls_are_keyed_by_the_step(linear, x):
    found = []
    for before in (0, 3):
        with noisy(None, LINEAR) as noise:
            for _ in range(before):
                linear(x)
            with noise.step(7):
                found.append((linear(x), linear(x)))
    (first, second), (again, second_again) = found
    assert torch.equal(first, again)
    assert torch.equal(second, second_again)
    assert not torch.equal(first, second)


def test_a_graph_of_many_calls_keeps_its_frames_and_nothing_else_does(linear, x):
    calls = 400
    with noisy(None, f"{LINEAR} when:both") as noise:
        total = sum(linear(x) for _ in range(calls))
        total.sum().backward()
        counts = {count.label: count.calls for count in noise.counts()}
        del total
        gc.collect()
        (session,) = noise.sessions
        assert len(session._alive) + len(session._frames) == 0
        assert len(session._sites) == 1
    assert counts == {":linear": calls, ":linear backward:input": calls, ":linear backward:weight": calls}


def test_a_long_run_keeps_one_sum_per_operator(x, monkeypatch):
    """Calls are folded together in batches that begin anywhere in a step."""
    monkeypatch.setattr(ledger, "_MOST_PENDING", 65)
    w, steps = torch.randn(8, 8), 200
    with noisy(None, "relative_gaussian(0.05) @ op:linear,silu") as noise, torch.no_grad():
        for _ in range(steps):
            F.silu(F.linear(x, w))
        (session,) = noise.sessions
        session.ledger.flush()
        assert len(session.ledger._counts) <= 2  # two operators, in either order
        counts = {count.site: count for count in noise.counts()}
    assert {site: count.calls for site, count in counts.items()} == {":linear": steps, ":silu": steps}
    for count in counts.values():
        assert count.elements == count.nonzero == steps * x.numel()
        assert count.changed > 0.99 * count.elements
        assert count.relative_rms == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("run", [lambda loss: loss.backward(), torch.autograd.backward], ids=["method", "function"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_without_a_model_is_refused(linear, x, reentrant, run):
    """The recomputation would be clean, and nobody would notice."""
    with noisy(None, LINEAR, checked=False), pytest.raises(NoiseSpecError, match="checkpointed computation"):
        run(checkpoint(lambda x: linear(x).relu(), x, use_reentrant=reentrant).sum())


def test_no_noise_on_gradients_written_by_hand(x):
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

        @staticmethod
        def backward(ctx, gradient):
            return F.linear(gradient, 2 * torch.eye(8))

    with noisy(None, f"{LINEAR} when:both", checked=False) as noise:
        Double.apply(x).sum().backward()
        assert noise.counts() == ()
    assert torch.equal(x.grad, torch.full_like(x, 2))


def test_noise_is_taken_off_below_a_mode_that_is_still_open(linear, x):
    clean = linear(x)
    noise = noisy(None, LINEAR, checked=False)
    noise.__enter__()
    with torch.device("cpu"):
        noise.__exit__(None, None, None)
        assert len(torch.overrides._get_current_function_mode_stack()) == 1
        assert torch.equal(linear(x), clean)
    assert torch.overrides._get_current_function_mode_stack() == []


def test_leaving_in_another_thread_is_refused(linear, x):
    noise, said = noisy(None, LINEAR, checked=False), []

    def leave():
        try:
            noise.__exit__(None, None, None)
        except NoiseSpecError as error:
            said.append(str(error))

    noise.__enter__()
    thread = threading.Thread(target=leave)
    thread.start()
    thread.join()
    torch.overrides._pop_mode()
    assert len(said) == 1 and "one thread" in said[0]


def test_a_model_is_perturbed_while_it_runs_and_not_around_it(toy):
    """The calls of others have no place in the model's sites, and are left alone."""
    model, ids = toy("eager"), torch.arange(6)[None]
    with noisy(model, "relative_gaussian(0.05) @ op:linear", way="functions") as noise, torch.no_grad():
        model(ids)
        assert torch.equal(F.linear(torch.eye(4), torch.eye(4)), torch.eye(4))
        model(ids)
        assert {count.calls for count in noise.counts()} == {2}
        assert len(noise.counts()) == 15


def test_directions_of_bare_calls(linear, x):
    with noisy(None, f"{LINEAR} when:both") as noise:
        linear(x).sum().backward()
        noise.require(direction=FORWARD, sites=1, calls=1)
        noise.require(direction=BACKWARD, sites=1, calls=2)
