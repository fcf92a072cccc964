"""A task of another distribution whose answers are no numbers, with its scorer: evaluated, stored, gated, reported."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from harness.baselines.book import accept
from harness.evaluate.external import score_completions
from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.evaluate.tasks import GROUP, load_task
from harness.exceptions import HarnessError, StoreError
from harness.gates import GatePolicy
from harness.library.gate import gate
from harness.record import CERTIFIED, UNPARSED
from harness.reports.render.markdown import markdown
from harness.reports.run_page import run_page
from harness.reports.run_report import run_report
from harness.runs import sums
from harness.runs.loaded import load_run
from harness.spec import SCORER_GROUP, EvalSpec
from suites.distributions import write_distribution

pytestmark = pytest.mark.contract
CODE = '''
import re

from harness.evaluate.tasks.arith import ArithTask
from harness.evaluate.tasks.base import Item, hash_items, item_key
from harness.scorers import Scorer, Scores


def operations(text):
    """The operations of a working, in their order: "47+5=52, 52-2=50" are "plus minus"."""
    words = {"+": "plus", "-": "minus", "*": "times"}
    return " ".join(words[sign] for sign in re.findall(r"[0-9]([-+*])[0-9]", text))


class Operations(Scorer):
    name, primary = "operations", "same"

    def score(self, text, reference, item):
        assert item.question.endswith("now?")
        found = operations(text) or None
        if found is None:
            return Scores({"same": None, "first": None})
        first = found.split()[0] == reference.split()[0]
        return Scores({"same": found == reference, "first": first}, found)


class Workings:
    name, scorer, floor, max_new_tokens = "workings", "operations", 0.1, 72

    def __init__(self, data):
        self._asked = ArithTask()

    def items(self):
        found = []
        for each in self._asked.items()[:40]:
            right = operations(each.solution)
            found.append(Item(item_key(self.name, each.question, right), each.question, right, each.solution))
        return tuple(found)

    def dataset_hash(self):
        return hash_items(self.items())

    def messages(self, item):
        return self._asked.messages(item)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    points = {GROUP: {"workings": "workings:Workings"}, SCORER_GROUP: {"operations": "workings:Operations"}}
    return write_distribution(tmp_path_factory.mktemp("tasks"), "workings", points, workings=CODE)


@pytest.fixture(scope="module")
def run(folder: Path, shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five items at 0 and 2 %, with the positive control."""
    out = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        spec = EvalSpec("workings", items=5, levels=(0.0, 0.02), noise_seeds=1)
        evaluate(prepare(shipped, spec, "cpu"), out)
    return out


@pytest.fixture
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.usefixtures("installed")
def test_it_is_stored_with_all_of_its_scores(run: Path) -> None:
    found = load_run(run)
    assert (found.arm.key["task"], found.arm.key["scorer"]) == ("workings", "operations")
    assert found.arm.certificate.status == CERTIFIED
    assert [set(result.scores) for result in found.results] == [{"same", "first"}] * 10
    assert all(set(str(result.answer).split()) <= {"plus", "minus", "times"} for result in found.results)
    assert all(result.score == result.scores["same"] for result in found.results)
    assert sum(result.score == 1.0 for result in found.results if not result.level) >= 4


@pytest.mark.usefixtures("installed")
def test_it_is_gated_against_itself_and_reported(run: Path, tmp_path: Path) -> None:
    accept(run, tmp_path / "baselines", "workings/shipped", "the first")
    judged = gate(run, "workings/shipped", GatePolicy(margin=0.4), baselines_dir=tmp_path / "baselines")
    assert (judged.verdict, judged.exit_code) == ("PASS", 0)
    report = run_report(judged.run, judged.result)
    assert set(report["levels"][0]["scores"]) == {"same", "first"}
    assert "| same / first % |" in markdown(run_page(report))


@pytest.mark.usefixtures("installed")
def test_completions_made_elsewhere_are_scored_by_it(tmp_path: Path) -> None:
    item = load_task("workings").items()[0]
    texts = (item.solution, "I do not know.")
    rows = [{"item": item.key, "seed": seed, "completion": text} for seed, text in enumerate(texts)]
    (tmp_path / "answers.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    score_completions("workings", None, None, tmp_path / "answers.jsonl", tmp_path / "run")
    right, silent = load_run(tmp_path / "run").results
    assert (right.score, right.scores, right.answer) == (1.0, {"same": 1.0, "first": 1.0}, item.reference)
    assert (silent.score, silent.reason, silent.answer) == (None, UNPARSED, None)


@pytest.mark.usefixtures("installed")
def test_a_score_that_was_edited_is_found_by_scoring_again(run: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("manifest.json", "records.sqlite"):
        (tmp_path / "run" / name).write_bytes((run / name).read_bytes())
    with sqlite3.connect(tmp_path / "run" / "records.sqlite") as connection:
        sums.prepare(connection)
        connection.execute("""UPDATE records SET scores = '{"same": 1.0, "first": 0.0}'""")
    with pytest.raises(StoreError, match=r"is stored as .*first 0\.0.*, and its text gives .*first 1\.0"):
        load_run(tmp_path / "run")


def test_without_the_distribution_the_run_cannot_be_read(run: Path) -> None:
    with pytest.raises(StoreError, match=r"its scorer 'operations' is unknown here .* install what brings it"):
        load_run(run)
    with pytest.raises(HarnessError, match="--scorer operations"):
        EvalSpec("arith", scorer="operations")
