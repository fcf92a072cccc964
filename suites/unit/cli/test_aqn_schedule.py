"""``harness aqn schedule``."""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main

pytestmark = pytest.mark.unit
GIVEN = ("aqn", "schedule", "--sigma-start", "0.05", "--sigma-end", "0.0005", "--num-stages", "10", "--steps", "29")


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_json_lists_thirty_values(capsys):
    assert run(*GIVEN, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["sigma"]) == 30 and found["sigma"][3] == 0.05 and found["sigma"][29] == 0.0005
    assert found["clean_steps"] == [[0, 2]]


def test_table_and_plot(capsys, tmp_path):
    file = tmp_path / "sigma.svg"
    assert run(*GIVEN, "--plot", str(file)) == 0
    out = capsys.readouterr().out
    assert "6 to 8" in out and "0.02812" in out and "clean by accident" in out
    assert file.read_text().startswith("<svg") and "sigma" in file.read_text()


@pytest.mark.parametrize(
    "more", [("--epochs", "3"), ("--stages-per-epoch", "5"), ("--sigma-end", "0"), ("--steps", "3"), ("--plot", "a.b")]
)
def test_bad_parameters_are_one_line_and_code_2(more, capsys):
    assert run(*GIVEN, *more) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and not captured.out
