"""What a gate on texts looks like: a table of its own, alone and beside tasks with right answers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.gates import GatePolicy, gate
from harness.gates.tasks import gate_tasks
from harness.reports.gate_page import gate_page
from harness.reports.nats_tables import NATS_HEADER, judges_texts, nats_rows
from harness.reports.render.markdown import markdown
from harness.reports.render.terminal import text_lines
from harness.reports.tasks_page import gate_tasks_page
from harness.testing.arms import make_arm, make_text_arm

pytestmark = pytest.mark.unit
SIZES = [50] * 100
POLICY = GatePolicy(margin=0.1, nats_margin=0.05, bootstrap_resamples=0)


def texts(lost: float) -> Any:
    rows = [-50 * (3 + lost * (1 + 0.1 * (place % 3 - 1))) for place in range(100)]
    return make_text_arm({0.0: rows, 0.1: rows}, SIZES)


def test_a_row_says_what_was_lost() -> None:
    found = gate(texts(0.1), texts(0.0), POLICY).to_json()
    first = dict(zip(NATS_HEADER, nats_rows(found)[0], strict=True))
    assert judges_texts(found) and first["lost, nats / token"].startswith("+0.0999 [+0.09")
    assert (first["level"], first["verdict"], first["documents"], first["margin"]) == ("0 %", "FAIL", "100", "0.05")
    assert (first["nats / token"], first["baseline"]) == ("3.0999", "3.0000")
    assert first["perplexity times"] == f"{math.exp(0.0999):.4g}"


def test_a_level_without_numbers_has_dashes() -> None:
    broken = make_text_arm({0.0: [-150.0] * 99 + [math.nan]}, SIZES)
    found = gate(broken, make_text_arm({0.0: [-150.0] * 100}, SIZES), POLICY).to_json()
    assert nats_rows(found) == [("0 %", "INVALID", *["-"] * 6)]


def test_terminal_and_markdown_say_the_same() -> None:
    page = gate_page(gate(texts(0.1), texts(0.0), POLICY).to_json() | {"attempts": ""})
    wide = "\n".join(text_lines(page, 200))
    for shown in (wide, markdown(page)):
        assert "Log-likelihood lost" in shown and "+0.0999" in shown and "accuracy" not in shown
        assert "nats a token are lost" in shown


def test_tasks_of_both_kinds_have_a_table_each() -> None:
    right = make_arm({0.0: [1] * 90 + [0] * 10}, key={"task": "arith", "scorer": "strict"})
    gated = gate_tasks({"arith": (right, right), "perplexity": (texts(0.1), texts(0.0))}, POLICY)
    shown = markdown(gate_tasks_page(gated.to_json()))
    assert "Gate over all tasks" in shown and "Log-likelihood lost, over all tasks" in shown
    only = markdown(gate_tasks_page(gate_tasks({"perplexity": (texts(0.1), texts(0.0))}, POLICY).to_json()))
    assert "Gate over all tasks" not in only and "| perplexity |" in only
