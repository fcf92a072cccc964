"""Shows what a noise specification will perturb: the page of ``harness plan`` (no torch)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.noise.paths import range_text
from harness.record import FORWARD
from harness.reports.page import Heading, Lines, Page, Part, Table
from harness.reports.tables import CALLS, DIRECTION, ELEMENTS, LAYER, OPERATOR, SITE, SITES, direction_text, share_text

LEFT_OUT_HEADER = ("product", "count", "reason")
SPARE = ("way", DIRECTION, CALLS, f"{LAYER}s", OPERATOR)
ESTIMATE = "estimate, measured on this machine's kernel and matmul, not on this model"

_NUMBERED = re.compile(r"(?<=\.)\d+(?=[.:]|$)")
_UNITS = {"per_token": "", "per_key": " heads x keys", "per_pair": " heads x all keys", "per_pass": " a pass"}


def plan_page(report: Mapping[str, Any], by_site: bool = False) -> Page:
    """Return a table for each specification with what it will not perturb, what it covers and costs; ``by_site`` shows
    every site by itself."""
    parts: list[Part] = []
    for plan in report["plans"]:
        lines = plan["expected"]["lines"]
        rows = [_line_row([line], line["site"]) for line in lines] if by_site else grouped_rows(lines)
        header, title = plan_header(report["tokens"]), f"What {plan['noise']} will perturb"
        width = len(header)
        parts += [
            *([Heading(title)] if parts else []),
            Table(title, header, tuple(row[:width] for row in rows), _total_row(plan)[:width], spare=SPARE),
            Lines.of(plan_lines(plan, report)),
            *(
                Table.of(words, LEFT_OUT_HEADER, left_out_rows(plan[field]))
                for words, field in (("Left out on purpose", "excluded"), ("Out of reach in this model", "uncovered"))
                if plan[field]
            ),
        ]
    warnings = Lines.of(f"warning: {conflict}" for conflict in report["conflicts"])
    return Page.of("Plan", Lines((_model_line(report),)), *parts, warnings)


def plan_header(tokens: int) -> tuple[str, ...]:
    """Return the columns of the table of sites; the last one only for several tokens."""
    columns = (SITE, OPERATOR, "way", DIRECTION, f"{LAYER}s", SITES, CALLS, f"{ELEMENTS} per token")
    return columns if tokens == 1 else (*columns, f"{ELEMENTS} of {tokens:,} tokens")


def grouped_rows(lines: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return one row for all sites that are alike but for the numbers in their names."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for line in lines:
        width = None if line["width"] is None else tuple(line["width"].items())
        alike = (line[name] for name in ("op", "way", "point", "direction", "operand", "calls"))
        groups.setdefault((pattern(line["site"]), *alike, width), []).append(line)
    return [_line_row(group, key[0] if len(group) > 1 else group[0]["site"]) for key, group in groups.items()]


def pattern(name: str) -> str:
    """Return ``name`` with its numbers as asterisks: ``model.layers.*.mlp.up_proj``."""
    return _NUMBERED.sub("*", name)


def left_out_rows(reasons: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return one row for products that are alike and left out for the same reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault((pattern(name), reason), []).append(name)
    return [
        (alike if len(names) > 1 else names[0], f"{len(names):,}", reason) for (alike, reason), names in groups.items()
    ]


def _line_row(group: Sequence[Mapping[str, Any]], name: str) -> tuple[str, ...]:
    first = group[0]
    known = first["width"] is not None
    width = {unit: sum(line["width"][unit] for line in group) for unit in _UNITS} if known else None
    return (
        name,
        first["op"],
        first["way"] if first["point"] in ("output", first["way"]) else f"{first['way']} {first['point']}",
        direction_text(first["direction"], first["operand"]),
        _layers([line["layer"] for line in group]),
        f"{len(group):,}",
        f"{sum(line['calls'] for line in group):,}",
        width_text(width),
        f"{sum(line['elements'] for line in group):,}" if known else "?",
    )


def _total_row(plan: Mapping[str, Any]) -> tuple[str, ...]:
    expected = plan["expected"]
    more = " + ?" if expected["unknown"] else ""
    layers = _layers([line["layer"] for line in expected["lines"]])
    numbers = f"{plan['sites']:,}", f"{expected['calls']:,}", width_text(expected["width"]) + more
    return ("all", "", "", "", layers, *numbers, f"{expected['elements']:,}{more}")


def width_text(width: Mapping[str, int] | None) -> str:
    """Return ``43,008``; ``336 heads x keys`` where a token's result grows with its keys; ``?`` where unknown."""
    if width is None:
        return "?"
    return " + ".join(f"{width[unit]:,}{words}" for unit, words in _UNITS.items() if width[unit]) or "0"


