"""The tables that terminal and Markdown show, as rows of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.coverage import Coverage
from harness.coverage import share_text as percent_down
from harness.record import EXTERNAL, SiteCount
from harness.thresholds import ALPHA

LOST_GAINED = "lost / gained"
GATE_HEADER = (
    "level",
    "verdict",
    "n",
    "accuracy %",
    "baseline %",
    "difference pp",
    "bootstrap pp",
    "retention",
    LOST_GAINED,
)
GATE_SPARE = ("bootstrap pp", "retention", "baseline %", LOST_GAINED, "accuracy %", "n")
"""What a narrow terminal leaves out, the least needed column first; so for every ``SPARE`` below."""
LEVEL_SPARE = ("cut %", "format %", "draws", "unscored", "retention", "n")
SITE, OPERATOR, LAYER, DIRECTION, SITES, CALLS, ROWS, ELEMENTS = (
    *("site", "operator", "layer", "direction", "sites", "calls"),
    *("token rows", "elements"),
)
"""Columns that mean the same in what is expected (a plan) and in what was seen (a ledger)."""

LEDGER_HEADER = (
    *("level", OPERATOR, DIRECTION, SITES, CALLS, ROWS, ELEMENTS),
    *("changed %", "dy/y RMS", "energy ratio"),
)
LEDGER_SPARE = ("energy ratio", CALLS, DIRECTION, ROWS, ELEMENTS, OPERATOR, SITES)
SEEN_HEADER = (
    *(SITE, "level", OPERATOR, LAYER, DIRECTION, "phase", "process", CALLS, ROWS, ELEMENTS),
    *("changed %", "dy/y RMS"),
)
SEEN_SPARE = ("process", "phase", CALLS, LAYER, DIRECTION, ROWS, ELEMENTS, OPERATOR)
LEDGER_LEGEND = (
    "dy/y RMS: error relative to the result, smallest and largest site; energy ratio: root of error energy over signal."
)


def percent(interval: Mapping[str, float | None] | None, signed: bool = False) -> str:
    """Return ``81.5 [77.1, 85.2]``: estimate and bounds in percent or percentage points; a dash where undefined."""
    values = [(interval or {}).get(name) for name in ("estimate", "low", "high")]
    known = [100 * value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    sign = "+" if signed else ""
    return "{0:{3}z.1f} [{1:{3}z.1f}, {2:{3}z.1f}]".format(*known, sign)


def bracketed(interval: Mapping[str, float | None], digits: int, signed: bool = False) -> str:
    """Return ``3.1 [3.0, 3.2]``; what no float holds is infinite."""
    sign = "+" if signed else ""

    def number(name: str) -> str:
        value = interval[name]
        return "inf" if value is None else f"{value:{sign}z.{digits}f}"

    return f"{number('estimate')} [{number('low')}, {number('high')}]"


def fraction(interval: Mapping[str, float] | None) -> str:
    """Return ``0.952 [0.921, 0.981]``; a dash where undefined."""
    if interval is None:
        return "-"
    estimate, low, high = (interval[name] for name in ("estimate", "low", "high"))
    return f"{estimate:z.3f} [{low:z.3f}, {high:z.3f}]"


def level_header(report: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the columns of :func:`level_rows`; one names the scores that the run's scorer gives."""
    names = " / ".join(dict.fromkeys(name for level in report["levels"] for name in level["scores"]))
    return ("level", "n", "draws", "accuracy %", "retention", f"{names} %", "format %", "cut %", "unscored")


def level_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return one row per level of a run."""
    return [
        (
            f"{100 * level['level']:g} %",
            f"{level['n']:,}",
            f"{level['draws']:,}",
            percent(level["accuracy"]),
            fraction(level["retention"]),
            " / ".join(f"{100 * value:.1f}" for value in level["scores"].values()),
            f"{100 * level['format_rate']:.1f}",
            f"{100 * level['truncation_rate']:.1f}",
            ", ".join(f"{count} {reason}" for reason, count in level["unscored"].items()) or "0",
        )
        for level in report["levels"]
    ]


def gate_rows(gate: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return one row per level of a gate."""
    return [
        (
            f"{100 * level['level']:g} %",
            level["verdict"],
            f"{level['n']:,}",
            percent(level["accuracy"]),
            percent(level["baseline_accuracy"]),
            percent(level["difference"], signed=True),
            percent(level["bootstrap"], signed=True),
            fraction(level["retention"]),
            _lost_gained(level),
        )
        for level in gate["levels"]
    ]


def _lost_gained(level: Mapping[str, Any]) -> str:
    """``3 / 1``; with several noise seeds ``12 / 3 of 1,000 draws``."""
    counts, draws = f"{level['flips']['lost']} / {level['flips']['gained']}", len(level["seeds"])
    return counts if draws < 2 else f"{counts} of {level['n'] * draws:,} draws"


def gate_legend(gate: Mapping[str, Any]) -> str:
    """Return what the columns of :func:`gate_rows` mean, with the levels of their intervals."""
    alpha = gate.get("alpha", {"accuracy": ALPHA, "difference": ALPHA})
    bounds = f"In brackets: {bounds_text(alpha['accuracy'])}"
    if alpha["difference"] != alpha["accuracy"]:
        bounds += f" (difference and bootstrap: {bounds_text(alpha['difference'])})"
    several = any(len(level["seeds"]) > 1 for level in gate["levels"])
    unit = "answers (draws: one an item and noise seed)" if several else "items"
    return (
        f"{bounds}. n: items measured on both sides. Retention: accuracy / clean accuracy. Lost / gained: {unit} right"
        " in the baseline only / here only."
    )


