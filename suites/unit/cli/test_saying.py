"""Nothing that a path, a file or a library says steers the terminal: the command line shows it instead."""

from __future__ import annotations

import ast
import json
import logging
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli import crash
from harness.cli.saying import VisibleFormatter
from harness.exceptions import HarnessError

pytestmark = pytest.mark.unit

CLI = Path(__file__).resolve().parents[3] / "harness" / "cli"
EVIL = "a\x1b[2J\x1b]0;mine\x07\u202eb\u2066c\u200fd\x9be\u2028f\U000e0041g\x7f"
"""Clears the screen, renames the window, rings, turns letters around, and breaks the line."""

PATHS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "eval": lambda path: ("eval", path, "--out", path),
    "eval data": lambda path: ("eval", path, "--out", path, "--task", "gsm8k", "--data", path),
    "noise file": lambda path: ("eval", path, "--out", path, "--noise", f"{path}.toml"),
    "gate": lambda path: ("gate", path, "--baseline", path),
    "gate policy": lambda path: ("gate", path, "--baseline", path, "--policy", path),
    "baselines folder": lambda path: ("gate", path, "--baseline", "a", "--baselines-dir", path),
    "plan": lambda path: ("plan", path),
    "plan config": lambda path: ("plan", "--config", path),
    "scan": lambda path: ("scan", path, "--format", "mxfp4"),
    "scan format": lambda path: ("scan", path, "--format", path.name),
    "report": lambda path: ("report", path),
    "report page": lambda path: ("report", path, "--page", path.name),
    "replay": lambda path: ("replay", path, "--item", "a", "--level", 0),
    "score": lambda path: ("score", "--completions", path, "--out", path),
    "compare": lambda path: ("compare", "--arm", f"{path.name}={path}", "--arm", f"b={path}"),
    "accept": lambda path: ("baseline", "accept", path, "--name", path.name, "--reason", path.name),
    "show": lambda path: ("baseline", "show", path),
    "diff": lambda path: ("baseline", "diff", path, path),
    "list": lambda path: ("baseline", "list", "--baselines-dir", path),
    "claims": lambda path: ("claims", "--registry", path),
    "claims id": lambda path: ("claims", "--id", path.name),
    "train check": lambda path: ("train", "check", path),
    "train report": lambda path: ("train", "report", path),
    "train matrix": lambda path: ("train", "matrix", path, "--plan"),
    "aqn plan": lambda path: ("aqn", "plan", path, "--sigma", 0.1),
    "aqn apply": lambda path: ("aqn", "apply", path, "--sigma", 0.1, "--out", path),
    "aqn response": lambda path: ("aqn", "response", path, "--sigmas", "0.1,0.2"),
    "verb": lambda path: (path.name,),
    "option": lambda path: ("gate", f"--{path.name}"),
    "value": lambda path: ("eval", "a", "--out", "b", "--items", path.name),
}


def steering(text: str) -> list[str]:
    """What of ``text`` a terminal would obey, its line breaks aside."""
    return [letter for letter in text if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def assert_seen(said: Any) -> None:
    assert said.code in (2, 4), said
    text = (said.out + said.err).replace("\n", "")
    assert not steering(text), ascii(said.err)
    assert "\\x1b" in said.line
    assert not said.out


@pytest.mark.parametrize("there", [False, True], ids=["missing", "a text file"])
@pytest.mark.parametrize("kind", PATHS)
def test_a_path_is_shown_and_not_obeyed(cli: Callable[..., Any], tmp_path: Path, kind: str, there: bool) -> None:
    path = tmp_path / EVIL
    if there:
        path.write_text(f'"{EVIL}" = {EVIL}\n', encoding="utf-8")
    assert_seen(cli(*PATHS[kind](path)))


TEXTS: dict[str, tuple[str, Callable[[Path], tuple[object, ...]]]] = {
    "policy": (
        f'[policy]\n"{json.dumps(EVIL)[1:-1]}" = 1\n',
        lambda file: ("gate", "a", "--baseline", "b", "--policy", file),
    ),
    "completions": (
        json.dumps({"item": EVIL, "completion": EVIL, EVIL: 1}),
        lambda file: ("score", "--completions", file, "--out", "x"),
    ),
    "items": (
        json.dumps({"question": EVIL, "answer": EVIL}),
        lambda file: ("score", "--task", "gsm8k", "--data", file, "--completions", file, "--out", "x"),
    ),
    "config": (json.dumps({"model_type": EVIL}), lambda file: ("plan", "--config", file)),
    "recipe": (f'"{json.dumps(EVIL)[1:-1]}" = 1\n', lambda file: ("train", "check", file)),
    "baseline": (json.dumps({EVIL: EVIL}), lambda file: ("baseline", "show", file)),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_of_a_file_is_shown_and_not_obeyed(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text, call = TEXTS[kind]
    suffix = {"policy": ".toml", "recipe": ".toml", "completions": ".jsonl", "items": ".jsonl"}.get(kind, ".json")
    file = tmp_path / f"file{suffix}"
    file.write_text(text, encoding="utf-8")
    said = cli(*call(file))
    assert said.code in (2, 4) and not said.out
    assert not steering(said.err.replace("\n", "")), ascii(said.err)


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes")
def test_a_name_that_is_no_text_is_shown(cli: Callable[..., Any], tmp_path: Path) -> None:
    said = cli("plan", os.fsdecode(bytes(tmp_path) + b"/\xff\x1b[2J"))
    assert said.code == 2
    assert "\\udcff\\x1b[2J" in said.line


def test_an_error_nobody_foresaw_is_shown_with_its_traceback(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail(*anything: object) -> None:
        raise RuntimeError(EVIL)

    monkeypatch.setattr("harness.reports.pages.build_page", fail)
    monkeypatch.setattr("harness.cli.report_verb.build_page", fail, raising=False)
    said = cli("--verbose", "report", tmp_path)
    assert said.code == 70
    assert "Traceback" in said.err and not steering(said.err.replace("\n", ""))
    assert crash.error_line(RuntimeError("a")) == "RuntimeError: a"


def test_a_log_line_is_shown() -> None:
    record = logging.LogRecord("harness", logging.WARNING, "", 0, "in %s\nbelow", (EVIL,), None)
    said = VisibleFormatter("harness: %(message)s").format(record)
    assert said.startswith("harness: in a\\x1b[2J") and said.endswith("\nbelow")
    assert not steering(said.replace("\n", ""))


def test_an_error_is_harmless_wherever_it_is_printed() -> None:
    said = str(HarnessError(f"file {EVIL}", "a\nb", "\tc"))
    assert not steering(said)
    assert said.endswith("; a b; c")


def test_every_line_of_the_command_line_goes_through_one_place() -> None:
    """What is printed elsewhere is JSON, a page or help, which escape by themselves."""
    found = []
    for file in CLI.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.echo", "print", "sys.stderr.write"):
                printed = ast.unparse(node.args[0])
                if not printed.startswith(("json.dumps(", "markdown(", "error.format_message()")):
                    found.append((file.name, printed))
    assert {name for name, _ in found} == {"saying.py"}, found
