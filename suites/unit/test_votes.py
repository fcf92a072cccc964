"""Which sampled answers are the same: kept in a character a draw, and enough for every majority."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.baselines.file import Baseline, dump, load
from harness.exceptions import HarnessError
from harness.gates import GatePolicy, gate
from harness.gates.repeated import MAJORITY, repeated_scores
from harness.record import Arm, ItemResult, Outcome
from harness.runs.loaded import load_run
from harness.runs.manifest import checksum
from harness.spec.sampling import Sampling
from harness.stats.repeated import majority_at_k
from harness.testing import make_result
from harness.votes import AYE, SILENT, contradicts, decoded, encoded, voted, votes_of

pytestmark = pytest.mark.unit
DRAWS = 5
ROWS = st.lists(
    st.lists(st.sampled_from(["7", "8", "9", "ten", None]), min_size=DRAWS, max_size=DRAWS), min_size=1, max_size=4
)


def results(rows: list[list[str | None]]) -> list[ItemResult]:
    """Records of drawn answers, of which 7 is right."""
    return [
        replace(
            make_result(f"i{number}", 0.0, seed, float(answer == "7")),
            answer=answer,
            score=None if answer is None else float(answer == "7"),
            reason="unparsed" if answer is None else "right" if answer == "7" else "wrong",
        )
        for number, row in enumerate(rows)
        for seed, answer in enumerate(row)
    ]


def cells(found: list[ItemResult]) -> dict[str, dict[int, Outcome]]:
    rows: dict[str, dict[int, Outcome]] = {}
    for result in found:
        rows.setdefault(result.item, {})[result.seed] = result.outcome
    return rows


@given(ROWS)
def test_votes_give_the_majorities_of_the_texts(rows: list[list[str | None]]) -> None:
    found = results(rows)
    votes = votes_of(found)[0.0]
    right = np.array([[float(answer == "7") for answer in row] for row in rows])
    names = [[voted(votes)[f"i{number}", seed] for seed in range(DRAWS)] for number in range(len(rows))]
    for k in range(1, DRAWS + 1):
        assert majority_at_k(right, names, k).tolist() == majority_at_k(right, rows, k).tolist()
    assert not contradicts(votes, cells(found))
    for number, row in enumerate(rows):
        own = votes[f"i{number}"]
        assert decoded(encoded(own, range(DRAWS)), range(DRAWS)) == own
        for one in range(DRAWS):
            assert (own[one] == AYE) is (row[one] == "7") and (own[one] == SILENT) is (row[one] is None)
            assert all((own[one] == own[other]) is (row[one] == row[other]) for other in range(DRAWS))


def test_many_answers_have_names_of_their_own() -> None:
    votes = votes_of(results([[f"wrong {n}" for n in range(500)]]))[0.0]["i0"]
    assert len(set(votes.values())) == 500 and all(len(name) == 1 for name in votes.values())


@pytest.fixture(scope="module")
def arm(make_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Arm:
    """A certified arm of sampled answers at two levels, with its votes."""
    right = [[float(answer == "7") for answer in row] for row in MANY]
    made = load_run(make_run(tmp_path_factory.mktemp("run") / "run", {0.0: [r[:1] for r in right], 0.05: right})).arm
    found = [replace(result, level=level) for level in (0.0, 0.05) for result in results(MANY)]
    outcomes = {level: cells([each for each in found if each.level == level]) for level in (0.0, 0.05)}
    key = {**made.key, "decoding": str(Sampling(0.7))}
    return replace(made, key=key, outcomes=outcomes, votes=votes_of(found))


MANY: list[list[str | None]] = [["7", "7", "8"], ["8", "7", "8"], [None, "9", "7"], ["7", "7", "7"]] * 15


def stored(arm: Arm, path: Path) -> Path:
    path.write_text(dump(Baseline("a/b", "it is good", "2026-11-29", {"checkpoint": None}, None, arm)))
    return path


def test_a_gate_shows_the_majority_of_a_stored_baseline(arm: Arm, tmp_path: Path) -> None:
    held = load(stored(arm, tmp_path / "b.json")).arm
    assert held.votes == arm.votes
    found = gate(arm, held, GatePolicy(margin=0.2)).levels[0].repeated
    three = next(each for each in found if (each.measure, each.k) == (MAJORITY, 3))
    wanted = np.mean([1, 0, 0.5, 1])
    assert three.value.estimate == pytest.approx(wanted)
    assert three.against is not None and three.against.estimate == pytest.approx(wanted)
    texts = {(f"i{number}", seed): answer for number, row in enumerate(MANY) for seed, answer in enumerate(row)}
    by_texts = repeated_scores(arm.outcomes[0.0], arm.outcomes[0.0], 0.05, key=arm.key, answers=(texts, texts))
    assert found == by_texts


def test_a_baseline_without_votes_is_read_and_shows_no_majority(arm: Arm, tmp_path: Path) -> None:
    old = load(stored(replace(arm, votes={}), tmp_path / "b.json")).arm
    assert old.votes == {}
    for pair in ((arm, old), (old, arm)):
        assert MAJORITY not in {each.measure for each in gate(*pair, GatePolicy(margin=0.2)).levels[0].repeated}


def edited(path: Path, change: Any) -> Path:
    data = json.loads(path.read_text())
    change(data["votes"]["0"])
    data["sha256"] = checksum({name: value for name, value in data.items() if name != "sha256"})
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda votes: votes.update(i0="++-" if votes["i0"] != "++-" else "+--", i1="+++"), "its votes are not those"),
        (lambda votes: votes.update(i1="aaa"), "its votes are not those"),
        (lambda votes: votes.pop("i0"), "its votes are not those"),
        (lambda votes: votes.update(other="aaa"), "its votes are not those"),
        (lambda votes: votes.update(i0="++."), "its votes are not those"),
        (lambda votes: votes.update(i0="++"), "it is damaged"),
        (lambda votes: votes.update(i0=3), "it is damaged"),
    ],
)
def test_votes_that_do_not_fit_the_outcomes_are_refused(arm: Arm, tmp_path: Path, change: Any, words: str) -> None:
    path = edited(stored(arm, tmp_path / "b.json"), change)
    with pytest.raises(HarnessError, match=words):
        load(path)
