"""A gate asks as its baseline was asked: another system message or other examples are refused before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.baselines.book import accept
from harness.baselines.file import Baseline, load
from harness.exceptions import NotComparableError
from harness.library.for_gate import baseline_spec, changed
from harness.library.foregone import refuse_other_key
from harness.testing.runs import RunMaker

pytestmark = pytest.mark.unit

NOTHING = dict.fromkeys(
    ("data", "engine", "dtype", "attention", "quantize", "fewshot", "fewshot_data", "system", "apply_chat_template")
)


@pytest.fixture
def folder(tmp_path: Path, make_run: RunMaker) -> Path:
    make_run(tmp_path / "run", {0.0: [[1]] * 40, 0.05: [[1, 1]] * 40})
    accept(tmp_path / "run", tmp_path / "baselines", "mine", "for a test")
    return tmp_path / "baselines"


def asked(baseline: Baseline, **given: Any) -> None:
    """What a gate checks before it evaluates."""
    spec = changed(baseline_spec(baseline), NOTHING | given)
    refuse_other_key(spec, baseline, NOTHING | given, None, Path("nowhere"))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--system", "Be brief."), "measurement keys differ in system: candidate \"'Be brief.' 213c22ed7234eb11\""),
        (("--fewshot", "2"), "measurement keys differ in fewshot: candidate '2 examples"),
        (
            ("--no-chat-template",),
            "measurement keys differ in chat_template: candidate 'not applied', baseline applied",
        ),
    ],
)
def test_a_gate_that_would_ask_otherwise_is_refused_with_exit_4(
    tiny: Path, folder: Path, cli: Callable[..., Any], option: Sequence[str], words: str
) -> None:
    said = cli("gate", tiny, "--baseline", "mine", "--baselines-dir", folder, *option)
    assert said.code == 4 and words in said.line and "nothing was evaluated" in said.line
    assert not (folder.parent / "runs").exists()


def test_a_baseline_that_was_asked_with_examples_is_refused_without_them(folder: Path) -> None:
    plain = load(folder / "mine.json")
    asked(plain)
    asked(plain, apply_chat_template=True)
    spec = dict(plain.spec or {}) | {"fewshot": 2}
    with pytest.raises(NotComparableError, match=r"differ in fewshot: candidate '2 examples .*, baseline none"):
        asked(Baseline(**{**vars(plain), "spec": spec}))


def test_a_finished_run_cannot_be_asked_otherwise(tmp_path: Path, folder: Path, cli: Callable[..., Any]) -> None:
    for option in (("--fewshot", "2"), ("--system", "x"), ("--no-chat-template",), ("--fewshot-data", "x")):
        said = cli("gate", tmp_path / "run", "--baseline", "mine", "--baselines-dir", folder, *option)
        assert said.code == 2 and "is a run, made as it was made" in said.line
