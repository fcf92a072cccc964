"""The page of a scan, its JSON report, and the files of an output folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.diagnostics.scan_result import LayerScan, ScanResult
from harness.exceptions import HarnessError
from harness.reports.page import Heading, Lines, Page, Part, Prose, Table
from harness.reports.pages import SCAN_FILE
from harness.reports.render.markdown import markdown
from harness.reports.scan_heatmap import heatmap
from harness.reports.scan_tables import (
    EFFECT_HEADER,
    EFFECT_SPARE,
    HOW,
    HOW_EFFECT,
    LAYER_HEADER,
    LAYER_SPARE,
    LEFT_OUT_HEADER,
    MODULE_HEADER,
    MODULE_SPARE,
    checkpoint_line,
    clean_line,
    effect_rows,
    effect_title,
    layer_rows,
    left_out,
    module_rows,
    nonfinite_line,
    origin_line,
    summary_lines,
    title,
    verdict_lines,
    verdicts,
)
from harness.runs.folder import guarded, write_atomically
from harness.strict import read_object
from harness.text import brief

JSON_FILE, MARKDOWN_FILE, HEATMAP_FILE = SCAN_FILE, "scan.md", "scan.html"


def scan_report(result: ScanResult, policy: str) -> dict[str, Any]:
    """Return the result with what follows from it: layers, both policies, and which has the last word. Strict JSON."""
    layers = [_layer(layer) for fmt in result.formats for what in result.measured for layer in result.layers(fmt, what)]
    return {
        **result.to_json(),
        "layers": layers,
        "ranking": {fmt: [effect.group for effect in result.ranked_effects(fmt)] for fmt in result.formats},
        "policy": policy,
        "verdicts": [verdict.to_json() for verdict in verdicts(result)],
        "summary": summary_lines(result, policy),
    }


def scan_page(result: ScanResult, policy: str, by_module: bool = False) -> Page:
    """Return tables for every format, both policies, what was left out, and the last word of ``policy``.

    ``by_module`` shows the modules in a terminal too; documents always have them.
    """
    warning, said = nonfinite_line(result), origin_line(result)
    warned = [Prose(warning, strong=True)] if warning else []
    origin = [Prose(said, strong=True)] if said else []
    first = Lines((checkpoint_line(result),))
    parts: list[Part] = [first, *origin, Lines.of(summary_lines(result, policy), detail=True)]
    for fmt in result.formats:
        for what in result.measured:
            parts += _measured(result, fmt, what, by_module)
        if result.effects:
            heading = effect_title(result, fmt)
            parts += [
                Heading(heading),
                Table.of(heading, EFFECT_HEADER, effect_rows(result, fmt), spare=EFFECT_SPARE, legend=HOW_EFFECT),
            ]
    parts.append(Heading("How to read it"))
    if result.clean is not None:
        parts.append(Lines((clean_line(result),)))
    if result.excluded or result.unmeasured:
        parts.append(Table.of("Left out", LEFT_OUT_HEADER, left_out(result)))
    parts += [*warned, Lines.of(summary_lines(result, policy))]
    return Page.of("Scan", *parts, *_background(result))


def stored_page(path: Path) -> Page:
    """Return the page of the folder of a scan. Raises :class:`harness.exceptions.HarnessError` for what is none."""
    file = path / JSON_FILE if path.is_dir() else path
    if not file.is_file():
        raise HarnessError(
            f"scan {path}", f"there is no {JSON_FILE} in it", "give the --out of a finished harness scan"
        )
    report = read_object(file)
    try:
        return scan_page(ScanResult.from_json(report), report["policy"], by_module=True)
    except (ValueError, TypeError, KeyError) as error:
        raise HarnessError(f"scan {path}", f"it cannot be read ({brief(error)})", "scan again") from None


def _measured(result: ScanResult, fmt: str, what: str, by_module: bool) -> list[Part]:
    name = title(result, fmt, what)
    modules = Table.of(f"modules: {name}", MODULE_HEADER, module_rows(result, fmt, what), not by_module, MODULE_SPARE)
    layers = Table.of(name, LAYER_HEADER, layer_rows(result, fmt, what), spare=LAYER_SPARE, legend=HOW)
    return [Heading(name), layers, modules, Lines.of(verdict_lines(result, fmt, what))]


def _background(result: ScanResult) -> list[Part]:
    checkpoint, settings = result.checkpoint, result.settings
    rows = [("weights (SHA-256)", checkpoint["weights"]), ("settings (SHA-256)", checkpoint["settings"])]
    rows += [("hub", f"{hub['id']} at {hub['revision']}") for hub in (checkpoint.get("hub"),) if hub]
    rows += [(name, str(value)) for name, value in settings.items()]
    depends = "What the numbers depend on"
    return [Heading(depends, detail=True), Table.of(depends, ("field", "value"), rows, detail=True)]


def write_scan(out: Path, result: ScanResult, policy: str) -> tuple[Path, ...]:
    """Write ``scan.json``, ``scan.md`` and the heat map ``scan.html``, each atomically; return their paths."""
    texts = {
        JSON_FILE: json.dumps(scan_report(result, policy), indent=2, allow_nan=False) + "\n",
        MARKDOWN_FILE: markdown(scan_page(result, policy)),
        HEATMAP_FILE: heatmap(result),
    }
    with guarded(out, "scan"):
        for name, text in texts.items():
            write_atomically(out / name, text)
    return tuple(out / name for name in texts)


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
