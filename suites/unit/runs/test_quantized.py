"""The certificate of a quantized run: exact counts, an effect, and a line that shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.record import (
    CERTIFIED,
    INVALID_EVIDENCE,
    NOISE,
    QUANTIZER,
    Certificate,
    ItemResult,
    LevelCertificate,
    SiteCount,
)
from harness.runs.loaded import load_run
from harness.runs.quantized import QuantizedPart, QuantizedSite, quantized_op, with_quantization
from harness.testing import RunMaker

pytestmark = pytest.mark.unit
WEIGHTS = QuantizedPart("W", "weight", (QuantizedSite("up:weight", 400), QuantizedSite("down:weight", 400)))
INPUTS = QuantizedPart("A", "input", (QuantizedSite("up:input", 10), QuantizedSite("head:input", 10, True)))
FORWARDS = {0.05: 7}
CLEAR = LevelCertificate(0.05, 1, 1, 1, 1, 1, 0.05, 0.05, 3)
GOOD = Certificate(CERTIFIED, (CLEAR,))


@pytest.fixture
def results(make_result: Callable[..., ItemResult]) -> list[ItemResult]:
    return [make_result(f"i{index}", 0.05) for index in range(4)]


def count(site: str, elements: int, **changes: float) -> SiteCount:
    point = site.partition(":")[2]
    seen = SiteCount(site, quantized_op("linear", point), 0.05, kind=QUANTIZER, elements=elements, changed=elements)
    return replace(seen, signal=100.0, error=1.0, **changes)


@pytest.fixture
def counts(results: list[ItemResult]) -> list[SiteCount]:
    fed, steps = sum(result.fed for result in results), sum(result.steps for result in results)
    return [
        *(count(site.name, 7 * 400) for site in WEIGHTS.sites),
        count("up:input", fed * 10),
        count("head:input", steps * 10),
    ]


def judged(results: list[ItemResult], counts: list[SiteCount], forwards: dict[float, int] | None = None) -> Certificate:
    return with_quantization(GOOD, (WEIGHTS, INPUTS), results, FORWARDS if forwards is None else forwards, counts)


def test_exact_counts_are_certified_and_shown(results: list[ItemResult], counts: list[SiteCount]) -> None:
    found = judged(results, counts)
    assert found.status == CERTIFIED and not found.problems_at(0.05)
    assert found.levels[0].quantization == (
        "W: 2 sites, 5600 of 5600 elements changed, SQNR 20.00 dB",
        f"A: 2 sites, {counts[2].elements + counts[3].elements} of "
        f"{counts[2].elements + counts[3].elements} elements changed, SQNR 20.00 dB",
    )
    assert Certificate.from_json(found.to_json()) == found


def test_counts_of_several_processes_add_up(results: list[ItemResult], counts: list[SiteCount]) -> None:
    split = [replace(counts[0], process=name, elements=1400, changed=1400) for name in ("a", "b")]
    assert judged(results, [*split, *counts[1:]]).status == CERTIFIED


def test_what_is_missing_is_named(results: list[ItemResult], counts: list[SiteCount]) -> None:
    found = judged(results, counts[2:])
    assert found.status == INVALID_EVIDENCE
    assert found.problems_at(0.05) == (
        "wrong quantization count: up:weight quantized 0 elements, expected 2800, and 1 more sites",
    )


def test_a_forward_without_quantization_is_found(results: list[ItemResult], counts: list[SiteCount]) -> None:
    assert judged(results, counts, {0.05: 8}).status == INVALID_EVIDENCE
    assert judged(results, counts, {}).status == INVALID_EVIDENCE


def test_a_part_that_changes_nothing_is_found(results: list[ItemResult], counts: list[SiteCount]) -> None:
    still = [replace(seen, changed=0, error=0.0) for seen in counts[:2]]
    found = judged(results, [*still, *counts[2:]])
    assert found.problems_at(0.05) == ("quantization W changed none of 5600 elements: they lie on its grid",)
    one_of_two = judged(results, [still[0], *counts[1:]])
    assert one_of_two.status == CERTIFIED


def test_elements_that_are_not_finite_are_found(results: list[ItemResult], counts: list[SiteCount]) -> None:
    found = judged(results, [replace(counts[0], nonfinite=3), *counts[1:]])
    assert found.problems_at(0.05) == ("quantization W gave 3 non-finite elements",)


def test_an_invalid_run_stays_invalid(results: list[ItemResult], counts: list[SiteCount]) -> None:
    bad = Certificate(INVALID_EVIDENCE, (CLEAR,), problems=("the positive control has not run",))
    assert with_quantization(bad, (WEIGHTS, INPUTS), results, FORWARDS, counts).status == INVALID_EVIDENCE


def test_runs_without_quantization_are_left_alone() -> None:
    assert with_quantization(GOOD, (), [], {}, []) is GOOD
    assert "quantization" not in GOOD.to_json()["levels"][0]
    assert Certificate.from_json(GOOD.to_json()) == GOOD


def test_noise_of_an_operator_with_a_quantizers_name_is_noise(tmp_path: Path, make_run: RunMaker) -> None:
    path = make_run(tmp_path / "run", {0.0: [[1], [1]], 0.05: [[1], [1]]}, op="linear:weight")
    assert {count.kind for count in load_run(path).counts} == {NOISE}
    assert load_run(path).arm.certificate.status == CERTIFIED
