"""Reports: every number with its n and interval, verdicts with reasons, the ledger, and honest dashes."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree

import pytest
from rich.console import Console

from harness.exceptions import StoreError
from harness.gates import GatePolicy, gate
from harness.gates.arms import Replicate, ReplicatedArm
from harness.gates.compare import compare_arms
from harness.pytest_plugin.fixture import refuse_rerun
from harness.pytest_plugin.reporting import Reporting, write_folder
from harness.pytest_plugin.rows import PROPERTY, VERDICT_PROPERTY, points, session_page
from harness.record import SiteCount
from harness.reports.compare_page import comparison_page
from harness.reports.gate_page import gate_page
from harness.reports.page import Page
from harness.reports.render.markdown import markdown
from harness.reports.render.terminal import show, text_lines
from harness.reports.run_page import run_page, site_table
from harness.reports.run_report import run_report, write_reports
from harness.reports.tables import (
    certificate_lines,
    fraction,
    gate_rows,
    ledger_rows,
    level_rows,
    percent,
    reason_lines,
)
from harness.runs.loaded import Run, load_run
from harness.stats import wilson

pytestmark = pytest.mark.unit

POLICY = GatePolicy(margin=0.03, bootstrap_resamples=200)
GOOD = {0.0: [[1]] * 45 + [["unparsed"]] * 5, 0.05: [[1, 1]] * 40 + [[0, 1]] * 10}
WORSE = {0.0: [[1]] * 10 + [[0]] * 40, 0.05: [[1, 1]] * 8 + [["truncated", 0]] * 42}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, make_run: Any) -> Run:
    return load_run(make_run(tmp_path_factory.mktemp("reports") / "good", GOOD))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, make_run: Any, run: Run) -> dict[str, Any]:
    """The report of a worse run gated against a good one."""
    worse = load_run(make_run(tmp_path_factory.mktemp("reports") / "worse", WORSE))
    return run_report(worse, gate(worse.arm, run.arm, POLICY))


def said(page: Page, width: int = 180) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    show(page, console)
    return console.export_text()


def sites(counts: Sequence[SiteCount]) -> Page:
    return Page.of("sites", site_table(counts))


def test_a_report_is_strict_json_with_every_part(run: Run) -> None:
    report = json.loads(json.dumps(run_report(run), allow_nan=False))
    assert set(report) == {
        *("run", "kind", "checkpoint", "measurement_key", "environment", "levels", "missing_records"),
        *("certificate", "ledger", "plan", "quantization", "gate", "flips", "notes", "code", "subscores"),
    }
    clean, noisy = report["levels"]
    assert (clean["level"], clean["n"], clean["draws"], clean["seeds"]) == (0.0, 50, 50, [0])
    assert (noisy["level"], noisy["n"], noisy["draws"], noisy["seeds"]) == (0.05, 50, 100, [0, 1])
    assert clean["accuracy"] == wilson(45, 50, 0.05).to_json()
    assert noisy["accuracy"]["estimate"] == pytest.approx(0.9)
    assert noisy["accuracy"]["low"] < 0.9 < noisy["accuracy"]["high"]
    assert clean["retention"] is None
    assert noisy["retention"]["estimate"] == pytest.approx(1.0)
    assert (clean["unscored"], noisy["unscored"]) == ({"unparsed": 5}, {})
    assert (clean["scores"]["strict"], clean["format_rate"], noisy["scores"]["flexible"]) == (0.9, 0.9, 0.9)
    assert report["gate"] is None


NOTES = (
    "not replayed at level 5 %, so that noise was on is shown by ledger and audits alone: it draws anew",
    "no positive control was asked for",
    "nondeterministic engine, to which discordance is attributed: 1 of 8",
    "mixed code: 2 versions",
)


@pytest.mark.parametrize("gated", [False, True])
def test_what_a_certificate_notes_stands_first_everywhere(run: Run, gated: bool) -> None:
    certificate = replace(run.arm.certificate, notes=NOTES)
    noted = replace(run, arm=replace(run.arm, certificate=certificate))
    result = gate(noted.arm, run.arm, POLICY) if gated else None
    said_of = [f"candidate: {note}" if gated else note for note in NOTES]
    report = run_report(noted, result)
    assert report["notes"] == said_of and list(report)[:3] == ["run", "kind", "notes"]
    assert markdown(run_page(report)).splitlines()[2:6] == [f"- {note}" for note in said_of]
    assert said(run_page(report)).splitlines()[:4] == said_of
    if result is not None:
        found = result.to_json()
        assert list(found)[:3] == ["verdict", "exit_code", "notes"] and list(found["notes"]) == said_of
        assert said(gate_page(found)).splitlines()[:4] == said_of


def test_a_comparison_of_runs_shows_their_notes_first(run: Run) -> None:
    noted = replace(run.arm, certificate=replace(run.arm.certificate, notes=NOTES))
    arms = [ReplicatedArm(name, (Replicate(noted, name, None),)) for name in ("a", "b")]
    found = compare_arms(arms).to_json()
    assert found["notes"] == [f"{noted.label}: {note}" for note in NOTES]
    first = said(comparison_page(found), width=400).splitlines()[: len(NOTES)]
    assert all(note in line for note, line in zip(NOTES, first, strict=True))


def test_the_plugin_shows_notes_first(tmp_path: Path) -> None:
    row = {"level": 0.05, "verdict": "PASS", "n": 9, "difference": None, "limit": 0.03, "against": "clean"}
    row |= {"certificate": "certified", "run": "r", "label": "r", "test": "t", "reasons": [], "notes": list(NOTES)}
    first = [f"r: {note}" for note in NOTES]
    shown = text_lines(session_page([row, row]), 80)
    assert shown[:4] == first and shown[4].split()[0] == "level" and max(map(len, shown[4:])) <= 80
    write_folder(tmp_path, [row])
    assert (tmp_path / "robustness.md").read_text().splitlines()[2:6] == [f"- {note}" for note in first]
    assert json.loads((tmp_path / "robustness.json").read_text())["notes"] == first
    said_there = [each.text for each in ElementTree.parse(tmp_path / "robustness.xml").iter("system-out")]
    assert said_there == ["\n".join(NOTES)]


def test_every_rendering_of_a_session_says_the_same(tmp_path: Path) -> None:
    odd = "a\x1b[31m|b\x00\u202e"
    interval = {"estimate": -0.06, "low": -0.091, "high": -0.032}
    row = {"level": 0.05, "verdict": "FAIL", "n": 200, "difference": interval, "limit": 0.03, "against": odd}
    row |= {"certificate": "certified", "run": odd, "label": odd, "test": odd, "reasons": [odd], "notes": [odd]}
    write_folder(tmp_path, [row])
    terminal = "\n".join(text_lines(session_page([row]), 200))
    document = (tmp_path / "robustness.md").read_text()
    (case,) = ElementTree.parse(tmp_path / "robustness.xml").iter("testcase")
    failure = case.find("failure")
    assert failure is not None and failure.attrib["type"] == "FAIL"
    assert failure.text == "a\\x1b[31m|b\\x00\\u202e" == case.attrib["classname"]
    assert json.loads((tmp_path / "robustness.json").read_text())["judged"] == [row]
    for words in ("FAIL", "-6.0 [-9.1, -3.2]", "-3", "200", "5 %"):
        assert words in terminal and words in document
    assert failure.attrib["message"].startswith("FAIL level 5 %: -6.0 [-9.1, -3.2] pp against a\\x1b[31m")
    assert "\x1b" not in terminal + document and "\u202e" not in terminal + document


def test_a_rerun_counts_once_in_the_summary() -> None:
    reporting = Reporting(cast(Any, None))
    row = json.dumps({"verdict": "FAIL", "level": 0.05})
    for outcome in ("rerun", "failed"):
        properties = [(PROPERTY, row)]
        report = pytest.TestReport(
            "t::a", ("t", 0, "a"), {}, cast(Any, outcome), None, "call", [], 0.1, 0, 1, properties
        )
        reporting.pytest_runtest_logreport(report)
    assert reporting._rows == [{"test": "t::a", "verdict": "FAIL", "level": 0.05}]


def test_a_test_that_has_judged_may_not_run_again() -> None:
    node = SimpleNamespace(user_properties=[("other", "x")])
    request = cast(pytest.FixtureRequest, SimpleNamespace(node=node))
    refuse_rerun(request)
    node.user_properties.append((VERDICT_PROPERTY, "FAIL level 5 %"))
    with pytest.raises(pytest.fail.Exception, match="FAIL level 5 %: a rerun of a statistical test is refused"):
        refuse_rerun(request)


def test_the_ledger_is_summed_by_level_and_operator(run: Run) -> None:
    clean, noisy = run_report(run)["ledger"]
    assert (clean["level"], clean["op"], clean["sites"], clean["changed"]) == (0.0, "linear", 2, 0)
    rows = 50 * 2 * 5 + 50 * 2 * 3
    assert (noisy["rows"], noisy["calls"]) == (rows, 4)
    assert noisy["elements"] == noisy["changed"] == 500 * 40 + 300 * 50
    assert noisy["relative_rms_low"] == pytest.approx(0.05)
    assert noisy["error_to_signal"] == pytest.approx(0.05)


def test_a_run_of_several_processes_reports_the_sites_of_one(run: Run) -> None:
    """A run that was stopped and resumed has counted every site in two processes."""
    halves = [
        replace(
            count,
            process=f"here:{number}",
            **{name: getattr(count, name) // 2 for name in ("calls", "rows", "elements", "changed", "nonzero")},
            **{name: getattr(count, name) / 2 for name in ("signal", "error", "relative")},
        )
        for count in run.counts
        for number in (1, 2)
    ]
    resumed, whole = (run_report(replace(run, counts=counts))["ledger"] for counts in (halves, run.counts))
    for both, one in zip(resumed, whole, strict=True):
        processes = [entry["process"] for entry in both.pop("entries")]
        assert processes == ["here:1", "here:2"] * len(one.pop("entries"))
        assert both == one
    assert said(sites(halves)).count("here:2") == len(run.counts)


def test_a_site_that_overflowed_is_a_dash_and_stays_json(run: Run) -> None:
    numbers = {"calls": 1, "rows": 2, "elements": 3, "changed": 3, "nonzero": 3, "nonfinite": 1}
    energies = {"signal": math.inf, "error": math.nan, "relative": math.nan}
    counts = [SiteCount("a", "linear", 0.05, **numbers, **energies)]
    report = run_report(Run(run.path, run.manifest, run.results, counts, run.arm))
    json.dumps(report, allow_nan=False)
    assert report["ledger"][0]["nonfinite"] == 1
    assert ledger_rows(report["ledger"])[0][-2:] == ("- - -", "-")


def test_percent_and_fraction_show_the_interval_or_a_dash() -> None:
    interval = {"estimate": 0.815, "low": 0.7706, "high": 0.852}
    assert percent(interval) == "81.5 [77.1, 85.2]"
    assert percent({"estimate": -0.01, "low": -0.02, "high": 0.0}, signed=True) == "-1.0 [-2.0, +0.0]"
    assert fraction(interval) == "0.815 [0.771, 0.852]"
    assert percent(None) == fraction(None) == "-"


def test_level_and_gate_rows_hold_n_interval_and_flips(run: Run, judged: dict[str, Any]) -> None:
    clean, noisy = level_rows(run_report(run))
    assert clean == (
        "0 %",
        "50",
        "50",
        percent(wilson(45, 50).to_json()),
        "-",
        "90.0 / 90.0",
        "90.0",
        "0.0",
        "5 unparsed",
    )
    assert noisy[:3] == ("5 %", "50", "100") and noisy[-1] == "0"
    first, second = gate_rows(judged["gate"])
    assert first[:3] == ("0 %", "FAIL", "50") and first[-1] == "35 / 0"
    assert first[3].startswith("20.0 [") and first[4].startswith("90.0 [") and first[5].startswith("-70.0 [-")
    assert second[:2] == ("5 %", "FAIL")
    dead = {
        **judged["gate"]["levels"][0],
        "accuracy": None,
        "baseline_accuracy": None,
        "difference": None,
        "bootstrap": None,
    }
    assert gate_rows({"levels": [dead]})[0][3:7] == ("-",) * 4


@pytest.mark.parametrize("width", range(61, 184, 7))
def test_no_width_above_sixty_stacks_a_table_or_cuts_what_decides(run: Run, judged: dict[str, Any], width: int) -> None:
    lines = said(Page.of("", *run_page(judged).brief), width).splitlines()
    assert sum(line.startswith("┏") for line in lines) == 3, "gate, levels and ledger stand as tables"
    assert max(len(line) for line in lines if line[:1] in "┏┃┡│└├") <= width
    text = "\n".join(lines)
    for row in gate_rows(judged["gate"]):
        assert all(cell in text for cell in (row[0], row[1], row[5]))
    assert all(row[3] in text for row in level_rows(judged))


def test_what_columns_mean_stands_under_their_table(run: Run, judged: dict[str, Any]) -> None:
    text = " ".join(said(run_page(judged)).split())
    assert "In brackets: one-sided 95 % bounds. n: items measured on both sides." in text
    assert "draws: one an item and noise seed) right in the baseline only / here only." in text
    result = gate(run.arm, run.arm, replace(POLICY, alpha=0.1, early_stop=0.5))
    assert "one-sided 90 % bounds (difference and bootstrap: one-sided 95 % bounds)" in said(
        gate_page(result.to_json())
    )
    clean = replace(run.arm, outcomes={0.0: run.arm.outcomes[0.0]})
    assert "Lost / gained: items right" in said(gate_page(gate(clean, clean, POLICY).to_json()))


def test_lost_and_gained_count_draws_where_there_are_several(judged: dict[str, Any]) -> None:
    first, second = gate_rows(judged["gate"])
    flips = judged["gate"]["levels"][1]["flips"]
    assert first[-1] == "35 / 0" and second[-1] == f"{flips['lost']} / {flips['gained']} of 100 draws"


def test_a_flip_is_one_row_an_item_with_every_answer(judged: dict[str, Any]) -> None:
    """Ten items lost the right answer at one seed of two; 32 at both, of which one could not be read at either."""
    text = markdown(run_page(judged)).split("## Flips against the baseline")[1]
    assert "Level 0 %: 35 items, the first 10 here." in text
    assert "| lost | i0010 |" in text or "| lost | i10 |" in text
    noisy = text.split("Level 5 %: ")[1]
    assert noisy.startswith("74 outcomes of 42 items, the first 10 here.")
    row = next(line for line in noisy.splitlines() if "| lost in 2 of 2 seeds |" in line)
    assert "| 5 | right | truncated, wrong (6) |" in row
    flip = judged["flips"][0]
    assert (flip["reference"], flip["baseline"], flip["reason"], flip["answer"]) == ("5", "right", "wrong", "6")


def test_a_huge_answer_is_cut_to_its_end(judged: dict[str, Any]) -> None:
    texts = ["x" * 10**7 + " #### 5|\n6", "a|b\n#### 6", "\u202e#### 6"]
    flips = [{**judged["flips"][0], "item": str(place), "text": text} for place, text in enumerate(texts)]
    shown = markdown(run_page({**judged, "flips": flips}))
    assert len(shown) < 20_000 and "... " + "x" * 100 in shown and r"#### 5\| 6 |" in shown
    assert r"| a\|b #### 6 |" in shown and r"\\u202e#### 6" in shown and "\u202e" not in shown


def test_no_zero_is_negative() -> None:
    tiny = {"estimate": -1e-9, "low": -1e-5, "high": -0.0}
    assert percent(tiny, signed=True) == "+0.0 [+0.0, +0.0]" and percent(tiny) == "0.0 [0.0, 0.0]"
    assert fraction(tiny) == "0.000 [0.000, 0.000]"
    assert points({"level": 0.0, "difference": tiny, "against": "clean", "limit": 0.0, "n": 1}).endswith(
        "limit 0 pp, n 1"
    )


def test_markdown_shows_verdict_reasons_levels_and_ledger(judged: dict[str, Any]) -> None:
    text = markdown(run_page(judged))
    assert text.startswith("# Robustness of ckpt\n")
    assert "**FAIL** against " in text
    for row in (*gate_rows(judged["gate"]), *level_rows(judged), *ledger_rows(judged["ledger"])):
        assert "| " + " | ".join(row) + " |" in text
    for line in (*reason_lines(judged["gate"]), *certificate_lines(judged["certificate"])):
        assert f"- {line}" in text
    assert "lies below -3.00 (margin 3.00 points" in text
    assert "positive control at scale 1: 0 of 10 right answers left of 16 items, 2 outputs changed" in text
    control = {"scale": 1.0, "items": 16, "clean_right": 0, "noisy_right": 0, "outputs_changed": 15}
    lines = certificate_lines({**judged["certificate"], "control": control})
    assert "positive control at scale 1: 15 of 16 outputs changed" in lines  # no text of a perplexity is right
    assert "## Left out on purpose" in text and "- rotary: on purpose" in text
    assert "Out of reach" not in text
    assert "| weights (SHA-256) | w1 |" in text and "torch " in text
    assert "Unfinished" not in text


def test_markdown_says_that_a_run_is_unfinished(judged: dict[str, Any]) -> None:
    assert "**Unfinished: 7 records are missing.**" in markdown(run_page(judged | {"missing_records": 7, "gate": None}))


def test_a_bar_in_a_cell_does_not_end_it(judged: dict[str, Any]) -> None:
    text = markdown(run_page(judged | {"measurement_key": {"noise": "a|b"}}))
    assert "| noise | a\\|b |" in text
    widths = {
        line.replace("\\|", "").count("|") for line in text.split("## What the numbers depend on")[1].splitlines()
    }
    assert widths == {0, 3}


def test_invalid_evidence_is_spelled_out(tmp_path: Path, make_run: Any) -> None:
    run = load_run(make_run(tmp_path / "run", GOOD, changed=0, error=0.0, relative=0.0))
    report = run_report(run)
    (line,) = [line for line in certificate_lines(report["certificate"]) if line.startswith("INVALID")]
    assert line.startswith("INVALID: level 5 %: ineffective injection: layers.0.up changed none of")
    assert f"- {line}" in markdown(run_page(report))
    assert line in said(run_page(report))


def test_the_terminal_shows_the_same(run: Run, judged: dict[str, Any]) -> None:
    text = said(run_page(run_report(run)))
    for row in (*level_rows(run_report(run)), *ledger_rows(run_report(run)["ledger"])):
        assert all(cell in text for cell in row)
    assert "certificate: certified" in text
    text = said(gate_page(judged["gate"]))
    for row in gate_rows(judged["gate"]):
        assert all(cell in text for cell in row)
    assert all(line in text for line in reason_lines(judged["gate"]))
    assert "verdict: FAIL  (fixed sequence over levels" in text


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_cuts_no_number(run: Run, judged: dict[str, Any], width: int) -> None:
    assert "\u2026" not in said(run_page(run_report(run)), width=width)
    assert "\u2026" not in said(gate_page(judged["gate"]), width=width)
    assert "\u2026" not in said(sites(run.counts), width=width)


def test_the_terminal_takes_names_as_they_are(judged: dict[str, Any]) -> None:
    gated = {**judged["gate"], "baseline": {**judged["gate"]["baseline"], "label": "[bold]odd[/bold] [name]"}}
    assert "Gate against [bold]odd[/bold] [name]" in said(gate_page(gated))
    counts = [SiteCount("layers[a].up", "linear", 0.05, calls=1, rows=2, elements=3, changed=4, nonzero=5)]
    text = said(sites(counts))
    assert "layers[a].up" in text and "5 %" in text


def test_reports_that_cannot_be_written_are_one_line(tmp_path: Path, run: Run, refusal: Callable[..., str]) -> None:
    write_reports(tmp_path, run_report(run))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]
    text = refusal(write_reports, tmp_path / "missing", run_report(run), kind=StoreError)
    assert "No such file or directory" in text
