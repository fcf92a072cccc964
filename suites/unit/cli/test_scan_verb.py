"""``harness scan``: what it prints and keeps, what it resumes, and every refusal in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import harness.diagnostics.effect as effect_module
import harness.diagnostics.weights as weights_module
from harness.diagnostics.scan_store import LINES
from harness.reports import progress

pytestmark = pytest.mark.long

Verb = Callable[..., Any]
UNASKED = ("--task", "arith", "--items", 3, "--device", "cpu")
TASK = (*UNASKED, "--max-new-tokens", 4)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that is no terminal: workers of pytest-xdist set COLUMNS."""
    monkeypatch.delenv("COLUMNS", raising=False)


def test_weights_need_no_task(cli: Verb, tiny: Path) -> None:
    said = cli("scan", tiny, "--format", "mxfp4,nvfp4,mxfp8", "--modules")
    assert said.code == 0
    for words in ("mxfp4 (scale rule floor)", "weights in nvfp4", "mxfp8_e4m3 (scale rule floor)"):
        assert words in said.out
    assert "calibrated policy, weights in mxfp4" in said.out and "does not meet on Gaussian data either" in said.out
    assert "model.layers.0.self_attn.q_proj" in said.out and "embedding" in said.out
    assert "elements in mxfp4 (scale rule floor), nvfp4, mxfp8_e4m3 (scale rule floor)" in said.err


def test_json_is_one_object(cli: Verb, tiny: Path) -> None:
    found = cli("scan", tiny, "--format", "mxfp4", "--scale-rule", "rceil", "--policy", "sources", "--json").json
    assert found["schema_version"] == 1 and found["settings"]["scale_rules"] == {"mxfp4": "rceil"}
    assert len(found["checkpoint"]["weights"]) == 64 and found["effects"] == []
    assert {module["format"] for module in found["modules"]} == {"mxfp4"} and len(found["modules"]) == 7
    assert found["summary"][0].startswith("sources policy, weights in mxfp4 (scale rule rceil)")


