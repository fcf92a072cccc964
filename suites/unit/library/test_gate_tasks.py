"""A gate over several tasks: from the runs in one folder, from the command line, and what it never lets pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.baselines.book import accept
from harness.exceptions import NotComparableError
from harness.gates.policy import GatePolicy
from harness.library.for_gate import GateEvaluation
from harness.library.gate_tasks import gate_tasks
from harness.runs.manifest import EvaluationManifest
from harness.runs.several import begin_tasks
from harness.testing.runs import KEY, RunMaker

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]
Cli = Callable[..., Any]
SOUND = {0.0: [[1]] * 150 + [[0]] * 20, 0.05: [[1, 1]] * 150 + [[0, 0]] * 20}
BROKEN = {0.0: [[1]] * 80 + [[0]] * 90, 0.05: [[1, 0]] * 80 + [[0, 0]] * 90}


class OfTask(RunMaker):
    """Writes runs of a task, of the checkpoint whose weights are called ``weights``."""

    def __init__(self, task: str, weights: str = "w1") -> None:
        self.task, self.weights = task, weights

    def manifest(
        self, items: Sequence[str], levels: Sequence[float], seeds: int, /, **changes: Any
    ) -> EvaluationManifest:
        key = {**KEY, "task": self.task}
        found = super().manifest(items, levels, seeds, measurement_key=key, weights=self.weights, **changes)
        return replace(found, measurement_key=key, spec={**found.spec, "task": self.task})


def write(out: Path, tables: Mapping[str, Any], weights: Mapping[str, str] | None = None) -> Path:
    """A folder of several tasks; a task without a table has no run."""
    for task, folder in begin_tasks(out, list(tables)).items():
        if tables[task] is not None:
            OfTask(task, (weights or {}).get(task, "w1"))(folder, tables[task])
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Baselines a and b of the tasks arith and svamp."""
    path = tmp_path_factory.mktemp("several")
    runs = write(path / "reference", {"arith": SOUND, "svamp": SOUND})
    for task, name in (("arith", "a"), ("svamp", "b")):
        accept(runs / task, path / "baselines", name, "for a test")
    return path / "baselines"


def gate_of(cli: Cli, folder: Path, target: Path, *more: object, baseline: str = "a,b") -> Any:
    return cli("gate", target, "--baseline", baseline, "--baselines-dir", folder, *more)


@pytest.mark.parametrize(
    ("tables", "verdict", "code"),
    [
        ({"arith": SOUND, "svamp": SOUND}, "PASS", 0),
        ({"arith": SOUND, "svamp": BROKEN}, "FAIL", 1),
        ({"arith": SOUND, "svamp": None}, "INVALID", 4),
        ({"arith": BROKEN, "svamp": None}, "INVALID", 4),
        ({"arith": SOUND, "svamp": {level: rows[:120] for level, rows in SOUND.items()}}, "INVALID", 4),
    ],
)
def test_the_verdict_is_that_of_the_worst_task(
    cli: Cli, folder: Path, tmp_path: Path, tables: dict, verdict: str, code: int
) -> None:
    runs = write(tmp_path / "runs", tables)
    said = gate_of(cli, folder, runs, "--json")
    assert said.code == code and said.json["verdict"] == verdict and set(said.json["tasks"]) == {"arith", "svamp"}
    assert "2 tasks" in said.json["family"] and "Holm" in said.json["family"]
    again = gate_of(cli, folder, runs)
    assert again.code == code and again.out.strip().splitlines()[-2:] and verdict in again.out
    page = (runs / "report.md").read_text()
    assert verdict in page and "svamp" in page and json.loads((runs / "report.json").read_text())["gate"]
    own = (runs / "arith" / "report.md").read_text()
    assert f"the verdict over all of them is {verdict}" in own


def test_a_run_that_is_unfinished_is_invalid_and_so_is_the_whole(folder: Path, tmp_path: Path) -> None:
    runs = write(tmp_path / "runs", {"arith": SOUND, "svamp": None})
    OfTask("svamp")(runs / "svamp", SOUND, control=None)  # its control has not run
    found = gate_tasks(runs, ["a", "b"], baselines_dir=folder)
    assert found.verdict == "INVALID" and "svamp" in found.result.missing and "arith" in found.gated
    assert found.gated["arith"].verdict == "PASS"


def test_a_run_that_no_baseline_judges_does_not_go_by(cli: Cli, folder: Path, tmp_path: Path) -> None:
    runs = write(tmp_path / "runs", {"arith": SOUND, "svamp": BROKEN})
    said = gate_of(cli, folder, runs, baseline="a")
    assert said.code == 2 and "holds a run of svamp, and no baseline is given for it" in said.line
    assert gate_of(cli, folder, runs / "arith", baseline="a").code == 0


