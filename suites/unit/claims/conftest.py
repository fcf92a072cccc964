"""The published registry as tables that a test may change, and a small registry of two arms to try the rules on."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.claims import Judgement, Registry, judge, load_registry
from harness.claims.load import build_registry

PUBLISHED = Path(__file__).resolve().parents[3] / "baselines" / "published"
Tables = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="session")
def published() -> Registry:
    """The registry of the repository."""
    return load_registry(PUBLISHED)


@pytest.fixture(scope="session")
def _read() -> Tables:
    return [(path.name, tomllib.loads(path.read_text())) for path in sorted(PUBLISHED.glob("*.toml"))]


@pytest.fixture
def tables(_read: Tables) -> Tables:
    """The files of the published registry, to be changed."""
    return copy.deepcopy(_read)


@pytest.fixture(scope="session")
def entry() -> Callable[[Tables, str, str], dict[str, Any]]:
    """``entry(tables, "claim", "C1")``: one table by its id."""

    def find(tables: Tables, kind: str, name: str) -> dict[str, Any]:
        return next(table for _, data in tables for table in data.get(kind, []) if table["id"] == name)

    return find


@pytest.fixture(scope="session")
def verdict_of() -> Callable[[Tables, str], Judgement]:
    """``verdict_of(tables, "C1")``: the claim judged from these tables."""

    def find(tables: Tables, name: str) -> Judgement:
        registry = build_registry(tables)
        return judge(registry, next(claim for claim in registry.claims if claim.id == name))

    return find


@pytest.fixture
def small() -> dict[str, Any]:
    """Arms ``on`` and ``off`` that differ in AQN, four pairs of replicates for the spread, and one claim."""
    aqn = {"aqn": "rmsnorm", "aqn_sigma": "0.05"}

    def arm(name: str, value: float, config: dict[str, str]) -> dict[str, Any]:
        series = [{"steps": [100], "values": [value], "sources": ["S"]}]
        return {"id": name, "title": name, "config": config, "series": series}

    pairs = [
        arm(f"{pair}{run}", 50 + shift, {"batch": str(pair)})
        for pair in range(4)
        for run, shift in ((0, 0.0), (1, 1.0))
    ]
    comparison = {"arm": "on@100", "reference": "off@100", "direction": "higher", "claimed": 5.0}
    return {
        "section": "1",
        "defaults": {"n": 1319, "config": {"model": "m"}},
        "sources": {"S": "a source"},
        "experiment": [arm("on", 75.0, aqn), arm("off", 70.0, {}), *pairs],
        "fact": [],
        "claim": [{"id": "K", "claim": "AQN adds 5", "sources": ["S"], "factors": ["aqn"], "comparison": [comparison]}],
    }


@pytest.fixture(scope="session")
def judged() -> Callable[[dict[str, Any]], Judgement]:
    """The one claim of a small registry."""

    def find(data: dict[str, Any]) -> Judgement:
        registry = build_registry([("small.toml", data)])
        return judge(registry, registry.claims[0])

    return find
