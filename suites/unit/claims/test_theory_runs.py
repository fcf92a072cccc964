"""The theory's arms from stored run folders: read, checked, refused where they prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.claims.theory import judge_theory
from harness.claims.theory_runs import parse_theory_arms, stored_arms
from harness.exceptions import NotComparableError
from harness.runs.store import Store

pytestmark = pytest.mark.long

ITEMS = 20


@pytest.fixture
def stored(tmp_path: Path, make_run: Any) -> Callable[..., Path]:
    """``stored("c0", (14, 13, 12))``: a certified run with so many of 20 items right at 0, 5 and 10 %."""

    def write(name: str, right: tuple[int, ...], weights: str = "", first: int = 0, **ledger: Any) -> Path:
        items = [f"i{index + first}" for index in range(ITEMS)]
        levels = [0.0, 0.05, 0.1][: len(right)]
        manifest = make_run.manifest(items, levels, 1, weights=weights or name)
        with Store.create(tmp_path / name, manifest) as store:
            store.add_questions({item: f"question {item}?" for item in items}, dict.fromkeys(items, "5"))
            for level, count in zip(levels, right, strict=True):
                rows = [make_run.make_result(item, level, 0, index < count) for index, item in enumerate(items)]
                store.add_batch(
                    rows, make_run.make_counts(rows, level, **(ledger if level else {})), make_run.audits(store, level)
                )
            store.set_control(make_run.controlled(store))
            make_run.replay(store)
        return tmp_path / name

    return write


def test_accuracies_are_those_of_the_records(stored: Callable[..., Path]) -> None:
    paths = parse_theory_arms([f"E8c={stored('c0', (14, 13, 12))},{stored('c1', (15, 14, 10))}"])
    (first, second) = stored_arms(paths)["E8c"]
    assert first.accuracy == {0.0: 0.7, 0.05: 0.65, 0.1: 0.6}
    assert second.accuracy == {0.0: 0.75, 0.05: 0.7, 0.1: 0.5}
    assert first.label.endswith("c0")


def test_stored_arms_decide_a_criterion(stored: Callable[..., Path]) -> None:
    runs = {"E8b": ((14, 8, 5), (14, 9, 5), (15, 9, 5)), "E8c": ((14, 16, 12), (14, 15, 12), (15, 16, 12))}
    texts = [
        f"{name}=" + ",".join(str(stored(f"{name}-{index}", right)) for index, right in enumerate(group))
        for name, group in runs.items()
    ]
    result = judge_theory(stored_arms(parse_theory_arms(texts)))
    assert result.criterion("better robustness").outcome == "confirmed"
    assert result.criterion("poor robustness").outcome == result.outcome == "undecided"


def test_a_run_without_the_highest_level_is_read(stored: Callable[..., Path]) -> None:
    ((run,),) = stored_arms({"E8a": (stored("a", (14, 13)),)}).values()
    assert run.accuracy == {0.0: 0.7, 0.05: 0.65}


def test_runs_that_may_not_be_compared_are_refused(stored: Callable[..., Path], refusal: Callable[..., str]) -> None:
    def refused(*paths: Path) -> str:
        return refusal(stored_arms, {"E8a": paths}, kind=NotComparableError, code=4)

    first = stored("a", (14, 13, 12))
    assert "evaluations of the same weights, not replicates" in refused(first, stored("b", (13, 13, 12), "a"))
    assert "they hold different items" in refused(first, stored("c", (13, 13, 12), first=1))
    assert "has no level 0.05" in refused(stored("d", (14,)))
    assert "no evidence, no verdict" in refused(stored("e", (14, 13, 12), changed=0, error=0.0, relative=0.0))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["E8a"], "a name and its run folders, NAME=RUN,RUN"),
        (["E8a="], "a name and its run folders, NAME=RUN,RUN"),
        (["E8x=r"], "the theory has E8a, E8b, E8c, E8d"),
        (["E8a=r", "E8a=s"], "the arm is given twice"),
        (["E8a=r", "E8b=r"], "it is in the arms twice"),
    ],
)
def test_arms_that_are_written_wrongly(refusal: Callable[..., str], texts: list[str], words: str) -> None:
    assert words in refusal(parse_theory_arms, texts)
