"""A gate between real runs of one checkpoint, stored plainly and in eight bits: other keys, one declared axis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from suites.unit.checkpoints.quantized_parts import FP8, in_fp8, rewritten

pytestmark = pytest.mark.long
Verb = Callable[..., Any]

EVAL = ("--items", "12", "--noise-levels", "0", "--device", "cpu")
MARGIN = ("--margin", "0.4")
"""Twelve items leave 18 points open even where nothing changes."""


@pytest.fixture(scope="module")
def folder(arith: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped checkpoint in fp8, and the runs of both, each a baseline."""
    from click.testing import CliRunner

    from harness.cli.main import command

    found = tmp_path_factory.mktemp("stored")
    rewritten(arith, found / "fp8", in_fp8, {"quantization_config": FP8})
    runner, books = CliRunner(), ("--baselines-dir", str(found / "baselines"))
    for name, checkpoint in (("plain", arith), ("eight", found / "fp8")):
        done = runner.invoke(command, ["eval", str(checkpoint), "--out", str(found / name), *EVAL])
        assert done.exit_code == 0, done.output
        accept = ["baseline", "accept", str(found / name), "--name", name, "--reason", "r", *books]
        assert runner.invoke(command, accept).exit_code == 0
    return found


@pytest.mark.parametrize(("run", "baseline"), [("eight", "plain"), ("plain", "eight")])
def test_a_quantized_file_is_compared_with_a_plain_one_only_where_that_is_declared(
    cli: Verb, folder: Path, run: str, baseline: str
) -> None:
    judge = ("gate", folder / run, "--baseline", baseline, "--baselines-dir", folder / "baselines", *MARGIN, "--json")
    said = cli(*judge)
    assert said.code == 4 and said.json["verdict"] == "INVALID"
    assert said.json["reasons"][0].startswith("measurement keys differ in quantization: ")
    assert "'file in fp8 (" in said.json["reasons"][0] and "'none'" in said.json["reasons"][0]
    allowed = cli(*judge, "--across", "quantization")
    assert allowed.code in (0, 1, 3) and allowed.json["verdict"] in ("PASS", "FAIL", "INCONCLUSIVE")
    assert allowed.json["levels"][0]["n"] == 12
    assert any(reason.startswith("across quantization: candidate ") for reason in allowed.json["reasons"])
    other = cli(*judge, "--across", "dtype")
    assert other.code == 4, "another axis allows nothing"


def test_a_checkpoint_is_refused_before_it_is_evaluated(cli: Verb, folder: Path, tmp_path: Path) -> None:
    books = ("--baselines-dir", folder / "baselines", "--out", tmp_path / "new", *MARGIN)
    said = cli("gate", folder / "fp8", "--baseline", "plain", *books)
    assert said.code == 4 and "nothing was evaluated" in said.line and "'file in fp8 (" in said.line
    same = cli("gate", folder / "fp8", "--baseline", "eight", *books, "--across", "quantization")
    assert same.code == 4 and "quantization was to differ, and both sides have 'file in fp8" in same.line
    assert not (tmp_path / "new").exists()


def test_the_same_stored_form_needs_no_axis(cli: Verb, folder: Path) -> None:
    said = cli("gate", folder / "eight", "--baseline", "eight", "--baselines-dir", folder / "baselines", *MARGIN)
    assert said.code == 0 and "PASS" in said.out
