"""Every reader of a user's file against every way in which a file can be wrong: one line, code 2, advice that fits.

What is missing or a folder is a matter of the path, what may not be read one of permissions, and what is no such file
is to be corrected or written again; nothing is half-written.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import accept_baseline
from harness.testing import write_run

pytestmark = pytest.mark.unit
Verb = Callable[..., Any]

GSM8K, SVAMP = ("score", "--task", "gsm8k"), ("score", "--task", "svamp")
SCORED = ("--completions", "c.jsonl", "--out", "new")
READERS: dict[str, tuple[str, Callable[[str], tuple[str, ...]]]] = {
    "items": ("items.jsonl", lambda file: (*GSM8K, "--data", file, *SCORED)),
    "Parquet": ("items.parquet", lambda file: (*GSM8K, "--data", file, *SCORED)),
    "SVAMP": ("items.json", lambda file: (*SVAMP, "--data", file, *SCORED)),
    "completions": ("completions.jsonl", lambda file: ("score", "--completions", file, "--out", "new")),
    "pairs": ("pairs.jsonl", lambda file: (*RESPONSE, "--task", "pairs", "--data", file)),
    "noise": ("noise.toml", lambda file: ("eval", "CK", "--noise", file, "--out", "new")),
    "policy": ("policy.toml", lambda file: ("gate", "run", "--baseline", "b", "--policy", file)),
    "baseline": ("old.json", lambda file: ("gate", "run", "--baseline", file)),
    "config": ("config.json", lambda file: ("plan", "--config", file)),
    "recipe": ("recipe.toml", lambda file: ("train", "check", file)),
    "matrix": ("matrix.toml", lambda file: ("train", "matrix", file, "--plan")),
    "factors": ("factors.json", lambda file: ("aqn", "plan", "CK", "--sigma", "1", "--multipliers", f"inverse:{file}")),
    "scan": ("scan.json", lambda file: ("report", file)),
}
RESPONSE = ("aqn", "response", "CK", "--sigmas", "0.01,0.1")
WRONG: dict[str, Callable[[Path], object]] = {
    "missing": lambda file: None,
    "a folder": lambda file: file.mkdir(),
    "a circle of links": lambda file: file.symlink_to(file),
    "empty": lambda file: file.write_bytes(b""),
    "binary": lambda file: file.write_bytes(bytes(range(256)) * 4),
    "cut off": lambda file: file.write_text('{"a": [1,\n'),
    "a list": lambda file: file.write_text("[1, 2]\n"),
    "without its fields": lambda file: file.write_text("x = 1\n" if file.suffix == ".toml" else '{"x": 1}\n'),
}
PLACE = ("missing", "a folder", "a circle of links")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    found = tmp_path_factory.mktemp("files")
    write_run(found / "run", {0.0: [[1]] * 60, 0.05: [[1, 1]] * 60})
    accept_baseline(found / "run", found / "baselines", "b", "for a test", False)
    (found / "c.jsonl").write_text(json.dumps({"question": "a", "completion": "#### 5"}) + "\n")
    (found / "CK").symlink_to(tiny)
    return found


def refused(cli: Verb, call: tuple[str, ...]) -> str:
    said = cli(*call)
    assert (said.code, said.out) == (2, ""), said
    assert not Path("new").exists()
    return str(said.line)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("reader", READERS)
def test_a_wrong_file_is_refused_with_its_name_and_fitting_advice(
    cli: Verb, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, wrong: str
) -> None:
    monkeypatch.chdir(folder)
    name, call = READERS[reader]
    WRONG[wrong](tmp_path / name)
    said = refused(cli, call(str(tmp_path / name)))
    recipe = reader == "recipe" and wrong in ("empty", "without its fields")
    assert ("recipe recipe" if recipe else str(tmp_path)) in said, "which file it is"
    assert "permission" not in said
    if wrong in PLACE:
        assert not any(words in said for words in ("copy it again", "write the file again", "JSON", "restore")), said


@pytest.mark.parametrize("reader", [each for each in READERS if each != "Parquet"])
def test_a_file_that_may_not_be_read_is_a_matter_of_permissions(
    cli: Verb, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    monkeypatch.chdir(folder)
    name, call = READERS[reader]
    file = tmp_path / name
    file.write_text("{}")
    real = Path.read_bytes

    def denied(path: Path) -> bytes:
        if path == file:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", denied)
    said = refused(cli, call(str(file)))
    assert "Permission denied" in said and "check its permissions" in said
    assert str(file) in said


def test_a_folder_is_no_baseline(cli: Verb, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    said = refused(cli, ("gate", "run", "--baseline", "run"))
    assert "baseline run; it is a folder, and a baseline is a file; accept the run" in said
