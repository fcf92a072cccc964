"""``gate --policy`` and ``--from-records``: rules from one file, verdicts that anybody can recompute."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate.tasks import load_task

pytestmark = pytest.mark.long
Verb = Callable[..., Any]
ITEMS = load_task("arith").items()[:200]


@pytest.fixture
def scored(cli: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], Path]:
    """A working directory with the baseline ``gold``; scores a run with some wrong answers into it."""
    monkeypatch.chdir(tmp_path)

    def score(name: str, wrong: int) -> Path:
        rows = [
            {"completion": "I say\n#### -1" if index < wrong else item.solution, "question": item.question}
            for index, item in enumerate(ITEMS)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        said = cli("score", "--task", "arith", "--completions", tmp_path / f"{name}.jsonl", "--out", name)
        assert said.code == 0, said.err
        return Path(name)

    score("gold", 0)
    assert cli("baseline", "accept", "gold", "--name", "gold", "--reason", "gold solutions").code == 0
    return score


def test_a_policy_decides(cli: Verb, scored: Callable[[str, int], Path], tmp_path: Path) -> None:
    run, policy = scored("run", 5), tmp_path / "policy.toml"
    policy.write_text('[policy]\nmargin = 0.03\ninconclusive = "fail"\n')
    judge = ("gate", run, "--baseline", "gold")
    assert cli(*judge, "--margin", 0.03).code == 3
    assert cli(*judge, "--policy", policy).code == 1
    policy.write_text("[policy]\nmargin = 0.1\n")
    assert cli(*judge, "--policy", policy).code == 0
    policy.write_text("[policy]\nmargn = 0.1\n")
    said = cli(*judge, "--policy", policy)
    assert said.code == 2 and "did you mean 'margin'?" in said.err
    said = cli(*judge, "--policy", policy, "--margin", "0.2")
    assert said.code == 2 and "rules come from one place" in said.err


def test_flips_are_shown_with_question_and_text(cli: Verb, scored: Callable[[str, int], Path]) -> None:
    run = scored("run", 12)
    assert cli("gate", run, "--baseline", "gold", "--margin", 0.02).code == 1
    text = (run / "report.md").read_text()
    assert "Level 0 %: 12 items, the first 10 here." in text
    lost = min((item for item in ITEMS[:12]), key=lambda item: item.key)
    assert lost.key in text and "I say #### -1" in text
    flips = json.loads((run / "report.json").read_text())["flips"]
    assert len(flips) == 12 and flips[0]["question"] == lost.question and flips[0]["change"] == "lost"


def test_a_verdict_is_recomputed_byte_for_byte(cli: Verb, scored: Callable[[str, int], Path]) -> None:
    run = scored("run", 40)
    judge = ("gate", run, "--baseline", "gold", "--from-records")
    assert "no stored verdict to compare with" in cli(*judge).out
    said = cli(*judge)
    assert said.code == 1 and "the stored verdict, byte for byte" in said.out
    (kept,) = (run / "verdicts").glob("*.json")
    assert json.loads(kept.read_text())["verdict"] == "FAIL"
    assert "no stored verdict" in cli(*judge, "--margin", "0.5").out  # another policy is another verdict

    kept.write_text(kept.read_text().replace("FAIL", "PASS"))
    said = cli(*judge)
    assert said.code == 4 and "comes out differently" in said.err


def test_only_a_run_has_records(cli: Verb, scored: Callable[[str, int], Path], tiny: Path) -> None:
    scored("run", 0)
    said = cli("gate", tiny, "--baseline", "gold", "--from-records")
    assert said.code == 2 and "this is not a run folder" in said.err


@pytest.mark.parametrize(
    "option", [("--device", "cpu"), ("--workers", "2"), ("--adapter", "merged"), ("--batch-size", "9")]
)
def test_how_a_finished_run_was_made_is_not_asked_again(
    cli: Verb, scored: Callable[[str, int], Path], option: tuple[str, str]
) -> None:
    said = cli("gate", scored("run", 0), "--baseline", "gold", *option)
    assert said.code == 2 and f"{' '.join(option)} with the finished run run; nothing would read it" in said.line
