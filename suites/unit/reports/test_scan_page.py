"""What a scan shows: tables, Markdown and the heat map, from plain data and without torch."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from harness.diagnostics.scan_result import OUTSIDE, LayerEffect, Metrics, ModuleScan, ScanResult
from harness.quant_error import QuantError
from harness.reports.render.markdown import markdown
from harness.reports.render.terminal import show
from harness.reports.scan_heatmap import colour, format_svg, heatmap
from harness.reports.scan_page import scan_page, scan_report, write_scan
from harness.reports.scan_tables import (
    effect_rows,
    kl_text,
    layer_rows,
    module_rows,
    nonfinite_line,
    small,
    verdict_lines,
    word,
)
from harness.reports.tables import percent
from harness.runs.dequantized import FIELD

pytestmark = pytest.mark.unit

EXPECTED = Metrics(18.8, 0.088, 0.023, 0.21)
LAYERS, FORMATS = 12, ("mxfp4", "nvfp4")


def module(number: int, fmt: str, sqnr: float = 18.7, nonfinite: int = 0) -> ModuleScan:
    group = OUTSIDE if number >= LAYERS else f"model.layers.{number}"
    path = "lm_head" if group == OUTSIDE else f"{group}.mlp.up_proj"
    error = QuantError(1000, 0, 0, 0, sqnr, 0.09, 0.02, 0.1, 0.11, 0.21, 0.99)
    return ModuleScan(path, group, "weights", fmt, (10, 100), "bfloat16", "d", nonfinite, 0.02, error, EXPECTED)


def effect(number: int, fmt: str, kl: float | None) -> LayerEffect:
    interval = {"estimate": kl, "low": kl, "high": kl}
    accuracy = {"estimate": 0.5, "low": 0.4, "high": 0.6}
    lost = {"estimate": -0.1, "low": -0.2, "high": -0.01}
    return LayerEffect(f"model.layers.{number}", fmt, "weights", 10, 99, interval, accuracy, lost, 1, 0, 2)


@pytest.fixture
def result() -> ScanResult:
    settings = {"formats": list(FORMATS), "scale_rules": {"mxfp4": "even", "nvfp4": None}, "task": {"name": "arith"}}
    checkpoint = {"path": "a<b|c", "model": "Qwen2ForCausalLM", "weights": "ab" * 32, "settings": "cd" * 32}
    modules = [module(number, fmt) for fmt in FORMATS for number in range(LAYERS + 1)]
    modules[7] = module(7, "mxfp4", 12.0)
    effects = [effect(number, fmt, 0.01 * number) for fmt in FORMATS for number in range(LAYERS)]
    return ScanResult(
        {**checkpoint, "adapter": None},
        settings,
        tuple(modules),
        tuple(effects),
        {"model.norm.weight": "norm"},
        {"model.layers.0.experts": "fused"},
        {"estimate": 0.6, "low": 0.5, "high": 0.7},
    )


def test_the_worst_layer_comes_first_and_the_format_names_its_rule(result: ScanResult) -> None:
    rows = layer_rows(result, "mxfp4", "weights")
    assert rows[0][0] == "7" and rows[0][2:5] == ("12.00", "18.80", "-6.80")
    assert rows[0][-2:] == ("SQNR", "SQNR, dead zone, saturation, relative error")
    assert rows[1][-2] == "ok" and len(rows) == LAYERS + 1
    assert module_rows(result, "mxfp4", "weights")[0][0] == "model.layers.7.mlp.up_proj"
    lines = verdict_lines(result, "mxfp4", "weights")
    assert lines[0].endswith("1 of 13 layers comes through mxfp4 (scale rule even) worse than Gaussian data: layer 7")
    assert "13 of the 13 flags alone say nothing" in lines[2]
    assert [row[0] for row in effect_rows(result, "nvfp4")] == [str(number) for number in reversed(range(LAYERS))]


def test_the_terminal_shows_everything_at_every_width(result: ScanResult) -> None:
    for width in (60, 200):
        console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        show(scan_page(result, "calibrated", by_module=True), console)
        text = console.export_text()
        for words in ("mxfp4 (scale rule even)", "nvfp4", "calibrated", "reconsider the format", "Left out", "norm"):
            assert words in text.replace("\n", " ") or words in text, (width, words)


def test_files(result: ScanResult, tmp_path: Path) -> None:
    files = write_scan(tmp_path, result, "sources")
    assert [file.name for file in files] == ["scan.json", "scan.md", "scan.html"]
    report = json.loads((tmp_path / "scan.json").read_text(), parse_constant=pytest.fail)
    assert report == scan_report(result, "sources")
    assert report["schema_version"] == 1 and len(report["layers"]) == 2 * (LAYERS + 1)
    assert {verdict["policy"] for verdict in report["verdicts"]} == {"calibrated", "sources"}
    assert report["ranking"]["mxfp4"][0] == "model.layers.11"
    assert all(line.startswith("sources policy") for line in report["summary"])
    assert ScanResult.from_json(report).to_json() == result.to_json()
    with pytest.raises(ValueError, match="schema version 2"):
        ScanResult.from_json({**report, "schema_version": 2})


def test_markdown_tables_hold_their_columns(result: ScanResult) -> None:
    text = markdown(scan_page(result, "calibrated"))
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    assert len(tables) == 2 * 3 + 2
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_every_cell_of_the_heat_map_prints_its_value(result: ScanResult) -> None:
    for fmt in FORMATS:
        svg = ElementTree.fromstring(format_svg(result, fmt))
        texts = ["".join(node.itertext()) for node in svg.iter("{http://www.w3.org/2000/svg}text")]
        assert texts.count("18.70") == len([m for m in result.modules if (m.format, m.metrics.sqnr_db) == (fmt, 18.7)])
        assert texts.count("-10.0") == LAYERS and "0.1100" in texts
        names = [text for text in texts if text in {*map(str, range(LAYERS)), OUTSIDE}]
        assert names == [*map(str, range(LAYERS)), OUTSIDE]
    framed = format_svg(replace(result, effects=()), "mxfp4").count("#d55e00")
    assert framed == 2, "the difference and the flag of the one bad layer"


def test_what_was_dequantized_is_said_so_on_the_page_and_on_the_map(result: ScanResult) -> None:
    was = {"format": "GGUF Q4_1", "file": "a.gguf", "weights": "ab" * 32}
    shown = replace(result, checkpoint={**result.checkpoint, FIELD: was})
    said = "its weights are dequantized GGUF Q4_1 values (a.gguf), not those that it was trained to"
    assert said in heatmap(shown) and said in markdown(scan_page(shown, "calibrated"))
    assert "dequantized" not in heatmap(result)


def test_the_page_needs_nothing_else_and_escapes_what_it_shows(result: ScanResult) -> None:
    page = heatmap(result)
    assert "a&lt;b|c" in page and "a<b" not in page
    assert not re.search(r"(src|href)=|@import|url\(", page)
    assert set(re.findall(r"https?://[^\"]+", page)) == {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("excess", [None, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 50.0])
def test_text_can_be_read_on_every_colour(excess: float | None) -> None:
    def luminance(code: str) -> float:
        parts = [int(code[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    fill, ink = (luminance(code) for code in colour(excess))
    assert (max(fill, ink) + 0.05) / (min(fill, ink) + 0.05) >= 4.5


def test_numbers_that_are_none(result: ScanResult) -> None:
    assert kl_text({"estimate": None, "low": None, "high": None}) == "no number"
    assert percent({"estimate": 0.5, "low": None, "high": 1.0}) == "-"
    assert (small(None), small(3e-5), small(0.0), small(0.25)) == ("-", "3.0e-05", "0.0000", "0.2500")
    assert word("dead zone 22.5 % where Gaussian gives 8.5 %") == "dead zone"
    assert word("mlp.experts.3.w1: SQNR 2.0 dB below Gaussian") == "mlp.experts.3.w1: SQNR"
    empty = QuantError(64, 64, 0, 0, *[math.nan] * 7)
    blank = replace(result.modules[0], error=empty, expected=Metrics(*[math.nan] * 4), rms=0.0)
    shown = replace(result, modules=(blank,), effects=(effect(0, "mxfp4", None),))
    assert layer_rows(shown, "mxfp4", "weights")[0][2] == "-"
    assert "no number" in heatmap(shown)
    json.dumps(scan_report(shown, "calibrated"), allow_nan=False)
    assert nonfinite_line(result) is None
    assert "3 NaN or infinite values in 1 tensors" in str(
        nonfinite_line(replace(result, modules=(module(0, "mxfp4", nonfinite=3),)))
    )


def test_results_policies_and_reports_load_no_torch() -> None:
    code = (
        "import sys, harness.diagnostics, harness.diagnostics.policies, harness.diagnostics.scan_spec;"
        "import harness.reports.scan_page; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
