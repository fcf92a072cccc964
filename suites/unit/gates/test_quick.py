"""A part of a baseline is judged where it is declared, and only the part that the baseline's own order gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness import GatePolicy, accept_baseline, gate
from harness.baselines.book import load_named
from harness.exceptions import HarnessError, NotComparableError
from harness.library.for_gate import GateEvaluation, baseline_spec, changed, quick_check
from harness.runs.item_order import choice_order

pytestmark = pytest.mark.unit

WIDE = GatePolicy(margin=0.2, bootstrap_resamples=0)


def _names(count: int) -> list[str]:
    return [f"i{index}" for index in range(count)]


ITEMS = next(count for count in range(41, 400) if choice_order(_names(count), 0)[-1] == f"i{count - 1}")
"""Of so many items the last one in the order is the last by name too, so that a run of the first ones can be
written."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_run: Any) -> Path:
    """Two seeds of everything, right."""
    path = tmp_path_factory.mktemp("quick")
    run = make_run(path / "whole", {0.0: [[1]] * ITEMS, 0.05: [[1, 1]] * ITEMS})
    accept_baseline(run, path / "baselines", "mine", "for a test", False)
    make_run(path / "part", {0.0: [[1]] * (ITEMS - 1), 0.05: [[1]] * (ITEMS - 1)})
    make_run(path / "picked", {0.0: [[1]] * 30, 0.05: [[1]] * 30})
    return path


def _judged(folder: Path, run: str, **declared: Any) -> Any:
    how = GateEvaluation(**declared)
    return gate(folder / run, "mine", WIDE, how, baselines_dir=folder / "baselines")


def test_undeclared_a_part_is_no_evidence(folder: Path) -> None:
    found = _judged(folder, "part")
    assert found.verdict == "INVALID" and "noise seeds differ" in str(found.to_json()["reasons"])
    assert "quick_check" not in found.to_json()


def test_declared_it_is_judged_and_everything_kept_says_so(folder: Path, cli: Any, tmp_path: Path) -> None:
    shutil.copytree(folder / "part", tmp_path / "part", ignore=shutil.ignore_patterns("verdicts"))
    asked = ("--baseline", "mine", "--baselines-dir", folder / "baselines", "--margin", "0.2")
    said = cli("gate", tmp_path / "part", *asked, "--items", ITEMS - 1, "--noise-seeds", 1)
    words = f"quick check, declared: the first {ITEMS - 1} of {ITEMS} items"
    assert said.code == 0 and words in " ".join(said.out.split())
    assert words in " ".join((tmp_path / "part" / "report.md").read_text().split())
    report = json.loads((tmp_path / "part" / "report.json").read_text())
    assert words in report["notes"][0] and report["gate"]["quick_check"]["noise_seeds"] == 1
    (verdict,) = (tmp_path / "part" / "verdicts").glob("*.json")
    assert json.loads(verdict.read_text())["quick_check"]["items_of"] == ITEMS
    (attempt,) = (tmp_path / "part" / "verdicts" / "attempts.jsonl").read_text().splitlines()
    assert "QuickCheck(items=" in json.loads(attempt)["policy"]
    assert cli("gate", tmp_path / "part", *asked).code == 4


@pytest.mark.parametrize(("run", "items", "seeds"), [("picked", 30, 1), ("whole", 30, 1), ("part", ITEMS - 1, None)])
def test_other_items_or_seeds_than_declared_are_no_evidence(folder: Path, run: str, items: int, seeds: Any) -> None:
    with pytest.raises(NotComparableError) as caught:
        _judged(folder, run, items=items, noise_seeds=seeds)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("declared", [{"items": ITEMS + 1}, {"items": 0}, {"noise_seeds": 3}, {"noise_seeds": -1}])
def test_more_than_the_baseline_has_is_refused(folder: Path, declared: Any) -> None:
    with pytest.raises(HarnessError, match="baseline mine has") as caught:
        _judged(folder, "part", **declared)
    assert caught.value.exit_code == 2


def test_the_whole_baseline_is_no_quick_check(folder: Path) -> None:
    assert "quick_check" not in _judged(folder, "whole", items=ITEMS, noise_seeds=2).to_json()


def test_a_checkpoint_is_asked_the_same_items(folder: Path) -> None:
    held = load_named(folder / "baselines", "mine")
    quick = quick_check(held, 7, 1)
    assert quick is not None
    spec = changed(baseline_spec(held), vars(GateEvaluation()), quick)
    assert (spec.items, spec.noise_seeds, spec.item_seed) == (7, 1, 0)
    assert quick.chosen(held.arm) == choice_order(_names(ITEMS), 0)[:7]
    assert {*quick.part_of(held.arm).outcomes[0.05]} == {*quick.chosen(held.arm)}
