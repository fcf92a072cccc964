"""Parts of a baseline file that do not follow from each other are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.baselines.sound import contradictions, level_sums
from harness.record import EXTERNAL, Arm
from harness.runs.loaded import load_run

pytestmark = pytest.mark.unit


@pytest.fixture
def arm(tmp_path: Path, make_run: Any) -> Arm:
    return load_run(make_run(tmp_path / "run", {0.0: [[1], [0]], 0.05: [[1, 0], [0, 0]]})).arm


def data_of(arm: Arm) -> dict[str, Any]:
    return {"sums": level_sums(arm.outcomes), "measurement_key": arm.key}


def test_sums_are_of_items_records_and_right_ones(arm: Arm) -> None:
    assert level_sums(arm.outcomes) == {
        "0": {"items": 2, "records": 2, "right": 1},
        "0.05": {"items": 2, "records": 4, "right": 1},
    }
    assert contradictions(data_of(arm), arm) == ()


def changed(arm: Arm, level: int, **changes: Any) -> Arm:
    entries = list(arm.certificate.levels)
    entries[level] = replace(entries[level], **changes)
    return replace(arm, certificate=replace(arm.certificate, levels=tuple(entries)))


CASES: dict[str, tuple[Callable[[Arm], Arm], str]] = {
    "sums": (lambda arm: replace(arm, outcomes={0.0: arm.outcomes[0.0]}), "its sums are not those of its items"),
    "sites": (lambda arm: changed(arm, 1, sites=1), "has 1 sites, its coverage 2"),
    "rows": (lambda arm: changed(arm, 1, counted_rows=1), "counts 1 token rows"),
    "audit": (lambda arm: changed(arm, 0, audited=0), "was not audited"),
    "clean": (lambda arm: changed(arm, 0, changed=3), "at level 0 changed 3 elements"),
    "noisy": (lambda arm: changed(arm, 1, changed=0), "at level 0.05 changed 0 elements"),
    "status": (
        lambda arm: replace(arm, certificate=replace(arm.certificate, status=EXTERNAL)),
        "an external baseline has no ledger",
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_a_contradiction_is_named(arm: Arm, name: str) -> None:
    spoil, words = CASES[name]
    assert any(words in found for found in contradictions(data_of(arm), spoil(arm)))
