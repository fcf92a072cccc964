"""``[[experiment]]`` and ``[[evaluation]]`` tables: configuration and values by step or by noise level."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.claims.model import (
    ACCURACY,
    ENGINES,
    FACTORS,
    MEASURED,
    METRICS,
    NOISE_LETTERS,
    PERCENT_METRICS,
    STATUSES,
    Experiment,
    Step,
    Value,
)
from harness.strict import Table

CONFIGURED = tuple(factor for factor in FACTORS if factor not in ("step", "inference_noise"))
MAX_STEP = 10_000_000


@dataclass(frozen=True)
class Defaults:
    """What the experiments of a file share unless they say otherwise."""

    section: str
    config: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, str] = field(default_factory=dict)
    n: int | None = None
    seeds: int = 1


def parse_defaults(table: Any, where: str, section: str) -> Defaults:
    """Return the ``[defaults]`` of a file."""
    fields = Table(table, f"{where}: defaults")
    found = Defaults(
        section,
        fields.mapping("config", CONFIGURED),
        _measured(fields),
        _items(fields, None),
        fields.whole("seeds", 1, default=1),
    )
    fields.done()
    return found


def parse_experiment(table: Any, where: str, defaults: Defaults, sources: Collection[str]) -> Experiment:
    """Return one ``[[experiment]]``; its configuration and measurement override the file's defaults."""
    fields = Table(table, where)
    name = fields.text("id")
    fields.where = f"{where}: experiment {name!r}"
    if any(letter.isspace() or letter == "@" for letter in name):
        raise fields.fail("id", "it must hold no space and no @")
    label, title = fields.text("label", name), fields.text("title")
    status = fields.choice("status", STATUSES, "done")
    config = {**defaults.config, **fields.mapping("config", CONFIGURED)}
    values = _all_series(fields, defaults, sources)
    fields.done()
    return Experiment(name, label, title, defaults.section, status, config, values)


def parse_evaluation(
    table: Any, where: str, defaults: Defaults, sources: Collection[str]
) -> tuple[str, tuple[Value, ...]]:
    """Return one ``[[evaluation]]``: the id of the experiment whose checkpoint was measured, and the values."""
    fields = Table(table, where)
    name = fields.text("experiment")
    fields.where = f"{where}: evaluation of {name!r}"
    values = _all_series(fields, defaults, sources)
    fields.done()
    return name, values


def _all_series(fields: Table, defaults: Defaults, sources: Collection[str]) -> tuple[Value, ...]:
    measured = {**defaults.measured, **_measured(fields)}
    own = Defaults(defaults.section, {}, measured, _items(fields, defaults.n), defaults.seeds)
    found: list[Value] = []
    for table in fields.tables("series"):
        for value in _series(table, own, sources):
            if any(value.place == other.place and _same_number(value, other) for other in found):
                raise fields.fail(f"value {value.value:g} at step {value.step}", "it is given twice")
            found.append(value)
    return tuple(found)


def _same_number(value: Value, other: Value) -> bool:
    return value.value == other.value and value.n == other.n


def _series(fields: Table, defaults: Defaults, sources: Collection[str]) -> list[Value]:
    metric = fields.choice("metric", METRICS, ACCURACY)
    codes = fields.texts("sources")
    for code in codes:
        fields.one_of("sources", code, sources)
    n, seeds = _items(fields, defaults.n), fields.whole("seeds", 1, default=defaults.seeds)
    measured = {**defaults.measured, **_measured(fields)}
    values = fields.take("values")
    places = _places(fields)
    if not isinstance(values, list) or len(values) != len(places):
        raise fields.fail(f"values = {values!r}", f"it must be a list of {len(places)} numbers, one per step or level")
    low, high = _range(metric)
    numbers = [fields.in_range("values", value, low, high) for value in values]
    spread = fields.take("sd")
    if spread is not None and (not isinstance(spread, list) or len(spread) != len(values)):
        raise fields.fail(f"sd = {spread!r}", "it must be a list with one number per value")
    sds = [None] * len(values) if spread is None else [fields.in_range("sd", sd, 0, 1e9) for sd in spread]
    if spread is not None and seeds < 2:
        raise fields.fail("sd", "a standard deviation needs seeds of at least 2")
    fields.done()
    return [
        Value(metric, step, level, number, n, seeds, sd, measured, codes)
        for (step, level), number, sd in zip(places, numbers, sds, strict=True)
    ]


def _range(metric: str) -> tuple[float, float]:
    if metric in PERCENT_METRICS:
        return 0.0, 100.0
    return (-100.0, 100.0) if metric in ("difference", "sqnr") else (0.0, 1e9)


def _places(fields: Table) -> list[tuple[Step, float]]:
    steps, step, levels = fields.take("steps"), fields.take("step"), fields.take("levels")
    if (steps is None) == (step is None):
        raise fields.fail("steps and step", "exactly one of them is needed")
    if steps is not None and levels is not None:
        raise fields.fail("steps with levels", "values go by step or, at one step, by level", "give step instead")
    if levels is not None:
        if not isinstance(levels, list):
            raise fields.fail(f"levels = {levels!r}", "it must be a list of fractions")
        found = [(check_step(fields, step), fields.in_range("levels", level, 0, 1)) for level in levels]
    else:
        entries = [step] if steps is None else steps
        if not isinstance(entries, list):
            raise fields.fail(f"steps = {entries!r}", "it must be a list")
        found = [(check_step(fields, entry), 0.0) for entry in entries]
    if len(set(found)) != len(found):
        raise fields.fail("steps or levels", "one is given twice")
    return found


def check_step(fields: Table, step: Any) -> Step:
    """Return a step number from 0 on, or a word such as end, best, unstated."""
    if isinstance(step, str) and step.strip() and "@" not in step:
        return step
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= MAX_STEP:
        raise fields.fail(f"step = {step!r}", "it must be a whole number from 0 on, or a word")
    return step


def _items(fields: Table, default: int | None) -> int | None:
    return fields.whole("n", 1) if "n" in fields else default


def _measured(fields: Table) -> dict[str, str]:
    found = {name: value for name in MEASURED if (value := fields.take(name)) is not None}
    for name, value in found.items():
        if not isinstance(value, str) or not value.strip():
            raise fields.fail(f"{name} = {value!r}", "it must be a text that is not empty")
    if "engine" in found:
        fields.one_of("engine", found["engine"], ENGINES)
    for letter in found.get("noise", "C").split("+"):
        fields.one_of("noise", letter, (*NOISE_LETTERS, "C"))
    return found