def test_activations_and_effect(cli: Verb, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = cli("scan", tiny, "--format", "mxfp4", "--what", "both", *TASK, "--out", out)
    assert said.code == 0, said.err
    assert "activations in mxfp4" in said.out and "One layer's weights and activations" in said.out
    assert "effect: 1 variants (1 layers x 1 formats) and the clean answers, 3 items; at most 10 forwards" in said.err
    report = json.loads((out / "scan.json").read_text())
    assert {module["what"] for module in report["modules"]} == {"weights", "activations"}
    assert report["effects"][0]["items"] == 3 and report["clean"]["estimate"] == 0
    assert (out / "scan.html").read_text().startswith("<!DOCTYPE html>") and "| layer |" in (
        out / "scan.md"
    ).read_text()
    without = cli("scan", tiny, "--format", "mxfp4", "--what", "activations", *UNASKED, "--no-effect", "--json").json
    assert without["effects"] == [] and {module["what"] for module in without["modules"]} == {"activations"}
    assert without["checkpoint"]["weights"] == report["checkpoint"]["weights"]


def test_a_stopped_scan_goes_on_where_it_was(
    cli: Verb, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("scan", tiny, "--format", "mxfp4,nvfp4", "--what", "both", *TASK, "--json")
    whole = cli(*command).json
    out, measure = tmp_path / "out", weights_module._measure
    measured: list[str] = []

    def stopping(target: Any, *rest: Any) -> Any:
        if len(measured) == 4:
            raise KeyboardInterrupt
        measured.append(target.stored)
        return measure(target, *rest)

    monkeypatch.setattr(weights_module, "_measure", stopping)
    assert cli(*command, "--out", out).code == 130
    assert not list(out.glob("scan.*[!l]")), "no report of half a scan"
    first = list(measured)
    monkeypatch.setattr(
        weights_module, "_measure", lambda target, *rest: measured.append(target.stored) or measure(target, *rest)
    )
    stop = effect_module.Effects.measure

    def once(self: Any, group: str, recipe: Any, advance: Any) -> Any:
        if recipe.format.name == "nvfp4":
            raise KeyboardInterrupt
        return stop(self, group, recipe, advance)

    monkeypatch.setattr(effect_module.Effects, "measure", once)
    assert cli(*command, "--out", out).code == 130
    assert len(measured) == len(set(measured)) == 7 and measured[:4] == first
    monkeypatch.setattr(effect_module.Effects, "measure", stop)
    assert cli(*command, "--out", out).json == whole
    lines = (out / LINES).read_text()
    monkeypatch.setattr(effect_module, "Effects", None)
    assert cli(*command, "--out", out).json == whole, "a finished scan is left as it is"
    assert (out / LINES).read_text() == lines and len(measured) == 7


def test_another_scan_or_checkpoint_in_the_folder_is_refused(cli: Verb, tiny: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    out = tmp_path / "out"
    assert cli("scan", tiny, "--format", "mxfp4", "--out", out).code == 0
    other = cli("scan", tiny, "--format", "nvfp4", "--out", out)
    assert other.code == 2 and "formats" in other.line
    changed = tmp_path / "changed"
    for name in ("model.layers.0.mlp.up_proj.weight", "model.norm.weight"):
        shutil.copytree(tiny, changed, dirs_exist_ok=True)
        tensors = load_file(changed / "model.safetensors")
        tensors[name].view(-1)[0] += torch.tensor(0.5)
        save_file(tensors, changed / "model.safetensors", {"format": "pt"})
        said = cli("scan", changed, "--format", "mxfp4", "--out", out)
        assert said.code == 2 and "it belongs to other weights" in said.line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--format", "mxfp5"), "did you mean"),
        (("--format", ","), "a scan needs at least one format"),
        (("--format", "mxfp4,,nvfp4"), "an entry of the list is empty"),
        (("--format", "mxfp4", "--scale-rule", "flor"), "did you mean 'floor'"),
        (("--format", "nvfp4", "--scale-rule", "even"), "only power-of-two scales have a rule"),
        (("--format", "mxfp4", "--what", "activation"), "did you mean 'activations'"),
        (("--format", "mxfp4", "--what", "activations"), "give --task"),
        (("--format", "mxfp4", "--effect"), "give --task"),
        (("--format", "mxfp4", "--policy", "source"), "did you mean 'sources'"),
        (("--format", "mxfp4", "--adapter", "merge"), "did you mean 'merged'"),
        (("--format", "mxfp4", "--adapter", "unmerged"), "it is no adapter"),
        (("--format", "mxfp4", "--task", "arith", "--items", "0"), "at least one item"),
        (("--format", "mxfp4", "--items", "0"), "at least one item"),
        (("--format", "mxfp4", "--task", "arit"), "did you mean 'arith'"),
        (("--format", "mxfp4", "--task", "arith", "--batch-size", "0"), "at least one item"),
        (("--format", "mxfp4", "--task", "arith", "--dtype", "float8"), "--dtype float8"),
        (("--format", "mxfp4_32x32", "--what", "both", "--task", "arith"), "its tiles span several tokens"),
        (("--format", "mxfp4", "--include", "lm_hed"), "matches nothing"),
        ((), "Missing option '--format'"),
    ],
)
def test_refusals_are_one_line(cli: Verb, tiny: Path, arguments: tuple[str, ...], words: str) -> None:
    said = cli("scan", tiny, *arguments)
    assert said.code == 2 and words in said.line


def test_a_missing_or_damaged_checkpoint_is_one_line(cli: Verb, tiny: Path, tmp_path: Path) -> None:
    assert "no such folder" in cli("scan", tmp_path / "none", "--format", "mxfp4").line
    shutil.copytree(tiny, tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    out = tmp_path / "out"
    said = cli("scan", tmp_path / "cut", "--format", "mxfp4", "--out", out)
    assert said.code == 2 and "truncated or not safetensors" in said.line
    assert not out.exists()


def test_help_loads_no_torch() -> None:
    code = (
        "import sys, harness.cli.main as m\ntry: m.main(['scan', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "--scale-rule" in done.stdout


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_said_in_a_pipe_and_drawn_in_a_terminal(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    console = Console(file=StringIO(), width=120, force_terminal=terminal)
    with progress.shown(console) as shown:
        shown.cost("about [5] s")
        shown.stage("weights", 3)
        shown.advance(2)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "about [5] s" in text
    assert ("weights: 2 of 3" in text) is not terminal
