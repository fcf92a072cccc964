"""The reference page of the noise is what the tables in the code say."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.reports.noise_reference import noise_reference
from harness.spec.errors import ERROR_MODELS
from harness.spec.operators import OPS

pytestmark = pytest.mark.unit
PAGE = Path(__file__).parents[3] / "docs" / "noise-reference.md"


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text() == noise_reference() + "\n", (
        "write it anew: python -m harness.reports.noise_reference > docs/noise-reference.md"
    )


def test_every_error_model_and_operator_has_a_row_of_its_own() -> None:
    first = [line.split("|")[1].strip() for line in noise_reference().splitlines() if line.startswith("| `")]
    assert len(first) == len(set(first))
    assert {f"`{name}`" for name in (*ERROR_MODELS, *OPS)} <= set(first)


def test_bars_inside_a_cell_do_not_end_it() -> None:
    rows = [line for line in noise_reference().splitlines() if line.startswith("| `deadzone`")]
    assert [len(row.replace("\\|", "").split("|")) for row in rows] == [7]
