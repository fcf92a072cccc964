"""The page of a calibration and its rows: coverage of the intervals, verdicts of the gate, early stopping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.reports.page import Lines, Page, Part, Table

SUMMARY_HEADER = ("interval", "n", "settings", "lowest", "mean", "highest", "state")
COVERAGE_HEADER = ("interval", "n", "accuracy", "setting", "coverage", "simulated range", "pinned", "state")
GATE_HEADER = ("case", "n", "discordance", "verdict", "observed", "range", "predicted", "state")
EARLY_HEADER = ("true drop", "stopped early", "within", "beyond", "wrong", "mean items", "saved", "state")
SPARES = {
    SUMMARY_HEADER: ("settings", "highest", "mean"),
    COVERAGE_HEADER: ("pinned", "accuracy", "setting"),
    GATE_HEADER: ("discordance", "predicted", "range"),
    EARLY_HEADER: ("saved", "within", "beyond", "mean items"),
}
ERROR_SPARE = ("compared with", "its PASS", "its FAIL", "margin")
ERROR_HEADER = ("case", "n", "margin", "wrong PASS", "wrong FAIL", "compared with", "its PASS", "its FAIL", "state")
LYING_SPARE = ("margin / true mean", "levels")
LYING_HEADER = ("case", "n", "levels", "margin / true mean", "PASS", "FAIL", "coverage", "state")
_VERDICTS = {"PASS": "passing", "INCONCLUSIVE": "inconclusive", "FAIL": "failing"}


def percent(share: float | None) -> str:
    """Return a share in percent with one decimal, ``-`` for none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def _range(share: Mapping[str, Any], repetitions: int) -> str:
    return "exact" if repetitions == 0 else f"{percent(share['low'])} to {percent(share['high'])}"


