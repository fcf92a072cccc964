"""A number format of another distribution: written in a specification, evaluated, and its sabotage found."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import HarnessError
from harness.noise import kernel
from harness.numerics import fake_quantize
from harness.record import CERTIFIED, INVALID_EVIDENCE
from harness.runs.loaded import load_run
from harness.spec import EvalSpec, parse_quantization
from harness.spec.formats import FORMAT_GROUP
from suites.distributions import write_distribution

pytestmark = pytest.mark.contract
CODE = """
from harness.spec.formats import ELEMENTS, POWER_OF_TWO, Format

HALF = Format("mxfp4_b16", ELEMENTS["fp4_e2m1"], POWER_OF_TWO, 16, note="MXFP4 in blocks of 16")
"""
POINTS = {"mxfp4_b16": "narrow:HALF", "misnamed": "narrow:HALF", "no_format": "narrow:ELEMENTS"}


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The distribution on the path."""
    monkeypatch.delitem(sys.modules, "narrow", raising=False)
    folder = write_distribution(tmp_path / "site", "narrow", {FORMAT_GROUP: POINTS}, narrow=CODE)
    monkeypatch.syspath_prepend(str(folder))


def spec() -> EvalSpec:
    """Four items whose weights are in the format."""
    more = {"levels": (0.0,), "noise_seeds": 1, "max_new_tokens": 6, "positive_control": False}
    return EvalSpec("arith", None, 4, quantization=parse_quantization("weights=mxfp4_b16"), **more)


def test_its_blocks_are_its_own() -> None:
    x = torch.cat([torch.full((16,), 6.0), torch.full((16,), 0.01)])
    assert torch.equal(fake_quantize(x, "mxfp4")[16:], torch.zeros(16))  # the first half's scale is theirs too
    assert torch.allclose(fake_quantize(x, "mxfp4_b16")[16:], x[16:], rtol=0.3)


def test_it_is_evaluated_with_evidence_and_its_distribution_is_on_record(two_layers: Path, tmp_path: Path) -> None:
    evaluate(prepare(two_layers, spec(), "cpu"), tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.arm.certificate.status == CERTIFIED
    assert "mxfp4_b16" in run.arm.key["quantization"]
    assert "1.0" in [value for name, value in run.manifest.code.items() if "mxfp4" in name]


def test_another_format_in_its_place_is_found(
    two_layers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = kernel.quantized
    monkeypatch.setattr(kernel, "quantized", lambda x, recipe, *rest: honest(x, type(recipe).of("mxfp4"), *rest))
    evaluate(prepare(two_layers, spec(), "cpu"), tmp_path / "run")
    assert load_run(tmp_path / "run").arm.certificate.status == INVALID_EVIDENCE


def test_what_is_no_format_is_refused_in_one_line() -> None:
    for name, why in (
        ("misnamed", "it calls itself 'mxfp4_b16'"),
        ("no_format", "it is no harness.spec.formats.Format"),
    ):
        with pytest.raises(HarnessError, match=rf"number format '{name}' of narrow 1\.0; it cannot be used \({why}"):
            parse_quantization(f"weights={name}")
    with pytest.raises(HarnessError, match="mxfp4_b16"):
        parse_quantization("weights=mxfp4_b61")
