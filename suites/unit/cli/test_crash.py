"""An error that nobody foresaw: one line, exit code 70, its traceback in a file; never a verdict's code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from harness.cli import crash
from harness.cli import main as main_module

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[3]


class Panic(BaseException):
    """As the errors of Rust libraries, which are no ``Exception``."""


class Unprintable(Exception):
    """An error whose text fails."""

    def __str__(self) -> str:
        raise ValueError("no text")


def _deep() -> None:
    _deep()


def _raise(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


FAILURES: dict[str, tuple[Callable[[], None], str]] = {
    "attribute": (_raise(AttributeError("'GPTJConfig' has no\nattribute 'x'")), "AttributeError: 'GPTJConfig' has no"),
    "key": (_raise(KeyError("i7")), "KeyError: 'i7'"),
    "memory": (_raise(MemoryError()), "MemoryError"),
    "recursion": (_deep, "RecursionError: maximum recursion depth"),
    "import": (_raise(ImportError("libcudart.so.13: cannot open")), "ImportError: libcudart.so.13"),
    "network": (_raise(ConnectionRefusedError(111, "Connection refused")), "ConnectionRefusedError"),
    "library text": (_raise(OSError("Can't load the model for 'x'")), "OSError: Can't load the model"),
    "panic": (_raise(Panic("index out of bounds")), "Panic: index out of bounds"),
    "unprintable": (_raise(Unprintable()), "Unprintable"),
    "group": (_raise(BaseExceptionGroup("two", [KeyError(1), ValueError(2)])), "ExceptionGroup: two"),
    "library exit 0": (_raise(SystemExit(0)), "a library ended the program with exit code 0"),
    "library exit 1": (_raise(SystemExit(1)), "a library ended the program with exit code 1"),
    "library exit 3": (_raise(SystemExit(3)), "a library ended the program with exit code 3"),
    "library exit with text": (_raise(SystemExit("CUDA is needed")), "exit code 'CUDA is needed'"),
}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[], None]], Path]:
    """Makes the verb ``plan`` fail, and returns the folder of the logs."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def install(failure: Callable[[], None]) -> Path:
        @click.command("plan")
        @click.option("-v", "--verbose", is_flag=True)
        def verb(verbose: bool) -> None:
            failure()

        monkeypatch.setattr(main_module._Verbs, "get_command", lambda self, ctx, name: verb)
        return tmp_path / "cache" / "robustness-harness" / "errors"

    return install


@pytest.mark.parametrize("kind", FAILURES)
def test_an_unforeseen_error_is_one_line_and_a_log(cli: Any, failing: Any, kind: str) -> None:
    failure, words = FAILURES[kind]
    logs = failing(failure)
    said = cli("plan")
    assert (said.code, said.out) == (70, "")
    assert words in said.line and "no verdict" in said.line
    assert len(said.line) < 600
    (log,) = logs.iterdir()
    assert str(log) in said.line
    assert "Traceback" in log.read_text() and "harness plan" in log.read_text()


@pytest.mark.parametrize("arguments", [("plan", "-v"), ("-v", "plan"), ("--verbose", "plan")])
def test_the_traceback_is_shown_where_asked_for(cli: Any, failing: Any, arguments: tuple[str, ...]) -> None:
    failing(_raise(KeyError("i7")))
    said = cli(*arguments)
    assert said.code == 70
    assert said.err.startswith("Traceback") and said.err.splitlines()[-1].startswith("harness: KeyError: 'i7'")


def test_a_log_goes_elsewhere_where_the_cache_takes_none(
    cli: Any, failing: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failing(_raise(KeyError("i7")))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(crash.tempfile, "gettempdir", lambda: str(tmp_path / "other"))
    assert str(tmp_path / "other") in cli("plan").line
    monkeypatch.setattr(crash, "_folders", list)
    said = cli("plan")
    assert said.code == 70 and "-v shows its traceback" in said.line


def test_reporting_that_fails_itself_keeps_the_code(cli: Any, failing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(_raise(KeyError("i7")))
    monkeypatch.setattr(main_module, "keep_log", lambda *given: 1 / 0)
    assert cli("plan").code == 70


def test_stopping_has_a_code_of_its_own(cli: Any, failing: Any) -> None:
    failing(_raise(KeyboardInterrupt()))
    said = cli("plan")
    assert said.code == 130 and "stopped" in said.err


def test_verbs_end_by_their_own_exit_only() -> None:
    for file in (ROOT / "harness" / "cli").glob("*.py"):
        text = file.read_text()
        assert "raise SystemExit" not in text and ("sys.exit" not in text or file.name == "main.py"), file


PIPE = "import sys; from harness.cli.main import main; main(sys.argv[1:])"


@pytest.mark.parametrize("arguments", [("--help",), ("plan", "--help"), ("--version",), ()])
def test_a_reader_that_went_away_is_no_fail(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-c", PIPE, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    _, err = process.communicate()
    assert (process.returncode, err) == (141, "")
