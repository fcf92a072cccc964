"""Rows and sentences about judged claims, shared by the terminal and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.text import signed

CLAIM_HEADER = ("id", "claim", "difference", "p", "runs", "seeds", "reason")
_PLACE = ("experiment", "where", "values (n, source)", "noise at evaluation")
ARM_HEADER = (*_PLACE, "effective configuration", "replicates")
REPLICATE_HEADER = ("step", "runs", "sd", "degrees of freedom", "effective configuration")
CRITERION_HEADER = ("criterion", "outcome", "statement", "estimate", "90 %", "p", "attainable p", "runs", "reason")
ARM_SPARE = ("replicates", "effective configuration", "where")
CRITERION_SPARE = ("attainable p", "runs", "p", "estimate", "reason")
VERDICT_WORDS: Mapping[str, str] = {
    "supported": "replicated arms, interval clear of 0",
    "supported_single_seed": "more than replicates differ by, one run per arm",
    "not_established": "no such difference is shown",
    "void": "what the claim is about was not there",
    "confounded": "the arms differ in more than the claimed factor",
    "false": "the data contradict the claim",
}
HOW = (
    "Differences in percentage points unless the metric is another; p from the questions alone (unpaired: no answers "
    "of single questions are left); runs per arm with accidental replicates; seeds per arm that would settle the "
    "claimed size (80 % power, 5 % two-sided), given the pooled sd."
)


def claim_rows(claims: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row per claim, in the order given."""
    return [
        (
            claim["id"],
            claim["claim"],
            signed(claim["numbers"]["difference"]),
            p_text(claim["numbers"]["p"]),
            " / ".join(map(str, claim["numbers"]["runs_per_arm"])) or "-",
            text_of(claim["seeds_per_arm_to_settle"]),
            claim["reason"],
        )
        for claim in claims
    ]


