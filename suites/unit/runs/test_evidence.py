"""The certificate: exact counts, effective noise, a silent clean arm, an audit and a positive control."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.likelihoods import Scored, written
from harness.record import (
    CERTIFIED,
    DECODE,
    INVALID_EVIDENCE,
    PREFILL,
    Certificate,
    ControlResult,
    ItemResult,
    LikelihoodResult,
    SiteCount,
)
from harness.runs.audited import PHASES
from harness.runs.choice import Choice, Trail
from harness.runs.evidence import ExpectedSite, Fed, certify, judge_control
from harness.runs.store import Audit
from harness.spec.tokens import in_spans, spans_of

pytestmark = pytest.mark.unit

LEVELS = (0.0, 0.05)
UP = ExpectedSite("up", "linear", 40, last_token_only=False, grows=False)
HEAD = ExpectedSite("head", "linear", 50, last_token_only=True, grows=False)
SITES = (UP, HEAD)
GOOD = ControlResult(1.0, 2, 2, 0, 2)
AUDITS = tuple(
    Audit(level, 5, (), phase, 1, Choice(level, 0, 1, Trail(0, ""))) for level in LEVELS for phase in (PREFILL, DECODE)
)
ITEMS = 10


@pytest.fixture
def results(make_result: Callable[..., ItemResult]) -> list[ItemResult]:
    return [make_result(f"i{index}", level) for level in LEVELS for index in range(ITEMS)]


@pytest.fixture
def ledger(results: list[ItemResult], make_counts: Callable[..., list[SiteCount]]) -> Callable[..., list[SiteCount]]:
    """The right ledger, the first site of ``level`` changed."""

    def build(at: float = 0.05, **changes: Any) -> list[SiteCount]:
        return [
            count
            for level in LEVELS
            for count in make_counts(results, level, SITES, **(changes if level == at else {}))
        ]

    return build


def certificate(results: list[ItemResult], counts: list[SiteCount], **changes: Any) -> Certificate:
    given = {
        "expected": SITES,
        "audits": AUDITS,
        "control": GOOD,
        "levels": {level: level for level in LEVELS},
        "control_wanted": True,
    } | changes
    return certify(given.pop("expected"), results, counts, given.pop("audits"), given.pop("control"), **given)


def problem(found: Certificate, level: float = 0.05) -> str:
    """The one problem of a run, which stands at ``level``."""
    assert found.status == INVALID_EVIDENCE
    (text,) = found.problems_at(level)
    assert found.problems or all(not found.problems_at(other) for other in LEVELS if other != level)
    return text


def test_expected_counts_are_those_of_a_greedy_loop_with_a_cache(make_result: Callable[..., ItemResult]) -> None:
    ended = make_result(prompt_tokens=3, tokens=(7, 8), truncated=False)  # 3 steps; feeds 3 + 2 tokens
    cut = make_result(prompt_tokens=4, tokens=(7, 8), truncated=True)  # 2 steps; feeds 4 + 1 tokens
    one, other, both = Fed.of([ended]), Fed.of([cut]), Fed.of([ended, cut])
    assert (UP.rows(one), UP.rows(other), UP.rows(both)) == (5, 5, 10)
    assert (HEAD.rows(one), HEAD.rows(other)) == (3, 2)
    assert (UP.elements(one), HEAD.elements(both)) == (200, 250)
    products = ExpectedSite("qk", "qk", 2, last_token_only=False, grows=True)
    assert products.elements(one) == 2 * (1 + 2 + 3 + 4 + 5)
    assert products.elements(both) == 2 * 2 * 15


@pytest.mark.parametrize("words", ["prefill", "first", "decode", "decode:2-3", "first,decode:3-", "decode:9"])
def test_expected_counts_of_a_selection_follow_from_the_records(
    make_result: Callable[..., ItemResult], words: str
) -> None:
    records = [make_result(prompt_tokens=n, tokens=(7,) * k, truncated=cut) for n, k, cut in CASES]
    spans, rows, heads, pairs = spans_of([*words.split(",")]), 0, 0, 0
    for record in records:
        for position in range(record.fed):
            step = position - record.prompt_tokens + 1
            if in_spans(step, spans):
                rows, heads, pairs = rows + 1, heads + (step >= 0), pairs + position + 1
    assert Fed.of(records, words.split(",")) == Fed(rows, heads, pairs)


@pytest.mark.parametrize("words", ["prefill", "first", "decode", "decode:2-3", "first,decode:3-", "decode:9"])
def test_expected_counts_of_a_selection_over_scored_continuations(words: str) -> None:
    """Each request is a sequence of its own; the head computes every row."""
    lengths, spans, rows, pairs = ((3, 4), (1, 1), (6, 2)), spans_of([*words.split(",")]), 0, 0
    text = written([Scored(context, tokens, -1.0, False) for context, tokens in lengths])
    record = LikelihoodResult("i", 0.1, 0, 1.0, "right", "", {}, 10, (5,) * 7, text, True)
    for context, tokens in lengths:
        for position in range(context + tokens - 1):
            if in_spans(position - context + 1, spans):
                rows, pairs = rows + 1, pairs + position + 1
    assert Fed.of([record], words.split(",")) == Fed(rows, rows, pairs)


CASES = ((3, 2, False), (4, 2, True), (1, 1, True), (6, 5, False), (2, 0, False))


def test_a_certificate_says_what_share_of_the_rows_was_selected(results: list[ItemResult], ledger: Any) -> None:
    limited = tuple(replace(site, tokens=("first",)) for site in SITES)
    (note,) = certificate(results, ledger(), expected=limited).notes
    noisy = [result for result in results if result.level]
    every = sum(result.fed for result in noisy)
    assert note.startswith(f"noise at tokens:first alone: {len(noisy)} of {every} token rows of noisy sequences (")
    assert "had none" not in note
    assert not certificate(results, ledger()).notes


def test_a_certificate_says_how_many_records_had_no_noise(results: list[ItemResult], ledger: Any) -> None:
    late = tuple(replace(site, tokens=("decode:2-",)) for site in SITES)
    short = [replace(result, tokens=(5,)) if place % 3 == 0 else result for place, result in enumerate(results)]
    noisy = [result for result in short if result.level]
    spared = sum(result.steps < 3 for result in noisy)
    assert 0 < spared < len(noisy)
    (note,) = certificate(short, ledger(), expected=late).notes
    assert note.endswith(f"; {spared} of {len(noisy)} noisy records had none, and show nothing")


def test_a_selection_that_no_record_has_is_no_evidence(results: list[ItemResult], ledger: Any) -> None:
    limited = tuple(replace(site, tokens=("decode:9",)) for site in SITES)
    empty = [replace(count, rows=0, elements=0, changed=0, nonzero=0, relative=0.0) for count in ledger()]
    found = certificate(results, empty, expected=limited)
    assert problem(found).startswith("tokens:decode:9 selects no token of ")
    assert certificate(results, ledger(), expected=limited).status == INVALID_EVIDENCE


def test_a_sound_run_is_certified_with_its_numbers(results: list[ItemResult], ledger: Any) -> None:
    found = certificate(results, ledger())
    assert found.status == CERTIFIED
    assert [found.problems_at(level) for level in LEVELS] == [(), ()]
    clean, noisy = found.levels
    assert (noisy.sites, noisy.expected_rows, noisy.counted_rows, noisy.audited) == (2, 80, 80, 10)
    assert (noisy.elements, noisy.changed) == (50 * 40 + 30 * 50, 50 * 40 + 30 * 50)
    assert noisy.rms_low == noisy.rms_high == pytest.approx(0.05)
    assert (clean.changed, clean.rms_high) == (0, 0.0)
    assert Certificate.from_json(found.to_json()) == found


@pytest.mark.parametrize(("rows", "elements"), [(49, 49 * 40), (51, 51 * 40), (50, 1999), (49, 2000), (0, 0)])
@pytest.mark.parametrize("level", LEVELS)
def test_a_count_that_is_off_by_one_is_named(
    results: list[ItemResult], ledger: Any, level: float, rows: int, elements: int
) -> None:
    found = certificate(results, ledger(level, rows=rows, elements=elements))
    words = f"wrong injection count: up counted {rows} rows and {elements} elements, expected 50 and 2000"
    assert problem(found, level) == words


def test_a_silent_site_and_a_stranger_are_named(results: list[ItemResult], ledger: Any) -> None:
    without = [count for count in ledger() if (count.site, count.level) != ("head", 0.05)]
    assert "head counted 0 rows and 0 elements, expected 30 and 1500" in problem(certificate(results, without))
    stranger = [*ledger(), SiteCount("rotary", "rotary", 0.05)]
    assert problem(certificate(results, stranger)) == "wrong injection count: rotary is not in the plan"


def test_no_ledger_no_records_and_no_plan_are_no_evidence(results: list[ItemResult], ledger: Any) -> None:
    clean_only = [count for count in ledger() if count.level == 0]
    assert len(certificate(results, clean_only).problems_at(0.05)) == 2
    none = certificate([result for result in results if result.level == 0], clean_only)
    assert "level 0.05 has no records" in problem(none)
    empty = certificate(results, [], expected=())
    assert empty.status == INVALID_EVIDENCE
    assert empty.problems_at(0.05) == ("the plan names no site, so nothing was injected",)
    assert "no ledger for level 0.1" in certificate(results, ledger()).problems_at(0.1)


def test_many_wrong_sites_are_counted_after_three(make_result: Any, make_counts: Any) -> None:
    sites = [replace(UP, name=f"s{index}") for index in range(5)]
    found = certificate([make_result(level=level) for level in LEVELS], [], expected=sites, control=GOOD)
    (text,) = found.problems_at(0.05)
    assert text.startswith("wrong injection count: s0 counted 0") and text.endswith("; and 2 more sites")
    assert "s2" in text and "s3" not in text


def test_noise_in_the_clean_arm_is_found(results: list[ItemResult], ledger: Any) -> None:
    assert problem(certificate(results, ledger(0.0, changed=1)), 0.0) == (
        "noise in the clean arm: up changed 1 elements in the clean arm"
    )


@pytest.mark.parametrize(
    ("factor", "valid"), [(0.89, False), (0.9001, True), (1.1499, True), (1.16, False), (0, False)]
)
def test_the_achieved_error_must_lie_within_its_bounds(
    results: list[ItemResult], ledger: Any, factor: float, valid: bool
) -> None:
    found = certificate(results, ledger(nonzero=2000, relative=2000 * (factor * 0.05) ** 2))
    assert (found.status == CERTIFIED) is valid
    if not valid:
        assert (
            problem(found)
            == f"ineffective injection: up reached {factor:.3f} of the requested 0.05 (0.9 to 1.15 allowed)"
        )


@pytest.mark.parametrize(
    ("nonzero", "factor", "valid"),
    [(1000, 0.89, False), (999, 0.891, True), (999, 0.88, False), (100, 1.34, True), (100, 1.36, False)],
)
def test_few_elements_get_a_bound_of_five_standard_errors(
    results: list[ItemResult], ledger: Any, nonzero: int, factor: float, valid: bool
) -> None:
    assert 1 - 5 / math.sqrt(2 * 999) < 0.891
    found = certificate(results, ledger(nonzero=nonzero, relative=nonzero * (factor * 0.05) ** 2))
    assert (found.status == CERTIFIED) is valid


def test_a_handful_of_untouched_elements_is_no_injection(results: list[ItemResult], ledger: Any) -> None:
    found = certificate(results, ledger(nonzero=10, changed=0, relative=0.0))
    assert problem(found) == "ineffective injection: up changed none of 2000 elements"


def test_a_site_of_zeros_proves_nothing_under_noise_and_is_fine_without(results: list[ItemResult], ledger: Any) -> None:
    zeros: dict[str, Any] = {"nonzero": 0, "changed": 0, "signal": 0.0, "error": 0.0, "relative": 0.0}
    assert problem(certificate(results, ledger(**zeros))) == "ineffective injection: up saw only zeros"
    assert certificate(results, ledger(0.0, **zeros)).status == CERTIFIED


@pytest.mark.parametrize("level", LEVELS)
def test_overflow_is_a_problem_and_the_certificate_stays_json(
    results: list[ItemResult], ledger: Any, level: float
) -> None:
    found = certificate(results, ledger(level, nonfinite=3, relative=math.nan))
    assert "up gave 3 non-finite elements" in " ".join(found.problems_at(level))
    assert found.status == INVALID_EVIDENCE
    assert all(math.isfinite(entry.rms_low) and math.isfinite(entry.rms_high) for entry in found.levels)


DATA = {0.0: None, 0.05: None}
"""Levels of an error model whose relative error depends on the data, such as a deadzone."""


@pytest.mark.parametrize("relative", [0.0, 7.0, math.inf, math.nan])
def test_an_error_that_depends_on_the_data_has_no_bounds(
    results: list[ItemResult], ledger: Any, relative: float
) -> None:
    found = certificate(results, ledger(relative=relative, changed=1), levels=DATA)
    assert found.status == CERTIFIED, found
    untouched = certificate(results, ledger(relative=0.0, changed=0), levels=DATA)
    assert untouched.status == CERTIFIED, "one site may have nothing that such an error changes"


def test_an_error_that_depends_on_the_data_must_still_change_something(results: list[ItemResult], ledger: Any) -> None:
    silent = [replace(count, changed=0, relative=0.0, error=0.0) for count in ledger()]
    found = certificate(results, silent, levels=DATA)
    assert problem(found) == "ineffective injection: no site changed any of 3500 elements"
    assert "changed 1 elements in the clean arm" in problem(
        certificate(results, ledger(0.0, changed=1), levels=DATA), 0.0
    )
    off = certificate(results, ledger(rows=49), levels=DATA)
    assert "counted 49 rows" in problem(off), "counts are as exact as ever"


def test_such_an_error_may_make_infinity_but_a_clean_model_may_not(results: list[ItemResult], ledger: Any) -> None:
    assert certificate(results, ledger(nonfinite=3), levels=DATA).status == CERTIFIED
    assert "up gave 3 non-finite" in problem(certificate(results, ledger(0.0, nonfinite=3), levels=DATA), 0.0)
    assert "up gave 3 non-finite" in problem(certificate(results, ledger(nonfinite=3)))


@pytest.mark.parametrize("parts", [(25, 25), (50,), (10, 20, 20)])
def test_counts_of_several_processes_are_added_up(
    results: list[ItemResult], ledger: Any, parts: tuple[int, ...]
) -> None:
    """A run that was stopped and resumed; no process alone has the expected counts."""
    split = [
        replace(
            count,
            process=f"here:{number}",
            **{name: getattr(count, name) * part // 50 for name in ("rows", "elements", "changed", "nonzero")},
            **{name: getattr(count, name) * part / 50 for name in ("signal", "error", "relative")},
        )
        for count in ledger()
        for number, part in enumerate(parts)
    ]
    assert certificate(results, split).status == CERTIFIED
    assert problem(certificate(results, split[:-1])).startswith("wrong injection count: head counted")


def test_gradients_in_an_evaluation_are_not_in_the_plan(results: list[ItemResult], ledger: Any) -> None:
    backward = replace(ledger()[-1], direction="backward", operand="weight")
    found = certificate(results, [*ledger(), backward])
    assert problem(found) == "wrong injection count: head backward:weight is not in the plan"


def test_a_level_without_audit_or_with_its_objection_is_invalid(results: list[ItemResult], ledger: Any) -> None:
    assert problem(certificate(results, ledger(), audits=AUDITS[:2])) == "level 0.05 was not audited"
    objecting = (*AUDITS, Audit(0.05, 7, ("audit: mm ran in x",)), Audit(0.05, 7, ("audit: mm ran in x",)))
    found = certificate(results, ledger(), audits=objecting)
    assert problem(found) == "audit: mm ran in x"
    assert found.levels[1].audited == 24


def test_prefill_and_decode_are_both_audited(results: list[ItemResult], ledger: Any) -> None:
    assert problem(certificate(results, ledger(), audits=AUDITS[:3])) == "no decode step of level 0.05 was audited"
    other = replace(AUDITS[3], products=0)
    assert problem(certificate(results, ledger(), audits=(*AUDITS[:3], other))).startswith("no decode step")
    short = replace(other, forwards=0)  # every answer of the audited batch was one token
    assert certificate(results, ledger(), audits=(*AUDITS[:3], short)).status == CERTIFIED


def test_a_level_is_audited_in_all_its_parts(results: list[ItemResult], ledger: Any) -> None:
    def audits(*places: tuple[int, int]) -> tuple[Audit, ...]:
        found = [Audit(0.05, 5, (), phase, 1, Choice(0.05, *at, Trail(0, ""))) for at in places for phase in PHASES]
        return (*AUDITS[:2], *found)

    found = certificate(results, ledger(), audits=audits((2, 9), (4, 9)))
    assert problem(found) == "level 0.05 was audited in 2 of 3 parts: beginning, middle and end"
    for places in (((2, 9), (4, 9), (8, 9)), ((0, 2), (1, 2)), ((2, 9), (0, 7))):  # the last: stopped and resumed
        assert certificate(results, ledger(), audits=audits(*places)).status == CERTIFIED


def test_a_missing_control_speaks_against_the_whole_run(results: list[ItemResult], ledger: Any) -> None:
    found = certificate(results, ledger(), control=None)
    assert found.status == INVALID_EVIDENCE
    assert [found.problems_at(level) for level in LEVELS] == [("the positive control has not run",)] * 2
    assert certificate(results, ledger(), control=None, control_wanted=False).status == CERTIFIED
    failed = certificate(results, ledger(), control=replace(GOOD, problems=("survived",)), control_wanted=False)
    assert (failed.status, failed.problems_at(0.0)) == (INVALID_EVIDENCE, ("survived",))


def control(make_result: Any, clean: list[Any], noisy: list[Any], changed: int, at_floor: bool) -> ControlResult:
    before = [make_result(f"i{index}", score=score) for index, score in enumerate(clean)]
    before.append(make_result("not in the control"))
    after = [
        make_result(f"i{index}", 1.0, score=score, tokens=(9,) if index < changed else (7, 8))
        for index, score in enumerate(noisy)
    ]
    return judge_control(before, after, 1.0, at_floor)


@pytest.mark.parametrize(
    ("clean", "noisy", "words"),
    [
        ([1, 1, 1, 1], [1, 1, 0, 0], ""),
        ([1, 1, 1, 1], [1, 1, 1, 0], "scale 1 left 3 of 4 right answers"),
        ([1, 0, 0, 0], [0, 1, 0, 0], "scale 1 left 1 of 1 right answers"),
        ([1, "truncated", 1, 0], ["unparsed", 1, 0, 0], ""),
    ],
)
def test_lethal_noise_must_lose_half_of_the_clean_accuracy(
    make_result: Any, clean: Any, noisy: Any, words: str
) -> None:
    found = control(make_result, clean, noisy, 0, at_floor=False)
    assert (found.items, found.clean_right, found.noisy_right) == (4, clean.count(1), noisy.count(1))
    assert words in " ".join(found.problems)
    assert bool(found.problems) is bool(words)


@pytest.mark.parametrize(("clean", "at_floor"), [([0, 0, 0], False), ([1, 0, 0], True)])
@pytest.mark.parametrize("changed", [2, 3])
def test_at_the_floor_every_output_must_change(
    make_result: Any, clean: list[int], at_floor: bool, changed: int
) -> None:
    found = control(make_result, clean, [1, 1, 1], changed, at_floor)
    assert found.outputs_changed == changed
    expected = () if changed == 3 else ("positive control: at scale 1 only 2 of 3 outputs changed (all must)",)
    assert found.problems == expected