def test_runs_of_different_checkpoints_are_refused(folder: Path, tmp_path: Path, refusal: Refusal) -> None:
    runs = write(tmp_path / "runs", {"arith": SOUND, "svamp": SOUND}, {"svamp": "w2"})
    line = refusal(gate_tasks, runs, ["a", "b"], None, None, None, folder, kind=NotComparableError, code=4)
    assert "the runs of arith and svamp; they are of different checkpoints (weights w1 and w2)" in line


def test_a_run_in_the_folder_of_another_task_is_refused(folder: Path, tmp_path: Path, refusal: Refusal) -> None:
    runs = write(tmp_path / "runs", {"arith": SOUND, "svamp": None})
    shutil.copytree(runs / "arith", runs / "svamp")
    assert "it is of the task arith, not svamp" in refusal(gate_tasks, runs, ["a", "b"], None, None, None, folder)


@pytest.mark.parametrize(
    ("baseline", "more", "words"),
    [
        ("a,a", (), "a is named twice"),
        ("a,", (), "none is empty"),
        ("a,b", ("--early-stop", "0.5"), "each would stop by itself"),
        ("a,b", ("--from-records",), "it recomputes the verdict of one run"),
        ("a,b", ("--data", "x.json"), "does not say which task it is for (the tasks are arith, svamp)"),
        ("a,b", ("--data", "svamp=x.json"), "--data x.json; "),
        ("a,b", ("--quantize", "weights=mxfp4"), "is a run, made as it was made"),
        ("a,b", ("--workers", "2"), "nothing would read it"),
        ("a,c", (), "there is none under"),
    ],
)
def test_a_contradiction_is_refused(
    cli: Cli, folder: Path, tmp_path: Path, baseline: str, more: tuple, words: str
) -> None:
    runs = write(tmp_path / "runs", {"arith": SOUND, "svamp": SOUND})
    said = gate_of(cli, folder, runs, *more, baseline=baseline)
    assert said.code == 2 and words in said.line
    assert not (runs / "report.md").exists()


def test_two_baselines_of_one_task_and_a_run_of_one_task(cli: Cli, folder: Path, tmp_path: Path) -> None:
    runs = write(tmp_path / "runs", {"arith": SOUND, "svamp": SOUND})
    twice = tmp_path / "baselines"
    shutil.copytree(folder, twice)
    shutil.copy(twice / "a.json", twice / "c.json")
    assert "both are of the task arith" in gate_of(cli, twice, runs, baseline="a,c").line
    assert "it is the run of one task" in gate_of(cli, folder, runs / "arith").line


def test_a_checkpoint_that_would_be_asked_otherwise_is_refused_before_anything_runs(
    cli: Cli, tiny: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "svamp.json"
    data.write_text(json.dumps([{"Body": "b", "Question": f"q{n}", "Answer": n} for n in range(9)]))
    said = gate_of(cli, folder, tiny, "--data", f"svamp={data}", "--out", tmp_path / "out")
    assert said.code == 4 and "measurement keys differ in dataset" in said.line and not (tmp_path / "out").exists()
    wide = GatePolicy(margin=0.001)
    with pytest.raises(NotComparableError, match="INCONCLUSIVE is foregone"):
        gate_tasks(tmp_path / "none", ["a", "b"], wide, GateEvaluation(), None, folder)


def test_the_verdict_of_a_run_alone_and_that_beside_others_are_kept_apart(
    folder: Path, tmp_path: Path, cli: Cli
) -> None:
    runs = write(tmp_path / "runs", {"arith": SOUND, "svamp": BROKEN})
    assert gate_of(cli, folder, runs / "arith", baseline="a").code == 0
    assert gate_of(cli, folder, runs).code == 1
    assert gate_of(cli, folder, runs).code == 1
    assert gate_of(cli, folder, runs / "arith", baseline="a").code == 0
    assert len(list((runs / "arith" / "verdicts").glob("*.json"))) == 2
    assert "attempt 4 on this run" in (runs / "arith" / "report.md").read_text()


def test_a_plan_says_the_odds_of_the_whole(cli: Cli, folder: Path) -> None:
    one, both = (
        cli("plan", "--baseline", name, "--baselines-dir", folder, "--json").json["whole_gate"] for name in ("a", "a,b")
    )
    assert both["passing"] == pytest.approx(one["passing"] ** 2)
    said = cli("plan", "--baseline", "a,b", "--baselines-dir", folder)
    assert "the whole gate over 4 levels of 2 tasks, if nothing changed" in said.out and "svamp" in said.out
    assert "a is named twice" in cli("plan", "--baseline", "a,a", "--baselines-dir", folder).line