def _layers(layers: Iterable[int | None]) -> str:
    known = sorted({layer for layer in layers if layer is not None})
    ranges: list[tuple[int, int]] = []
    for layer in known:
        if ranges and layer == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], layer
        else:
            ranges.append((layer, layer))
    return range_text(ranges) or "-"


def _model_line(report: Mapping[str, Any]) -> str:
    weights = (
        f"checkpoint {report['checkpoint']}" if "checkpoint" in report else f"config {report['config']}, no weights"
    )
    return f"{report['model']} ({weights}), attention {report['attention']}, {report['dtype']}, {report['device']}"


def plan_lines(plan: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    """Return what the table does not say: calls, shares, cost, and what to beware of."""
    expected, tokens = plan["expected"], report["tokens"]
    generated = tokens > 1 and all(line["direction"] == FORWARD for line in expected["lines"])
    one_by_one = f", {tokens * expected['calls']:,} token by token" if generated else ""
    lines = [f"calls: {expected['calls']:,} in one pass{one_by_one}; elements are those of one sequence"]
    if expected["last_token_only"]:
        heads = ", ".join(expected["last_token_only"])
        lines.append(f"{heads}: every token here; generation asks for the last token of a prompt only")
    if expected["unknown"]:
        lines.append(f"?: {expected['unknown']} gradients of function calls, whose sizes show only while they run")
    return [
        *lines,
        *_share_lines(plan, tokens),
        *_selection_lines(plan),
        *_fused_lines(plan, report),
        _overhead_line(plan),
        *_warned(plan),
    ]


def _share_lines(plan: Mapping[str, Any], tokens: int) -> list[str]:
    products = plan["products"]
    of_all = (
        f"of the {_flops(products['flops'])} of matrix products in a forward over {tokens:,} token{'s' * (tokens > 1)}"
    )
    lines = [f"{share_text(products['perturbed'], products['flops'])} % {of_all} lies in perturbed sites"]
    if products["inside"]:
        inside = share_text(products["inside"], products["flops"])
        lines.append(f"{inside} % lies inside modules of which only the result is perturbed")
    return lines


def _selection_lines(plan: Mapping[str, Any]) -> list[str]:
    """Which tokens of a sequence are perturbed; all figures above are those of tokens that are."""
    selection = plan.get("selection")
    if selection is None:
        return []
    words = f"only tokens:{','.join(selection['tokens'])} of each sequence"
    if "rows" not in selection:
        return [f"{words}; --tokens PROMPT --new-tokens ANSWER say what share of a sequence that is"]
    sequence = f"a sequence of {selection['prompt']:,} prompt tokens and {selection['generated']:,} generated"
    rows = f"{selection['rows']:,} of {selection['of_rows']:,} token rows"
    head = f"{selection['head_rows']:,} of {selection['of_head_rows']:,} of the output head"
    return [f"{words}: in {sequence} {rows}, {head}, {100 * selection['share']:.1f} % of the matrix products"]


def _fused_lines(plan: Mapping[str, Any], report: Mapping[str, Any]) -> list[str]:
    fused, head = report["vllm_fused_linears"], set(plan["expected"]["last_token_only"])
    linears = {line["site"] for line in plan["expected"]["lines"] if line["op"] == "linear"} - head
    if fused is None or not linears:
        return []
    return [f"vLLM fuses the linears of a layer: {fused} in all there, {len(linears)} here, the head apart"]


def _overhead_line(plan: Mapping[str, Any]) -> str:
    cost = plan["overhead"]
    noise, products = (_seconds(cost[f"{name}_seconds_per_token"]) for name in ("noise", "product"))
    speed = f"{cost['nanoseconds_per_element']:.1f} ns an element, {cost['gflops_per_second']:.0f} GFLOP/s"
    what = f"{noise} of noise to {products} of products per token in a batch of {cost['batch']} ({speed})"
    return f"overhead {_times(cost['ratio'])} the products: {what}: {ESTIMATE}"


def _warned(plan: Mapping[str, Any]) -> list[str]:
    return [f"warning: {warning}" for warning in plan["warnings"]]


def _times(ratio: float) -> str:
    return f"{100 * ratio:.1f} % of" if ratio < 1 else f"{ratio:,.1f} times"


def _flops(number: float) -> str:
    for unit, size in (("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} FLOP"


def _seconds(number: float) -> str:
    return f"{number * 1e3:.3g} ms" if number >= 1e-3 else f"{number * 1e6:.3g} us"