def coverage_rows(cells: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row per interval and setting, in the order of the intervals' first appearance."""
    order = list(dict.fromkeys(cell["interval"] for cell in cells))
    found: list[tuple[str, ...]] = []
    for cell in sorted(cells, key=lambda cell: order.index(cell["interval"])):
        shown = cell["shown_failing"]
        found.append(
            (
                cell["interval"],
                str(cell["n"]),
                "-" if cell["accuracy"] is None else f"{cell['accuracy']:g}",
                cell["spread"],
                percent(cell["coverage"]["estimate"]),
                _range(cell["coverage"], cell["repetitions"]),
                "-" if shown else f"{percent(cell['pinned'][0])} to {percent(cell['pinned'][1])}",
                _state(cell),
            )
        )
    return found


def summary_rows(cells: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row per interval and size: lowest, mean and highest coverage over the settings."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["interval"], cell["n"]), []).append(cell)
    order = list(dict.fromkeys(name for name, _ in groups))
    found: list[tuple[str, ...]] = []
    for (name, n), group in sorted(groups.items(), key=lambda entry: order.index(entry[0][0])):
        shares = [cell["coverage"]["estimate"] for cell in group]
        states = [_state(cell) for cell in group]
        state = next((word for word in ("BROKEN", "too narrow") if word in states), states[0])
        few = (min(shares), sum(shares) / len(shares), max(shares))
        found.append((name, str(n), str(len(group)), *(percent(share) for share in few), state))
    return found


def _state(cell: Mapping[str, Any]) -> str:
    if cell["shown_failing"]:
        return "too narrow" if cell["coverage"]["high"] < 0.94 else "-"
    return "holds" if cell["holds"] else "BROKEN"


def gate_rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return three rows per case, one for each verdict."""
    return [
        (
            case["name"],
            str(case["n"]),
            percent(case["discordance"]),
            verdict,
            percent(case["observed"][verdict]["estimate"]),
            _range(case["observed"][verdict], case["repetitions"]),
            percent(case["predicted"][name]) if case["predicted"] else "-",
            "BROKEN" if case["problems"] else "holds",
        )
        for case in cases
        for verdict, name in _VERDICTS.items()
    ]


def early_rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row per true drop."""
    found: list[tuple[str, ...]] = []
    for case in cases:
        gap = case["drop"] - case["margin"]
        decided = {name: case["decided"][name]["estimate"] for name in ("within", "beyond")}
        wrong = max(decided.values()) if abs(gap) < 1e-12 else decided["within" if gap > 0 else "beyond"]
        found.append(
            (
                f"{100 * case['drop']:.2f} points",
                percent(case["stopped"]["estimate"]),
                *(percent(share) for share in decided.values()),
                percent(wrong),
                f"{case['mean_items']:.0f} of {case['n']}",
                percent(case["saved"]),
                "BROKEN" if case["problems"] else "holds",
            )
        )
    return found


def error_rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row per case whose true drop is the margin."""
    return [
        (
            case["name"],
            str(case["n"]),
            f"{100 * case['margin']:g} points",
            *(percent(case[name]) for name in ("passing", "failing")),
            case["other"],
            *(percent(case[name]) for name in ("other_passing", "other_failing")),
            "BROKEN" if case["problems"] else "holds",
        )
        for case in cases
    ]


def distribution_rows(cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row per case of the gate on distributions."""
    return [
        (
            case["name"],
            str(case["n"]),
            str(case["levels"]),
            "-" if case["apart"] == "rounding" else f"{case['share']:g}",
            *(percent(case[name]["estimate"]) for name in ("passing", "failing")),
            "-" if case["apart"] == "rounding" else percent(case["covered"]["estimate"]),
            "BROKEN" if case["problems"] else "holds",
        )
        for case in cases
    ]


def problem_lines(report: Mapping[str, Any]) -> list[str]:
    """Return everything that does not hold, one sentence each."""
    lines = [
        f"{cell['interval']} at n {cell['n']}, accuracy {cell['accuracy']}, {cell['spread']}: coverage"
        f" {percent(cell['coverage']['estimate'])}, pinned {percent(cell['pinned'][0])} to {percent(cell['pinned'][1])}"
        for stage in report["coverage"]
        for cell in stage["cells"]
        if not cell["holds"]
    ]
    lines += [
        f"{case['name']} at n {case['n']}: {words}"
        for case in (*report["gate"], *report["errors"], *report["distributions"])
        for words in case["problems"]
    ]
    lines += [
        f"early stopping at a drop of {100 * case['drop']:g} points: {words}"
        for case in report["early_stopping"]
        for words in case["problems"]
    ]
    return lines


def calibration_page(report: Mapping[str, Any], cells: bool = False) -> Page:
    """Return every table, what does not hold, and the line that says whether all does; ``cells``: every setting."""
    header, rows_of = (COVERAGE_HEADER, coverage_rows) if cells else (SUMMARY_HEADER, summary_rows)
    parts: list[Part] = [
        Table.of(
            f"Coverage of intervals of nominal 95 %: {stage['name']}",
            header,
            rows_of(stage["cells"]),
            spare=SPARES[header],
        )
        for stage in report["coverage"]
    ]
    parts.append(
        Table.of(
            "Gate: observed verdicts beside the planner's odds",
            GATE_HEADER,
            gate_rows(report["gate"]),
            spare=SPARES[GATE_HEADER],
        )
    )
    first = report["early_stopping"][0]
    title = (
        f"Early stopping: margin {100 * first['margin']:g} points, discordance {percent(first['discordance'])},"
        f" {100 * first['share']:g} % of alpha {first['alpha']:g} spent on it"
    )
    parts.append(Table.of(title, EARLY_HEADER, early_rows(report["early_stopping"]), spare=SPARES[EARLY_HEADER]))
    title = "Wrong verdicts at a true drop equal to the margin, nominal 5 %"
    parts.append(Table.of(title, ERROR_HEADER, error_rows(report["errors"]), spare=ERROR_SPARE))
    title = "Gate on distributions: FAIL is wrong in every case, PASS where the margin is the true mean (nominal 5 %)"
    legend = "Coverage: of the interval of two one-sided 95 % bounds, nominal 90 %."
    rows = distribution_rows(report["distributions"])
    parts.append(Table.of(title, LYING_HEADER, rows, spare=LYING_SPARE, legend=legend))
    state = "everything holds" if report["holds"] else "something does not hold: do not trust verdicts made here"
    said = f"calibration ({report['effort']}, {report['seconds']:.0f} s): {state}"
    return Page.of("Calibration", *parts, Lines.of(problem_lines(report)), Lines((said,)))
