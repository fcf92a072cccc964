"""The report of a scan: one dictionary, the terminal's tables, Markdown, and the files of an output folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from harness.diagnostics.scan_result import LayerScan, ScanResult
from harness.reports.layout import print_lines, print_table, stdout_console
from harness.reports.markdown_parts import bullets, table_lines
from harness.reports.scan_heatmap import heatmap
from harness.reports.scan_tables import (
    EFFECT_HEADER,
    HOW,
    HOW_EFFECT,
    LAYER_HEADER,
    LEFT_OUT_HEADER,
    MODULE_HEADER,
    checkpoint_line,
    clean_line,
    effect_rows,
    effect_title,
    layer_rows,
    left_out,
    module_rows,
    nonfinite_line,
    summary_lines,
    title,
    verdict_lines,
    verdicts,
)
from harness.runs.folder import guarded, write_atomically

JSON_FILE, MARKDOWN_FILE, HEATMAP_FILE = "scan.json", "scan.md", "scan.html"


def scan_report(result: ScanResult, policy: str) -> dict[str, Any]:
    """The result with what follows from it: layers, both policies, and which one has the last word. Strict JSON."""
    layers = [_layer(layer) for fmt in result.formats for what in result.measured for layer in result.layers(fmt, what)]
    return {
        **result.to_json(),
        "layers": layers,
        "ranking": {fmt: [effect.group for effect in result.ranked_effects(fmt)] for fmt in result.formats},
        "policy": policy,
        "verdicts": [verdict.to_json() for verdict in verdicts(result)],
        "summary": summary_lines(result, policy),
    }


def print_scan(result: ScanResult, policy: str, by_module: bool, console: Console | None = None) -> None:
    """Tables for every format, both policies, what was left out, and the last word of ``policy``."""
    console = console or stdout_console()
    print_lines(console, [checkpoint_line(result)])
    for fmt in result.formats:
        for what in result.measured:
            print_table(console, title(result, fmt, what), LAYER_HEADER, layer_rows(result, fmt, what))
            if by_module:
                print_table(
                    console, f"modules: {title(result, fmt, what)}", MODULE_HEADER, module_rows(result, fmt, what)
                )
            print_lines(console, verdict_lines(result, fmt, what))
            console.print()
        if result.effects:
            print_table(console, effect_title(result, fmt), EFFECT_HEADER, effect_rows(result, fmt))
            console.print()
    if result.clean is not None:
        print_lines(console, [clean_line(result), HOW_EFFECT])
    if result.excluded or result.unmeasured:
        print_table(console, "Left out", LEFT_OUT_HEADER, left_out(result))
    print_lines(console, [HOW])
    warning = nonfinite_line(result)
    print_lines(console, [*([warning] if warning else []), *summary_lines(result, policy)])


def write_scan(out: Path, result: ScanResult, policy: str) -> tuple[Path, ...]:
    """Writes ``scan.json``, ``scan.md`` and the heat map ``scan.html``, each atomically; returns their paths."""
    texts = {
        JSON_FILE: json.dumps(scan_report(result, policy), indent=2, allow_nan=False) + "\n",
        MARKDOWN_FILE: markdown(result, policy),
        HEATMAP_FILE: heatmap(result),
    }
    with guarded(out):
        for name, text in texts.items():
            write_atomically(out / name, text)
    return tuple(out / name for name in texts)


def markdown(result: ScanResult, policy: str) -> str:
    """The report as Markdown text."""
    warning = nonfinite_line(result)
    parts = ["# Scan", "", checkpoint_line(result), "", *bullets(summary_lines(result, policy)), ""]
    parts += [f"**{warning}**", ""] if warning else []
    for fmt in result.formats:
        for what in result.measured:
            parts += [f"## {title(result, fmt, what)}", "", *bullets(verdict_lines(result, fmt, what)), ""]
            parts += [*table_lines(LAYER_HEADER, layer_rows(result, fmt, what)), ""]
            parts += ["Modules, worst first:", "", *table_lines(MODULE_HEADER, module_rows(result, fmt, what)), ""]
        if result.effects:
            parts += [f"## {effect_title(result, fmt)}", "", *table_lines(EFFECT_HEADER, effect_rows(result, fmt)), ""]
    parts += [HOW, ""]
    if result.clean is not None:
        parts += [f"{clean_line(result)}. {HOW_EFFECT}", ""]
    if result.excluded or result.unmeasured:
        parts += ["## Left out", "", *table_lines(LEFT_OUT_HEADER, left_out(result)), ""]
    checkpoint, settings = result.checkpoint, result.settings
    rows = [("weights (SHA-256)", checkpoint["weights"]), ("settings (SHA-256)", checkpoint["settings"])]
    rows += [(name, str(value)) for name, value in settings.items()]
    return "\n".join([*parts, "## What the numbers depend on", "", *table_lines(("field", "value"), rows), ""])


def _layer(layer: LayerScan) -> dict[str, Any]:
    return {
        "group": layer.group,
        "what": layer.what,
        "format": layer.format,
        "modules": len(layer.modules),
        "nonfinite": layer.nonfinite,
        "metrics": layer.metrics.to_json(),
        "expected": layer.expected.to_json(),
    }