def grouped(report: Mapping[str, Any]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Return (verdict, its claims) for every verdict that occurs."""
    groups = [(verdict, [c for c in report["claims"] if c["verdict"] == verdict]) for verdict in VERDICT_WORDS]
    return [(verdict, claims) for verdict, claims in groups if claims]


def summary_line(report: Mapping[str, Any]) -> str:
    """Return how many claims got which verdict."""
    counts = ", ".join(f"{count} {verdict}" for verdict, count in report["summary"].items())
    return f"{len(report['claims'])} claims: {counts}"


def spread_line(report: Mapping[str, Any]) -> str:
    """Return the pooled standard deviation of accidental replicates."""
    found = report["replicates"]
    if found["pooled_sd"] is None:
        return "no accidental replicates: the spread between runs is unknown"
    low, high = found["pooled_sd_range"]
    return (
        f"spread of accidental replicates: pooled sd {found['pooled_sd']:.2f} points with "
        f"{found['degrees_of_freedom']} degrees of freedom from {len(found['groups'])} groups "
        f"({low:.2f} to {high:.2f} by the choice among contradictory values); it explains "
        f"{found['explains_between_single_runs']:.2f} points between two single runs"
    )


def replicate_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the groups of runs that were one configuration."""
    return [
        (
            str(group["step"]),
            ", ".join(f"{name} {' or '.join(f'{v:g}' for v in values)}" for name, values in group["values"].items()),
            f"{group['sd']:.2f}",
            str(group["degrees_of_freedom"]),
            group["effective_configuration"],
        )
        for group in report["replicates"]["groups"]
    ]


def arm_rows(comparison: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the arms of one comparison with everything published there."""
    return [
        (
            arm["experiment"],
            arm["place"],
            "; ".join(f"{v['value']:g} (n {text_of(v['n'])}, {', '.join(v['sources'])})" for v in arm["values"]),
            ", ".join(dict.fromkeys(v["noise_at_evaluation"] for v in arm["values"])),
            arm["effective_configuration"],
            ", ".join(f"{name} {value:g}" for name, value in arm["replicates"].items()) or "-",
        )
        for arm in comparison["arms"]
    ]


def comparison_lines(comparison: Mapping[str, Any]) -> list[str]:
    """Return the numbers of one comparison, and its readings where values contradict each other."""
    lines = [f"{comparison['verdict']}: {comparison['reason']}"]
    if numbers := number_text(comparison["numbers"]):
        lines.append(numbers)
    for reading in comparison["readings"]:
        values = " and ".join(f"{value:g}" for value in reading["values"])
        items = ", ".join(dict.fromkeys(text_of(n) for n in reading["numbers"]["items_per_arm"]))
        lines.append(f"with {values} (n {items}): {reading['verdict']}; {number_text(reading['numbers'])}")
    return lines


def number_text(numbers: Mapping[str, Any]) -> str:
    """Return the numbers of a comparison in one line: difference, claimed size, both intervals, p."""
    words = {
        "difference": lambda: f"difference {signed(numbers['difference'])}",
        "claimed": lambda: f"claimed {' to '.join(f'{end:g}' for end in dict.fromkeys(numbers['claimed']))}",
        "interval": lambda: f"questions {bounds(numbers['interval'])}",
        "p": lambda: f"p {p_text(numbers['p'])}",
        "run_interval": lambda: f"runs {signed(numbers['run_difference'])} {bounds(numbers['run_interval'])}",
        "run_p": lambda: f"p {p_text(numbers['run_p'])} ({numbers['run_method']})",
        "attainable_p": lambda: f"least p of a permutation {p_text(numbers['attainable_p'])}",
    }
    return ", ".join(say() for name, say in words.items() if numbers[name] is not None)


def settle_line(claim: Mapping[str, Any]) -> str:
    """Return what would settle the claim."""
    seeds, items = claim["seeds_per_arm_to_settle"], claim["items_per_arm_to_settle"]
    parts = [f"{seeds} training seeds per arm"] if seeds else []
    parts += [f"{items:,} questions per arm if they were another sample"] if items else []
    return f"to settle it: {', '.join(parts)}" if parts else "no number of seeds settles it"


def criterion_rows(theory: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return one row per statement of every criterion of the theory."""
    rows: list[tuple[str, ...]] = []
    for criterion in theory["criteria"]:
        for statement in criterion["statements"]:
            estimate, low, high = (statement[name] for name in ("estimate", "low", "high"))
            shown = "-" if estimate is None else f"{100 * estimate:+z.2f}"
            interval = "-" if low is None else bounds((100 * low, 100 * high))
            p = p_text(statement["p"]), p_text(statement["attainable_p"])
            runs, words = " / ".join(map(str, statement["runs"])), (statement["outcome"], statement["text"])
            rows.append((criterion["name"], *words, shown, interval, *p, runs, statement["reason"]))
    return rows


def theory_lines(theory: Mapping[str, Any]) -> list[str]:
    """Return the arms' runs, every criterion in a sentence, and the outcome."""
    lines = []
    for name, runs in theory["arms"].items():
        shown = "; ".join(
            f"{run['run']} "
            + ", ".join(f"{100 * value:.1f} % at {100 * float(level):g} %" for level, value in run["accuracy"].items())
            for run in runs
        )
        lines.append(f"{name}: {shown or 'no run'}")
    lines += [f"{criterion['name']}: {criterion['outcome']} ({criterion['rule']})" for criterion in theory["criteria"]]
    return [*lines, f"the theory as a whole: {theory['outcome']}"]


def bounds(pair: Sequence[float]) -> str:
    """Return a pair as ``[low, high]``."""
    return f"[{signed(pair[0])}, {signed(pair[1])}]"


def p_text(p: float | None) -> str:
    """Return p with three digits, ``< 0.001``, or ``-``."""
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def text_of(value: Any) -> str:
    """Return the value, or ``-`` where there is none."""
    return "-" if value is None else str(value)