def bounds_text(alpha: float) -> str:
    """Return ``one-sided 95 % bounds``."""
    return f"one-sided {100 * (1 - alpha):.4g} % bounds"


def ledger_rows(ledger: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row per level, operator and direction of the ledger summary."""
    return [
        (
            f"{100 * row['level']:g} %",
            row["op"],
            row["direction"],
            *(f"{row[name]:,}" for name in ("sites", "calls", "rows", "elements")),
            share_text(row["changed"], row["elements"]),
            f"{_decimal(row['relative_rms_low'])} - {_decimal(row['relative_rms_high'])}",
            _decimal(row["error_to_signal"]),
        )
        for row in ledger
    ]


def seen_rows(counts: Sequence[SiteCount]) -> list[tuple[str, ...]]:
    """Return one row per entry of the ledger."""
    return [
        (
            count.site,
            f"{100 * count.level:g} %",
            count.op,
            "-" if count.layer is None else str(count.layer),
            direction_text(count.direction, count.operand),
            count.phase or "-",
            count.process or "-",
            *(f"{number:,}" for number in (count.calls, count.rows, count.elements)),
            share_text(count.changed, count.elements),
            f"{count.relative_rms:.4f}",
        )
        for count in counts
    ]


def direction_text(direction: str, operand: str) -> str:
    """Return ``forward``, or ``backward:weight`` where it is the gradient of an operand."""
    return f"{direction}:{operand}" if operand else direction


def share_text(part: int, whole: int) -> str:
    """Return ``part`` of ``whole`` in percent; only nothing shows as 0 and only everything as 100."""
    if not part or part == whole:
        return "100" if part else "0"
    percent = 100 * part / whole
    return "< 0.01" if percent < 0.01 else "> 99.99" if percent > 99.99 else f"{percent:.2f}"


def _decimal(value: float | None) -> str:
    """Four decimals; a dash where undefined."""
    return "-" if value is None else f"{value:.4f}"


def certificate_lines(certificate: Mapping[str, Any]) -> list[str]:
    """Return the certificate in sentences: status, control, and everything that speaks against it."""
    lines = [f"certificate: {certificate['status']}", *_coverage_lines(certificate.get("coverage"))]
    for level in certificate["levels"]:
        lines.append(
            f"level {100 * level['level']:g} %: {level['counted_rows']:,} of {level['expected_rows']:,} expected token "
            f"rows at {level['sites']} sites, {level['changed']:,} of {level['elements']:,} elements changed, "
            f"{level['audited']} products recounted by the auditor"
        )
        lines += [f"level {100 * level['level']:g} %, quantized: {words}" for words in level.get("quantization", ())]
    lines += replay_lines(certificate)
    control = certificate["control"]
    if control is not None:
        lines.append(f"positive control at scale {control['scale']:g}: {_control(control)}")
    elif certificate["status"] != EXTERNAL:
        lines.append("positive control: switched off or not run")
    problems = list(certificate["problems"])
    for level in certificate["levels"]:
        problems += [f"level {100 * level['level']:g} %: {problem}" for problem in level["problems"]]
    return lines + [f"INVALID: {problem}" for problem in dict.fromkeys(problems)]


def _control(control: Mapping[str, Any]) -> str:
    """What lethal noise did; answers of which none was right, or that are neither right nor wrong, can only change."""
    changed, items = control["outputs_changed"], control["items"]
    if not control["clean_right"]:
        return f"{changed} of {items} outputs changed"
    left = f"{control['noisy_right']} of {control['clean_right']} right answers left of {items} items"
    return f"{left}, {changed} outputs changed"


def replay_lines(certificate: Mapping[str, Any]) -> list[str]:
    """Return what was computed again: by a second implementation, one line for each level, and by the engine itself."""
    lines = []
    for level in certificate.get("replays", ()):
        start = f"level {100 * level['level']:g} %, replay by {level['implementation']}: "
        if level["reason"]:
            lines.append(f"{start}not replayed: {level['reason']}")
            continue
        lines.append(
            f"{start}{level['records']:,} of {level['of']:,} records, {level['tokens'] - level['ties']:,} of "
            f"{level['tokens']:,} tokens equal, {level['ties']} ties, logits at most {level['drift']:.2g} apart"
            f"{' (on the model in memory)' if level.get('in_memory') else ''}"
        )
    repetition = certificate.get("repetition")
    if repetition is not None and repetition["difference"]:
        lines.append(f"NONDETERMINISTIC engine: {repetition['difference']}; discordance is attributed to it")
    elif repetition is not None:
        lines.append(
            f"clean answers generated twice by the engine: {repetition['items']} of {repetition['items']} equal"
        )
    return lines


def _coverage_lines(coverage: Mapping[str, Any] | None) -> list[str]:
    """How much of the model the noise reaches, in one sentence."""
    if coverage is None:
        return []
    found = Coverage.from_json(coverage)
    longest = f" ({percent_down(found.share_longest)} % over {found.longest} tokens)" if found.longest > 1 else ""
    return [f"coverage: {found.text}, by a forward over one token{longest}"]


def reason_lines(gate: Mapping[str, Any]) -> list[str]:
    """Return why each level has its verdict."""
    lines = [f"{100 * level['level']:g} %: {reason}" for level in gate["levels"] for reason in level["reasons"]]
    said = [reason for level in gate["levels"] for reason in level["reasons"]]
    return lines + [reason for reason in gate["reasons"] if not reason.endswith(tuple(said))]
