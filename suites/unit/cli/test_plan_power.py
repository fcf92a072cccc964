"""``plan --baseline``: what a gate can tell, before any compute is spent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.unit
Verb = Callable[..., Any]
BOOKS = Path(__file__).parents[3] / "baselines"
SHIPPED = ("--baseline", "arith/arith-qwen2", "--baselines-dir", BOOKS)


def test_a_baseline_alone_shows_its_power(cli: Verb) -> None:
    said = cli("plan", *SHIPPED, "--margin", 0.03)
    assert said.code == 0, said.err
    shown = " ".join(said.out.split())
    assert "5.0 assumed" in shown and "12.5 own" in shown and "39.3 own" in shown
    assert "warning: level 10 %: the margin of 3.00 points lies below the minimum detectable effect" in shown
    assert "warning: level 5 %" not in shown


def test_margin_and_policy_change_it(cli: Verb, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text('[policy]\nlevels = [0.10]\nmargin_at = { "0.10" = 0.08 }\n')
    (level,) = json.loads(cli("plan", *SHIPPED, "--policy", tmp_path / "p.toml", "--json").out)["power"]
    assert level["margin"] == 0.08 and level["warning"] is None and level["odds"]["passing"] > 0.95
    wide = json.loads(cli("plan", *SHIPPED, "--json").out)["power"]  # by default as wide as it has to be
    assert [found["warning"] for found in wide] == [None] * 3


def test_it_stands_beside_the_plan_of_a_model(cli: Verb, tiny: Path) -> None:
    found = json.loads(cli("plan", tiny, *SHIPPED, "--json").out)
    assert len(found["plans"]) == 1 and len(found["power"]) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--baseline", "nowhere"), "baseline"),
        ((*SHIPPED, "--discordance", "2"), "a fraction above 0"),
        ((*SHIPPED, "--margin", "3"), "margin 3.0"),
        ((*SHIPPED, "--policy", "none.toml"), "No such file"),
    ],
)
def test_wrong_arguments_are_one_line(cli: Verb, options: tuple[Any, ...], words: str) -> None:
    said = cli("plan", *options)
    assert said.code == 2 and words in said.err and len(said.err.strip().splitlines()) == 1
