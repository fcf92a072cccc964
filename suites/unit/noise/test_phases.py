"""Directions and strength of the noise, by the engine's own interface and by the ancestor's."""

import math

import pytest
import torch
import torch.nn.functional as F

from harness.integrations.noisy_state import NoisyOps
from harness.noise import noisy
from harness.record import BACKWARD, FORWARD

pytestmark = pytest.mark.long
SCALE = 0.05
IDS = torch.arange(12).view(2, 6)
SIGMAS = 4.5
OPERATORS = {
    "linear": lambda x, w: F.linear(x, w.mT),
    "matmul": lambda x, w: x @ w,
    "bmm": lambda x, w: torch.bmm(x.view(2, 200, 256), w.expand(2, 256, 256)),
    "silu": lambda x, w: F.silu(x),
    "gelu": lambda x, w: F.gelu(x),
    "layer_norm": lambda x, w: F.layer_norm(x, (256,)),
}


class Engine:
    """Noise by :func:`harness.noise.noisy`."""

    def counted(self, model, run, directions):
        with noisy(model, f"relative_gaussian({SCALE}) @ op:linear when:{directions}") as noise:
            run(model)
            counts = noise.counts()
        return {way: sum(count.calls for count in counts if count.direction == way) for way in (FORWARD, BACKWARD)}

    def on(self, op, directions):
        return noisy(None, f"relative_gaussian({SCALE}) @ op:{op} when:{directions}")

    def persistence(self, model, run):
        """Calls (forward, backward) before, inside and after a pause."""
        with noisy(model, f"relative_gaussian({SCALE}) @ op:linear when:backward", checked=False) as noise:
            found = [self._run(noise, model, run)]
            with noise.sessions[0].paused():
                found.append(self._run(noise, model, run))
            found.append(self._run(noise, model, run))
        return found

    @staticmethod
    def _run(noise, model, run):
        run(model)
        counts = noise.sessions[0].ledger.drain(SCALE).values()
        return tuple(sum(count.calls for count in counts if count.direction == way) for way in (FORWARD, BACKWARD))


class Adapter:
    """Noise by the ancestor's interface."""

    def __init__(self):
        self.ops = NoisyOps()

    def counted(self, model, run, directions):
        self.ops.register_layer_hooks(model)
        self.ops.set_noise_phases(forward=directions == "forward", backward=directions == "backward")
        self.ops.set_selective_operators(["linear"])
        self.ops.enable(SCALE)
        run(model)
        counts = self.ops.disable()
        return {way: counts[f"unknown_{way}"] for way in (FORWARD, BACKWARD)}

    def on(self, op, directions):
        self.ops.set_noise_phases(forward=directions == "forward", backward=directions == "backward")
        self.ops.set_selective_operators([op])
        return self.ops.context(SCALE, all_ops_mode=True)

    def persistence(self, model, run):
        """Calls (forward, backward) while enabled, disabled, and enabled again."""
        self.ops.register_layer_hooks(model)
        self.ops.set_noise_phases(forward=False, backward=True)
        self.ops.set_selective_operators(["linear"])
        found = []
        for enabled in (True, False, True):
            if enabled:
                self.ops.enable(SCALE)
            run(model)
            counts = self.ops.get_injection_stats()
            found.append((counts["total_forward"], counts["total_backward"]))
            if enabled:
                self.ops.disable()
                self.ops.reset_injection_stats()
            assert self.ops.get_noise_phases() == {"forward_enabled": False, "backward_enabled": True}
        return found


@pytest.fixture(params=[Engine, Adapter])
def api(request):
    return request.param()


def train(model):
    model.zero_grad()
    model(input_ids=IDS, labels=IDS).loss.backward()


def once(op, dtype=torch.float32, gradients=True):
    """(result, gradients of the operands) of one call; the gradient of the result is 1 everywhere."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(400, 256, generator=generator).to(dtype).requires_grad_(gradients)
    w = torch.randn(256, 256, generator=generator).to(dtype).requires_grad_(gradients)
    y = OPERATORS[op](x, w)
    if gradients:
        y.sum().backward()
    return y.detach(), [t.grad for t in (x, w) if t.grad is not None]


def relative_rms(noisy_values, clean_values):
    """(RMS of the relative error over values that are not 0, their number)."""
    exact = clean_values.double()
    kept = exact != 0
    ratio = ((noisy_values.double() - exact) / exact)[kept]
    return ratio.square().mean().sqrt().item(), int(kept.sum())


def test_forward_only(api, toy):
    counts = api.counted(toy("eager"), train, "forward")
    assert counts == {FORWARD: 2 * 7 + 1, BACKWARD: 0}
    clean, exact = once("linear")
    with api.on("linear", "forward"):
        y, gradients = once("linear")
    assert not torch.equal(y, clean)
    assert all(map(torch.equal, gradients, exact))


def test_backward_only(api, toy):
    counts = api.counted(toy("eager"), train, "backward")
    # every linear has the gradients of its input and of its weight
    assert counts == {FORWARD: 0, BACKWARD: 2 * (2 * 7 + 1)}
    clean, exact = once("linear")
    with api.on("linear", "backward"):
        y, gradients = once("linear")
    assert torch.equal(y, clean)
    assert not any(map(torch.equal, gradients, exact))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("op", OPERATORS)
def test_noise_magnitude(api, op, dtype):
    """The RMS of n Gaussian draws has the relative standard error 1 / sqrt(2 n)."""
    clean, _ = once(op, dtype, gradients=False)
    with api.on(op, "forward"):
        y, _ = once(op, dtype, gradients=False)
    measured, n = relative_rms(y, clean)
    assert n >= 100_000
    assert abs(measured / SCALE - 1) < SIGMAS / math.sqrt(2 * n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("op", ["linear", "silu"])
def test_noise_magnitude_of_gradients(api, op, dtype):
    _, clean = once(op, dtype)
    with api.on(op, "backward"):
        _, gradients = once(op, dtype)
    measured, n = relative_rms(gradients[0], clean[0])
    assert n >= 100_000
    assert abs(measured / SCALE - 1) < SIGMAS / math.sqrt(2 * n)


def test_phase_persistence(api, toy):
    forward_backward = (0, 2 * (2 * 7 + 1))
    assert api.persistence(toy("eager"), train) == [forward_backward, (0, 0), forward_backward]
