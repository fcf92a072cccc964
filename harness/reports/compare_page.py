"""The page of a comparison of arms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.reports.page import Lines, Page, Table, Verdict
from harness.reports.tables import percent

HEADER = (
    *("level", "verdict", "runs", "accuracy % of each run", "difference pp", "p (Welch)"),
    *("p (permutation)", "least p", "seeds needed"),
)
SPARE = ("least p", "p (permutation)", "seeds needed", "runs", "p (Welch)", "accuracy % of each run")
LEGEND = (
    "In brackets: the interval of the difference of the arms' means (Welch), two-sided, at alpha over the number of"
    " levels. Least p: what a permutation of so many runs can reach at all."
)


SAMPLED = ("level", "measure", "k", "value % of each run", "difference pp", "p (Welch)")
SAMPLED_LEGEND = (
    "pass@k: at least one of k sampled answers is right; pass^k: all are; maj@k: the most frequent one is. One number"
    " for each run, its mean over items; in brackets: Welch's interval over training seeds, each row by itself. They"
    " describe and decide nothing."
)


def comparison_rows(comparison: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return one row per level."""
    return [_row(level, comparison["arms"]) for level in comparison["levels"]]


def _row(level: Mapping[str, Any], arms: tuple[str, str]) -> tuple[str, ...]:
    values, difference, tested = level["values"], level["difference"], level["permutation"]
    return (
        f"{100 * level['level']:g} %",
        level["verdict"],
        " + ".join(str(len(values[arm])) for arm in arms),
        "; ".join(f"{arm}: {', '.join(f'{100 * value:.1f}' for value in values[arm])}" for arm in arms),
        _alone(None) if difference is None else _difference(difference),
        _p(difference["p"] if difference else None),
        _p(tested["p"] if tested else None),
        _p(tested["attainable_p"] if tested else None),
        "-" if level["seeds_needed"] is None else f"{level['seeds_needed']} per arm",
    )


def comparison_page(comparison: Mapping[str, Any]) -> Page:
    """Return the page of :func:`harness.gates.compare.compare_arms`: the runs' notes, the table, the reasons of every
    level, and the verdict."""
    first, second = comparison["arms"]
    factor = f" along {comparison['factor']}" if comparison["factor"] else ""
    title = f"{first} minus {second}{factor}, over training seeds"
    levels = comparison["levels"]
    shared = [reason for reason in levels[0]["reasons"] if all(reason in level["reasons"] for level in levels)]
    lines = [f"all levels: {reason}" for reason in shared]
    lines += [
        f"{100 * level['level']:g} %: {reason}"
        for level in levels
        for reason in level["reasons"]
        if reason not in shared
    ]
    table = Table.of(title, HEADER, comparison_rows(comparison), spare=SPARE, legend=LEGEND)
    verdict = Verdict(comparison["verdict"], comparison["family"])
    return Page.of(title, table, *_sampled(comparison), Lines.of(lines), notes=comparison["notes"], verdict=verdict)


def _sampled(comparison: Mapping[str, Any]) -> Iterator[Table]:
    """The table of sampled answers; nothing where nothing was sampled."""
    arms = comparison["arms"]
    rows = [
        (
            *(f"{100 * level['level']:g} %", row["measure"], str(row["k"])),
            "; ".join(f"{arm}: {', '.join(f'{100 * value:.1f}' for value in row['values'][arm])}" for arm in arms),
            _difference(row["difference"]),
            _p(row["difference"]["p"]),
        )
        for level in comparison["levels"]
        for row in level.get("repeated", ())
    ]
    if rows:
        yield Table.of("Sampled answers: k of each item's", SAMPLED, rows, spare=SAMPLED[5:], legend=SAMPLED_LEGEND)


def _difference(found: Mapping[str, Any]) -> str:
    return percent(found, signed=True) if found["low"] is not None else _alone(found)


def _alone(difference: Mapping[str, Any] | None) -> str:
    return "-" if difference is None else f"{100 * difference['estimate']:+z.1f} (no interval)"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
