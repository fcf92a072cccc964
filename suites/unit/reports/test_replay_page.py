"""The page of a replayed item: what noise did and what a quantizer did are counted apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.record import QUANTIZER
from harness.reports.page import Lines
from harness.reports.replay_page import replay_page
from harness.reports.run_report import ledger_report
from harness.testing.runs import make_counts, make_result

pytestmark = pytest.mark.unit


def test_noise_and_quantizers_are_counted_apart() -> None:
    """Four bits change far more than 5 % noise: one range over both would say neither."""
    noise = make_counts([make_result("i0", 0.05, 0, 1)], 0.05)
    quantized = [
        replace(count, op=f"{count.op}:weight", kind=QUANTIZER, relative=count.elements * 0.36**2) for count in noise
    ]
    generation = {
        **{"parts": ("a", "", ""), "tokens": (1,), "truncated": False, "answer": "5", "reason": "right", "score": 1.0},
        **{"as_stored": True, "stored": {"reason": "right", "score": 1.0}, "first_difference": None},
    }
    report = {
        **{"item": "i0", "run": "r", "noise": "n", "seed": 0, "level": 0.05, "question": "q", "reference": "5"},
        **{"generations": [generation, generation], "equal_tokens": None, "reproduced": True},
        **{"notes": [], "certificate": "certified", "ledger": ledger_report([*noise, *quantized])},
    }
    page = replay_page(report)
    said = [line for part in page.parts if isinstance(part, Lines) for line in part.lines]
    (counted,) = (line for line in said if line.startswith("counted at level 5 %: "))
    (changed,) = (line for line in said if line.startswith("quantized at level 5 %: "))
    assert counted.endswith(f"elements changed at {len(noise)} sites, dy/y RMS 0.0500 - 0.0500")
    assert changed.endswith(f"elements changed at {len(noise)} sites, dy/y RMS 0.3600 - 0.3600")
    assert len({entry["kind"] for entry in report["ledger"]}) == 2  # type: ignore[attr-defined, index]
