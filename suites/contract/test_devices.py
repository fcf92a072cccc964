"""Parity of an accelerator with the CPU: same draws, same tokens. Collected everywhere, skipped without one."""

from __future__ import annotations

import pytest
import torch

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.noise.kernel import Kernel
from harness.numerics.keyed_random import DrawKey, Keys, derive_key, normals, stream_keys
from harness.runs.loaded import load_run
from harness.spec import EvalSpec, parse_noise
from harness.spec.errors import Deadzone, RelativeGaussian, Spike


def accelerator():
    return torch.accelerator.current_accelerator()


def keys(rows, columns, device):
    return DrawKey(
        stream_keys(derive_key("r"), rows, device).view(rows, 1),
        stream_keys(derive_key("c"), columns, device).view(1, columns),
    )


@pytest.mark.gpu
def test_draws_are_the_same_bits():
    on_cpu = normals(*keys(300, 500, torch.device("cpu")))
    assert torch.equal(normals(*keys(300, 500, accelerator())).cpu(), on_cpu)


@pytest.mark.gpu
@pytest.mark.parametrize("error", [RelativeGaussian(), Deadzone(), Spike()], ids=lambda error: error.name)
@pytest.mark.parametrize("compiled", [False, True])
def test_perturbed_values_and_counts_are_the_same(error, compiled):
    y = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    found = []
    for device in (torch.device("cpu"), accelerator()):
        real = torch.ones(64, 1, dtype=torch.bool, device=device)
        after, sums = Kernel(compiled).perturb(error, y.to(device), keys(64, 96, device), 0.05, real)
        found.append((after.cpu(), sums.cpu()))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-6)
    assert torch.equal(found[0][1][:, :3], found[1][1][:, :3])


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("noise", "level"),
    [
        ("relative_gaussian @ op:linear", 0.05),
        ("relative_gaussian @ profile:all-ops", 0.05),
        ("deadzone @ op:linear", 0.01),
    ],
)
def test_records_agree_with_the_cpu(shipped, tmp_path, noise, level):
    spec = EvalSpec("arith", items=32, levels=(0.0, level), noise_seeds=1, noise=parse_noise(noise))
    runs = []
    for device in ("cpu", str(accelerator())):
        evaluate(prepare(shipped, spec, device), tmp_path / device.replace(":", "-"))
        runs.append(load_run(tmp_path / device.replace(":", "-")))
    assert runs[1].arm.certificate.status == "certified"
    differing = sum(a.tokens != b.tokens for a, b in zip(runs[0].results, runs[1].results, strict=True))
    assert differing <= 1, "fp32 products differ in the last bits, which may flip a near tie"


def test_keys_have_two_halves_on_every_device():
    whole = torch.tensor([1 << 40, -1])
    assert Keys.of(whole).high.tolist() == [1 << 8, -1]
    assert Keys.of(whole).low.tolist() == [0, -1]


pytestmark = pytest.mark.contract
