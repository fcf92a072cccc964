"""Evaluations under every kind of noise are certified: counts, audit and control, from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.engines import transformers
from harness.engines.protocol import Batch
from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.record import CERTIFIED
from harness.runs.loaded import load_run
from harness.spec import EvalSpec, parse_noise
from harness.spec.errors import RelativeGaussian

pytestmark = pytest.mark.contract
OTHER_NOISE = [
    ("deadzone @ op:linear", 0.01),
    ("relative_gaussian @ op:linear,rms_norm,silu", 0.05),
    ("relative_gaussian @ profile:all-ops", 0.05),
    ("relative_gaussian @ scope:mlp", 0.05),
    ("relative_gaussian @ op:add,mul", 0.02),
    ("fake_quant @ op:linear", 1.0),
    ("bit_flip(bit=30) @ op:linear", 0.001),
]


@pytest.mark.parametrize(("noise", "level"), OTHER_NOISE)
def test_other_noise_is_certified_too(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: str, level: float
) -> None:
    """From end to end on the shipped checkpoint; the control is relative Gaussian noise at scale 1 on its places."""
    batches: list[Batch] = []
    honest = transformers.run_batch
    monkeypatch.setattr(transformers, "run_batch", lambda *given: batches.append(given[2]) or honest(*given))
    spec = EvalSpec(*("arith", None, 4), levels=(0.0, level), noise_seeds=2, noise=parse_noise(noise), max_new_tokens=8)
    prepared = prepare(shipped, spec)
    evaluate(prepared, tmp_path / "run", 8)
    certificate = load_run(tmp_path / "run").arm.certificate
    assert [entry.problems for entry in certificate.levels] == [(), ()]
    assert certificate.status == CERTIFIED
    assert [batch.error for batch in batches] == [None, RelativeGaussian(), None, None]  # clean answers come twice
    assert certificate.control is not None
    assert (certificate.control.scale, certificate.control.outputs_changed) == (1.0, 4)
    clean, noisy = certificate.levels
    assert (clean.changed, noisy.changed > 0) == (0, True)
    assert clean.sites == noisy.sites == len(prepared.plan.sites)
    assert noisy.counted_rows == noisy.expected_rows and noisy.audited > 0
