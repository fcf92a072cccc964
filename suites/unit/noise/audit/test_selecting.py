"""Which rows an auditor takes to be selected, from steps alone."""

from __future__ import annotations

import pytest
import torch

from harness.noise.audit.selecting import Selected
from harness.spec.tokens import spans_of

pytestmark = pytest.mark.unit
CPU = torch.device("cpu")


def test_rows_are_counted_back_from_the_last_one_of_each_sequence() -> None:
    selected = Selected(spans_of(["first", "decode:2-"]), ["up"])
    selected.begin([0, 2])
    found = selected.at("up", 2, 4, CPU)
    assert found is not None
    assert found.tolist() == [[False, False, False, True], [False, True, False, True]]
    assert selected.at("up", 2, 1, CPU).tolist() == [[True], [True]]  # type: ignore[union-attr]


def test_other_sites_and_other_batches_are_not_limited() -> None:
    selected = Selected(spans_of(["first"]), ["up"])
    selected.begin([0])
    assert selected.at("down", 1, 4, CPU) is None
    assert selected.at("up", 2, 4, CPU) is None
    assert Selected((), ["up"]).at("up", 0, 4, CPU) is None


def test_a_site_without_a_selected_row_need_show_nothing() -> None:
    selected = Selected(spans_of(["first"]), ["up"])
    assert not selected.shown("up")
    assert selected.shown("down") and Selected((), ()).shown("up")
    selected.book("up", 0, 3)
    assert not selected.shown("up") and selected.strays["up"] == 3
    selected.book("up", 1, 0)
    assert selected.shown("up")
