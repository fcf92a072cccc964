"""The registry holds what the sources report: values, contradictions, measurement, effective configurations."""

from __future__ import annotations

import re
from typing import Any

import pytest

from harness.claims import Registry
from harness.claims.effective import effective_config, effective_hash
from harness.claims.model import CAUTION, Place

pytestmark = pytest.mark.unit


def numbers(registry: Registry, *place: Any) -> list[float]:
    return [value.value for value in registry.values_at(Place(*place))]


@pytest.mark.parametrize(
    ("place", "values"),
    [
        (("gpu-baseline", 116), [76.88]), (("npu-baseline", 80), [74.22, 75.89]), (("npu-first-aqn", "best"), [70.94]),
        (("E5", 116), [68.16, 68.92]), (("E5", 100), [69.14, 67.70]), (("E5b", 116), [70.58]), (("E9b", 116), [71.19]),
        (("E5b", 60), [68.46, 66.85]), (("E5c-lower", 116), [67.48, 70.27]), (("E8c-v2", 116), [68.92]),
        (("E7a-7B", 200), [90.83]), (("E7b-30B", 58), [33.59]), (("exp-1D", "end"), [66.49]),
        (("nvfp4-v1", 140), [7.66]),
        (("E4a", 29), [72.55, 72.10]), (("E4b-rerun", 29), [72.63, 73.24]), (("E12", "unstated"), [72.48]),
        (("E3b-2ep", "end"), [70.05]), (("E6b-qerl", 117), [66.72]), (("E13a-mx", 20), [7.43, 10.61]),
        (("E13h-run3", 29), [71.42]), (("E13j", 29, 0.0, "offline"), [73.31]), (("E13k-v2", 29), [67.55]),
        (("E5b", "end", 0.05, "native"), [64.0, 64.0]), (("E5d", 116, 0.1, "vllm"), [74.5]),
        (("E8c-v2", "end", 0.05, "native"), [67.0]), (("E8c-v2", "end", 0.1, "native"), []),
        (("deadzone-v2-targeted", "end", 0.0, "offline", "loss"), [12.8374]),
        (("scan-base", "by SQNR", 0.0, "offline", "worst_layer"), [27.0]),
    ],
)  # fmt: skip
def test_values_are_those_of_the_sources(published: Registry, place: tuple[Any, ...], values: list[float]) -> None:
    assert numbers(published, *place) == values


def test_every_experiment_has_values_or_says_why_not(published: Registry) -> None:
    silent = {name for name, found in published.experiments.items() if not found.values}
    assert all(published.experiments[name].status in ("planned", "crashed", "aborted", "no result") for name in silent)
    assert {"test-3b", "freeze-router", "GSPO", "E7c-30B", "E13i", "E14c", "E13k-v3"} <= silent
    assert len(published.experiments) == 120 and {found.section for found in published.experiments.values()} == {
        *(f"1.{number}" for number in (*range(1, 10), 11)),
        "external",
    }


def test_ids_that_the_sources_use_twice_are_told_apart_by_label(published: Registry) -> None:
    labels = [found.label for found in published.experiments.values()]
    assert labels.count("E5b") == 2 and labels.count("E7a") == 3 and labels.count("E13h") == 3


def test_the_noise_at_the_evaluation_travels_with_the_value(published: Registry) -> None:
    noise = {place: published.values_at(Place(*place))[0].measured["noise"] for place in (("E5a", 116), ("E5b", 116))}
    assert noise == {("E5a", 116): "N+A", ("E5b", 116): "N"}
    assert published.values_at(Place("E6a", 20))[0].measured["noise"] == "Q"


def test_what_was_configured_is_not_what_ran(published: Registry) -> None:
    assert published.experiments["E12"].config["aqn_sigma"] == "0.05"
    assert not {"aqn", "aqn_sigma", "aqn_schedule", "aqn_layers"} & set(effective_config(published, "E12"))
    assert effective_config(published, "E9a")["aqn_layers"] == "uniform"
    assert "aqn" not in effective_config(published, "npu-first-aqn")
    assert effective_hash(published, "E6a") == effective_hash(published, "E6b") == effective_hash(published, "E12")
    assert effective_hash(published, "E5") != effective_hash(published, "E5b")


def test_every_source_named_is_known_and_used(published: Registry) -> None:
    used = {code for found in published.experiments.values() for value in found.values for code in value.sources}
    used |= {code for claim in published.claims for code in claim.sources}
    assert used <= set(published.sources)


def test_facts_name_their_failure_and_every_kind_occurs(published: Registry) -> None:
    assert all(re.fullmatch(r"F\d+|RESULTS [\d.]+|SYSTEM \d", fact.failure) for fact in published.facts)
    assert {fact.kind for fact in published.facts} == {"absent", "duplicate", "copied", "no_artefact", "caution"}
    assert any("zero" in fact.id for fact in published.facts_of("E13a-mx", CAUTION))


def test_no_file_stores_a_verdict(tables: Any) -> None:
    def keys(node: Any) -> set[str]:
        if isinstance(node, dict):
            return set(node).union(*(keys(value) for value in node.values()))
        return set().union(*(keys(value) for value in node)) if isinstance(node, list) else set()

    assert "verdict" not in set().union(*(keys(data) for _, data in tables))
