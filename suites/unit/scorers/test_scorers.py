"""Scorers by name: those of the package, and those of other distributions."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.exceptions import HarnessError
from harness.scorers import SCORERS, load_scorer
from harness.spec import SCORER_GROUP, scorer_names
from harness.spec import SCORERS as NAMES
from suites.distributions import write_distribution

pytestmark = pytest.mark.unit
CODE = """
from harness.scorers import Scorer, Scores


class Letter(Scorer):
    name = primary = "letter"

    def score(self, text, reference, item):
        return Scores({"letter": float(text == reference)}, text)


class Dear(Letter):
    def __init__(self):
        raise SystemExit(3)


made, misnamed, bare = Letter(), Letter(), object()
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with one sound scorer, given as a class, and three that are none."""
    targets = {"letter": "Letter", "other": "misnamed", "bare": "bare", "dear": "Dear"}
    points = {SCORER_GROUP: {name: f"letters:{target}" for name, target in targets.items()}}
    monkeypatch.syspath_prepend(str(write_distribution(tmp_path, "letters", points, letters=CODE)))


def test_the_names_of_the_specification_are_the_rows() -> None:
    assert tuple(SCORERS) == NAMES == scorer_names()
    assert [load_scorer(name).name for name in NAMES] == list(NAMES)
    with pytest.raises(HarnessError, match=r"unknown scorer 'strikt'; .*strict, flexible, .*; did you mean 'strict'\?"):
        load_scorer("strikt")


@pytest.mark.usefixtures("installed")
def test_one_of_another_distribution_is_found() -> None:
    assert scorer_names() == (*NAMES, "bare", "dear", "letter", "other")
    assert load_scorer("letter").primary == "letter"
    assert not load_scorer("letter").complete("b")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "why"), [("other", "it calls itself 'letter'"), ("bare", "it has no name"), ("dear", "SystemExit: 3")]
)
def test_one_that_cannot_be_used_is_refused_in_one_line(name: str, why: str) -> None:
    with pytest.raises(HarnessError, match=rf"scorer '{name}' of letters 1\.0; it cannot be used \({why}"):
        load_scorer(name)
