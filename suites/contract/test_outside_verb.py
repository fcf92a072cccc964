"""A verb of another distribution: listed, run, its errors one line, and no name of the harness's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.cli.main import GROUP, main
from suites.distributions import write_distribution

pytestmark = pytest.mark.contract
CODE = '''
import click

from harness.exceptions import HarnessError


@click.command("greet")
@click.argument("name")
def greet(name):
    """Say hello."""
    if name == "nobody":
        raise HarnessError("NAME nobody", "somebody is needed", "give a name")
    click.echo(f"hello {name}")


plain = "no command"
'''


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {GROUP: {"greet": "greeting:greet", "plain": "greeting:plain"}}
    monkeypatch.delitem(sys.modules, "greeting", raising=False)
    monkeypatch.syspath_prepend(str(write_distribution(tmp_path / "site", "greeting", points, greeting=CODE)))


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code of ``harness`` and all that it said."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(str(caught.value.code)), "".join(capsys.readouterr())


@pytest.mark.usefixtures("installed")
def test_it_runs_as_a_verb_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "greet", "you") == (0, "hello you\n")
    assert said(capsys, "greet", "nobody") == (2, "harness: NAME nobody; somebody is needed; give a name\n")
    code, text = said(capsys, "greet")
    assert code == 2 and text.count("\n") == 1 and "NAME" in text


@pytest.mark.usefixtures("installed")
def test_it_is_listed_and_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "--help")
    assert code == 0 and "greet Of greeting 1.0." in " ".join(text.split()) and "greeting" not in sys.modules
    assert "did you mean 'greet'?" in said(capsys, "great")[1]


@pytest.mark.usefixtures("installed")
def test_what_is_no_command_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "plain")
    assert code == 2 and "verb 'plain' of greeting 1.0; it cannot be used (it is a str, not a click.Command)" in text


def test_without_it_the_verb_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "greet", "you")[0] == 2
