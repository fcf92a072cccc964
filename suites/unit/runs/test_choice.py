"""The rule of choice: nothing is chosen before it can be known, and everything can be chosen again from the records."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.record import DECODE, PREFILL
from harness.runs.audited import verified
from harness.runs.choice import Choice, Chooser, Trail, Walk
from harness.runs.store import Audit

pytestmark = pytest.mark.unit


def trail_of(*checksums: str) -> Trail:
    walk = Walk()
    for checksum in checksums:
        walk.add(checksum)
    return walk.trail


def chosen(batches: int, salt: int) -> list[Choice]:
    chooser = Chooser()
    found = [chooser.choose(0.05, place, batches, trail_of(str(salt), str(place))) for place in range(batches)]
    return [choice for choice in found if choice is not None]


@pytest.mark.parametrize(("batches", "wanted"), [(1, 1), (2, 2), (3, 3), (4, 3), (10, 3), (101, 3)])
def test_one_batch_of_each_stratum_is_chosen(batches: int, wanted: int) -> None:
    for salt in range(20):
        found = chosen(batches, salt)
        assert len(found) == len({choice.stratum for choice in found}) == wanted
        assert all(choice.holds and choice.place in choice.stratum for choice in found)
        assert sum(len(choice.stratum) for choice in found) == batches


def test_every_batch_is_chosen_about_equally_often() -> None:
    """5 of a stratum, 600 draws: 120 of each within 5 standard deviations of 9.8."""
    counts = Counter(choice.place for salt in range(600) for choice in chosen(15, salt))
    assert set(counts) == set(range(15))
    assert all(abs(count - 120) < 49 for count in counts.values())


def test_a_choice_depends_on_every_record_before_it() -> None:
    records = [str(number) for number in range(50)]
    other = [*records[:20], "another", *records[21:]]
    assert trail_of(*records) == trail_of(*records)
    assert trail_of(*records) != trail_of(*other)
    assert trail_of(*reversed(records)) != trail_of(*records), "the order counts"
    steps = {
        tuple(step for step in range(200) if Choice(0.05, 0, 1, trail_of(str(salt))).audits(step)) for salt in range(30)
    }
    assert len(steps) > 20


def test_prefill_first_step_and_late_steps_are_audited() -> None:
    windows = (range(1), range(1, 2), range(2, 5), range(5, 14), range(14, 41), range(41, 122))
    for salt in range(50):
        choice = Choice(0.05, 0, 1, trail_of(str(salt)))
        for window in windows:
            assert sum(choice.audits(step) for step in window) == 1, window
    late = {next(s for s in range(41, 122) if Choice(0.1, 0, 1, trail_of(str(n))).audits(s)) for n in range(300)}
    assert len(late) > 60 and min(late) < 50 and max(late) > 110, "anywhere in its window"


def test_a_choice_survives_json() -> None:
    choice = Choice(0.05, 3, 9, trail_of("a", "b"))
    assert Choice.from_json(choice.to_json()) == choice


def test_what_the_rule_did_not_choose_is_named() -> None:
    records = trail_of("a")
    yes = next(Choice(0.05, place, 30, records) for place in range(30) if Choice(0.05, place, 30, records).holds)
    no = next(Choice(0.05, place, 30, records) for place in range(30) if not Choice(0.05, place, 30, records).holds)

    def problems(choice: Choice | None, records: Trail) -> tuple[str, ...]:
        (audit,) = verified([Audit(0.05, 1, (), PREFILL, 1, choice)], {records.records: records})
        return audit.problems

    assert problems(yes, records) == problems(None, records) == ()
    (unchosen,) = problems(no, records)
    assert unchosen.startswith(f"audit: batch {no.place + 1} of 30 was not chosen by the rule")
    (foreign,) = problems(yes, trail_of("b"))
    assert foreign.endswith("was chosen from other records than the first 1 of this run")
    (other,) = verified([Audit(0.1, 1, (), DECODE, 1, yes)], {1: records})[0].problems
    assert other == foreign, "chosen for another level"
