"""What is not there is said in one line before torch is imported, also where it is a name on a hub out of reach."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.checkpoints.hub import located
from harness.checkpoints.there import HubName, check_checkpoint, check_config, check_there, hub_name, resembling
from harness.exceptions import CheckpointError

pytestmark = pytest.mark.unit

HUB = "Qwen/Qwen2.5-0.5B"
VERBS = (
    ("eval", HUB, "--task", "arith", "--out", "run"),
    ("plan", HUB),
    ("plan", "--config", HUB),
    ("scan", HUB, "--format", "mxfp4"),
    ("gate", HUB, "--baseline", "arith/arith-qwen2"),
    ("replay", HUB, "--item", "x", "--level", "0"),
    ("aqn", "plan", HUB),
    ("aqn", "apply", HUB, "--sigma", "0.1", "--out", "copy"),
    ("aqn", "response", HUB, "--task", "arith", "--sigmas", "0.1"),
)


def test_no_verb_imports_torch_for_what_is_not_there(tmp_path: Path) -> None:
    """All of them in one process: none takes longer than its own imports."""
    script = f"""
import contextlib, io, sys
from harness.cli.main import main
for verb in {VERBS!r}:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            main(verb)
        except SystemExit as end:
            code = end.code
    lines = [line for line in said.getvalue().splitlines() if "if nothing changed" not in line]
    assert (code, len(lines)) == (2, 1) and {HUB!r} in lines[0], (verb, code, lines)
    assert ("hf download" in lines[0]) is (verb[0] != "replay"), lines
loaded = {{"torch", "transformers"}} & set(sys.modules)
assert not loaded, loaded
"""
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "none")}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, env=offline
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nowhere", "./a/b", "/a/b", "a/b/c", "there/b"])
def test_a_path_is_not_taken_for_a_name_on_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    shown = str(Path(name))
    with pytest.raises(CheckpointError) as caught:
        check_there(Path(name))
    hub = name == "./a/b"  # a path loses its dot
    assert f"checkpoint {shown}; no such folder" in str(caught.value)
    assert ("hf download" in str(caught.value)) is hub


def test_the_base_and_the_config_are_looked_for_as_well(tmp_path: Path) -> None:
    check_checkpoint(tmp_path)
    check_config(tmp_path)
    with pytest.raises(CheckpointError, match=f"--base {HUB}; no such folder; names on a hub are not looked up here"):
        check_checkpoint(tmp_path, Path(HUB))
    with pytest.raises(CheckpointError, match=r"config no\.json; no such file; give a config.json"):
        check_config(Path("no.json"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("org/name", HubName("org/name")),
        ("org/name@v1.0", HubName("org/name", "v1.0")),
        ("org/name@refs/pr/1", HubName("org/name", "refs/pr/1")),
        ("name", None),
        ("org/name@", None),
        ("there/name", None),
        ("/org/name", None),
        ("org/name/more", None),
    ],
)
def test_names_on_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: HubName | None) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    assert hub_name(name) == meant and (meant is None or str(meant) == name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("checkpoint/mine", "checkpoints/mine"),
        ("checkpoints/mien", "checkpoints/mine"),
        ("checkpoints/other", ""),
        ("else/where", ""),
        ("checkpoints/mine", ""),
        ("checkpoints/file", ""),
    ],
)
def test_a_folder_of_nearly_the_same_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints" / "mine").mkdir(parents=True)
    (tmp_path / "checkpoints" / "files").touch()
    assert resembling(Path(name)) == (f"did you mean {meant}?" if meant else "")
    assert resembling(tmp_path / name) == (f"did you mean {tmp_path / meant}?" if meant else "")


def test_a_misspelt_folder_is_told_before_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints" / "mine").mkdir(parents=True)
    for wrong in ("checkpoint/mine", "checkpoints/mein"):
        with pytest.raises(CheckpointError, match=r"did you mean checkpoints/mine\?$"):
            located(Path(wrong))
