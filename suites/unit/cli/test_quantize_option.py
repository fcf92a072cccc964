"""``--quantize`` and ``--across``: what a user sees, and what is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long
Verb = Callable[..., Any]
TINY = (
    *("--items", "2", "--noise-levels", "0,0.05", "--noise-seeds", "1"),
    *("--max-new-tokens", "4", "--device", "cpu", "--no-positive-control"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quantize")


def test_a_quantized_run_says_so(cli: Verb, tiny: Path, folder: Path) -> None:
    said = cli("eval", tiny, *TINY, "--quantize", "weights=mxfp4,activations=mxfp8", "--out", folder / "run")
    assert said.code == 0, said.err
    assert "scale_rule=floor) @ op:linear at:weight on 7 sites" in said.err
    shown = " ".join(said.out.split())
    assert "level 0 %, quantized: fake_quant(format=mxfp4, scale_rule=floor) @ op:linear at:weight: 7 sites" in shown
    assert "SQNR" in shown and "linear:weight" in shown and "certificate: certified" in shown
    text = (folder / "run" / "report.md").read_text()
    assert (
        "Kept in high precision by fake_quant(format=mxfp4, scale_rule=floor) @ op:linear at:weight (7 sites)" in text
    )
    assert "- lm_head: output head: kept in high precision by default" in text
    report = json.loads((folder / "run" / "report.json").read_text())
    assert [part["sites"] for part in report["quantization"]] == [7, 7]
    assert report["measurement_key"]["quantization"].count("scale_rule=floor") == 2


@pytest.fixture
def at_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights solve nothing; their run is accepted all the same, as older versions did."""
    monkeypatch.setattr("harness.baselines.book.check_acceptable", lambda run: None)


@pytest.mark.usefixtures("at_the_floor")
def test_the_gate_wants_the_axis_to_be_declared(
    cli: Verb, tiny: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = ("--baselines-dir", folder / "books")
    assert cli("eval", tiny, *TINY, "--out", folder / "plain").code == 0
    assert cli("baseline", "accept", folder / "plain", "--name", "plain", "--reason", "a test", *books).code == 0
    judge = ("gate", tiny, "--baseline", "plain", *books, "--quantize", "weights=nvfp4", "--out", folder / "gated")
    said = cli(*judge, "--json")
    assert said.code == 4 and "measurement keys differ in quantization" in said.out
    assert not (folder / "gated").exists()
    monkeypatch.setattr("harness.library.gate.announce", lambda *_, **__: None)  # at the floor all is foregone
    said = cli(*judge, "--across", "quantization", "--json")
    reasons = json.loads(said.out)["reasons"]
    assert any("across quantization: candidate 'fake_quant(format=nvfp4)" in reason for reason in reasons)
    assert not any("measurement keys differ" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--quantize", "mxfp4"), "write weights=mxfp4"),
        (("--quantize", "weights=fp3"), "unknown format 'fp3'"),
        (("--quantize", "fake_quant(mxfp8) @ op:linear at:input tokens:first"), "it acts on all tokens"),
        (("--quantize", "activations=mxfp4_32x32"), "at:input; its tiles span several rows"),
        (("--quantize", "weights=mxfp4", "--noise", "fake_quant @ op:linear at:weight"), "with --quantize"),
    ],
)
def test_eval_refuses_in_one_line(cli: Verb, tiny: Path, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    said = cli("eval", tiny, *TINY[:2], *TINY[4:], *options, "--out", tmp_path / "run")
    assert said.code == 2 and words in said.err and len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("at_the_floor")
def test_a_finished_run_cannot_be_quantized_afterwards(cli: Verb, tiny: Path, folder: Path, tmp_path: Path) -> None:
    assert cli("eval", tiny, *TINY, "--out", tmp_path / "run").code == 0
    books = ("--baselines-dir", tmp_path / "books")
    assert cli("baseline", "accept", tmp_path / "run", "--name", "plain", "--reason", "a test", *books).code == 0
    said = cli("gate", tmp_path / "run", "--baseline", "plain", *books, "--quantize", "weights=mxfp4")
    assert said.code == 2 and "made as it was made; leave --quantize out, or give the checkpoint" in said.err
    said = cli("gate", tmp_path / "run", "--baseline", "plain", *books, "--across", "task")
    assert said.code == 2 and "known: quantization, dtype" in said.err


def test_a_quantized_item_is_replayed(cli: Verb, tiny: Path, tmp_path: Path) -> None:
    assert cli("eval", tiny, *TINY, "--quantize", "weights=mxfp4", "--out", tmp_path / "run").code == 0
    from harness.runs.loaded import load_run

    item = load_run(tmp_path / "run").results[0].item
    said = cli("replay", tmp_path / "run", "--item", item, "--level", "0.05", "--json")
    assert said.code == 0, said.err
    report = json.loads(said.out)
    assert report["reproduced"] and any(row["op"] == "linear:weight" for row in report["ledger"])
