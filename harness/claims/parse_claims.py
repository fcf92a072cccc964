"""``[[fact]]``, ``[[claim]]`` and ``[[theory]]`` tables.

A place is written ``EXPERIMENT@STEP`` with any of an engine, a noise level (fraction), ``n=N`` and ``metric=NAME``
behind it: ``E5b@end native 0.05 n=100``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harness.claims.formulas import FORMULAS
from harness.claims.model import (
    ABSENT,
    ACCURACY,
    COPIED,
    DIFFERENCE,
    DUPLICATE,
    ENGINES,
    EQUIVALENCE,
    FACT_KINDS,
    FACTORS,
    FORMULA,
    IDENTICAL,
    IN_TRAINING,
    KINDS,
    METRICS,
    NATIVE,
    PLACES,
    PREDICTION,
    RATE,
    RESTS_ON,
    ROLES,
    Claim,
    Comparison,
    Fact,
    Place,
    Registry,
    Step,
    TheoryArm,
)
from harness.claims.parse_experiments import check_step
from harness.exceptions import HarnessError
from harness.strict import Table
from harness.text import nearest

DIRECTIONS = {"higher": 1, "lower": -1}
ARM_KEYS = ("arm", "reference", "second_arm", "second_reference")


def parse_fact(table: Any, where: str) -> Fact:
    """Return one ``[[fact]]`` with exactly the keys of its kind."""
    fields = Table(table, where)
    name = fields.text("id")
    fields.where = f"{where}: fact {name!r}"
    kind = fields.choice("kind", FACT_KINDS)
    failure, experiments, text = fields.text("failure"), fields.texts("experiments"), fields.text("text")
    factor = effective = of = engine = ""
    step: Step | None = None
    if kind == ABSENT:
        factor, effective = fields.choice("factor", FACTORS), fields.text("effective")
        engine = fields.text("engine", "")
        if engine:
            fields.one_of("engine", engine, ENGINES)
    if kind in (DUPLICATE, COPIED):
        of = fields.text("of")
    if kind == COPIED:
        step = check_step(fields, fields.take("step"))
    fields.done()
    return Fact(name, kind, failure, experiments, text, factor, effective, engine, of, step)


def parse_claim(table: Any, where: str, sources: Collection[str]) -> Claim:
    """Return one ``[[claim]]`` with its ``[[claim.comparison]]`` tables."""
    fields = Table(table, where)
    name = fields.text("id")
    fields.where = f"{where}: claim {name!r}"
    text, codes, factors = fields.text("claim"), fields.texts("sources"), fields.texts("factors")
    for code in codes:
        fields.one_of("sources", code, sources)
    for factor in factors:
        fields.one_of("factors", factor, FACTORS)
    comparisons = tuple(map(_comparison, fields.tables("comparison")))
    if comparisons and all(comparison.role != RESTS_ON for comparison in comparisons):
        raise fields.fail("comparison", f"at least one has the role {RESTS_ON}")
    fields.done()
    return Claim(name, text, codes, factors, comparisons)


def parse_theory(table: Any, where: str) -> TheoryArm:
    """Return one ``[[theory]]`` arm."""
    fields = Table(table, where)
    name = fields.text("arm")
    fields.where = f"{where}: theory arm {name!r}"
    text, experiment = fields.text("text"), fields.text("experiment", "")
    step = check_step(fields, fields.take("step")) if experiment else None
    engine = fields.choice("engine", ENGINES, NATIVE)
    fields.done()
    return TheoryArm(name, experiment or None, step, engine, text)


def parse_place(text: str, fields: Table) -> Place:
    """Return the place written as ``text``."""
    name, at, rest = text.partition("@")
    words = rest.split()
    if not at or not name or not words:
        raise fields.fail(
            f"place {text!r}", "it is written EXPERIMENT@STEP", "for example E5b@116 or E5b@end native 0.05"
        )
    step: Step = int(words[0]) if words[0].isdigit() else words[0]
    engine, level, n, metric = IN_TRAINING, 0.0, None, ACCURACY
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if equals and key == "metric":
            metric = fields.one_of("metric", value, METRICS)
        elif equals and key == "n" and value.isdigit():
            n = int(value)
        elif word in ENGINES:
            engine = word
        else:
            try:
                level = fields.in_range("level", float(word), 0, 1)
            except ValueError:
                rule = "behind the step stand an engine, a level, n=N or metric=NAME"
                raise fields.fail(f"place {text!r}: {word!r}", rule, nearest(word, ENGINES)) from None
    return Place(name, step, level, engine, metric, n)


def check_claim(claim: Claim, registry: Registry) -> None:
    """Raise :class:`HarnessError` where a comparison names an experiment or value that is not registered."""
    for comparison in claim.comparisons:
        for place in (*comparison.places, *(comparison.gap or ())):
            if place.experiment not in registry.experiments:
                raise HarnessError(
                    f"claim {claim.id}: unknown experiment {place.experiment!r}",
                    "no file has it",
                    nearest(place.experiment, registry.experiments),
                )
            if not registry.values_at(place):
                steps = {str(value.step) for value in registry.experiments[place.experiment].values}
                raise HarnessError(
                    f"claim {claim.id}: no value at {place}",
                    "a claim rests on registered values",
                    f"{place.experiment} has values at {', '.join(sorted(steps)) or 'no step'}",
                )


def _comparison(fields: Table) -> Comparison:
    kind = fields.choice("kind", KINDS, DIFFERENCE)
    role = fields.choice("role", ROLES, RESTS_ON)
    places = tuple(parse_place(fields.text(key), fields) for key in ARM_KEYS[: PLACES[kind]])
    claimed, margin, gap, sign = _claimed(fields), None, None, 0
    formula, inputs = "", dict[str, float | tuple[float, ...]]()
    if kind in (DIFFERENCE, "interaction"):
        sign = DIRECTIONS[fields.choice("direction", DIRECTIONS)]
        ends = fields.texts("gap", needed=False)
        if ends and len(ends) != 2:
            raise fields.fail(f"gap = {list(ends)}", "it names two places")
        gap = (parse_place(ends[0], fields), parse_place(ends[1], fields)) if ends else None
    if kind == EQUIVALENCE:
        margin = fields.number("margin", 1e-9, 1e9) if "margin" in fields else None
    if kind == FORMULA:
        formula = fields.choice("formula", FORMULAS)
        inputs = _inputs(fields, formula)
    if kind in (PREDICTION, RATE, FORMULA) and claimed is None:
        raise fields.fail("no claimed", f"a {kind} is compared with what was claimed")
    if kind == IDENTICAL and claimed is not None:
        raise fields.fail("claimed", "a claim of a change too small to see has no size")
    if (
        kind in (DIFFERENCE, "interaction")
        and claimed is not None
        and claimed[0] * sign <= 0
        and claimed[1] * sign <= 0
    ):
        raise fields.fail(f"claimed = {claimed}", "its sign contradicts the direction")
    fields.done()
    return Comparison(kind, role, places, sign, claimed, margin, gap, formula, inputs)


def _claimed(fields: Table) -> tuple[float, float] | None:
    value = fields.take("claimed")
    if value is None:
        return None
    ends = value if isinstance(value, list) else [value, value]
    if len(ends) != 2:
        raise fields.fail(f"claimed = {value!r}", "it is a number or [low, high]")
    low, high = (fields.in_range("claimed", end, -1e12, 1e12) for end in ends)
    if low > high:
        raise fields.fail(f"claimed = {value!r}", "low stands before high")
    return low, high


def _inputs(fields: Table, formula: str) -> dict[str, float | tuple[float, ...]]:
    table, names = fields.take("inputs", {}), FORMULAS[formula].inputs
    if not isinstance(table, Mapping) or set(table) != set(names):
        raise fields.fail(f"inputs = {table!r:.80}", f"formula {formula} takes {', '.join(names)}")
    found: dict[str, float | tuple[float, ...]] = {}
    for name, value in table.items():
        if isinstance(value, list):
            found[name] = tuple(fields.in_range(name, entry, 0, 1e12) for entry in value)
        else:
            found[name] = fields.in_range(name, value, 0, 1e12)
    return found
