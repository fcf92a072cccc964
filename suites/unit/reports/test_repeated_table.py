"""The table of sampled answers, in Markdown, and none where nothing was sampled."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.gates import GatePolicy, gate
from harness.reports.gate_page import gate_page
from harness.reports.render.markdown import markdown
from harness.reports.repeated_table import repeated_tables
from harness.spec.sampling import GREEDY, Sampling
from harness.testing.arms import make_arm

pytestmark = pytest.mark.unit


def page(decoding: str) -> str:
    arm = make_arm({0.0: [[1, 1], [1, 0]] * 40, 0.05: [[1, 0], [1, 0]] * 40})
    arm = replace(arm, key={**arm.key, "decoding": decoding})
    result = gate(arm, arm, GatePolicy(margin=0.2))
    return markdown(gate_page(result.to_json() | {"attempts": ""}))


def test_each_level_measure_and_k_has_a_row() -> None:
    text = page(str(Sampling(1.0))).replace("\u2060", "")  # what keeps an @ from naming somebody
    rows = [line for line in text.splitlines() if "pass@k |" in line or "pass^k |" in line]
    assert len(rows) == 8
    assert "| 5 % | pass@k | 2 | 100.0 [" in text
    assert "| 5 % | pass^k | 2 | 0.0 [" in text
    assert "baseline %" in text and "they describe and decide nothing" in text


def test_greedy_answers_have_none() -> None:
    assert "pass@k" not in page(GREEDY)
    assert list(repeated_tables([{"level": 0.0}], "clean", 0.05)) == []
