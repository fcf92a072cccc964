"""Scored tasks of lm-eval: with a stand-in of the package what is asked and refused, with the package the numbers."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import dataclass, field
from typing import Any

import pytest

from harness.evaluate.api import evaluate
from harness.evaluate.tasks import load_task
from harness.evaluate.tasks.base import Continuation
from harness.exceptions import HarnessError
from harness.record import CERTIFIED
from harness.scorers.likelihood import choices_of
from harness.spec import EvalSpec

pytestmark = pytest.mark.unit

DOCUMENTS = [{"q": f"What is {n} plus 1?", "choices": [str(n), str(n + 1)], "gold": 1} for n in range(4)]


@dataclass
class Instance:
    doc: dict[str, Any]
    args: tuple[str, ...]
    doc_id: int


@dataclass
class StandIn:
    """What of a task of lm-eval is read here."""

    OUTPUT_TYPE: str = "multiple_choice"
    multiple_target: int = 0
    multiple_input: int = 0
    metrics: tuple[str, ...] = ("acc",)
    scored_by: Any = None
    gold: Any = 1
    instances: list[Instance] = field(default_factory=list)

    @property
    def _metric_fn_list(self):
        return dict.fromkeys(self.metrics)

    @property
    def config(self):
        return types.SimpleNamespace(process_results=self.scored_by, doc_to_image=None, doc_to_audio=None)

    def set_fewshot_seed(self, seed):
        assert seed == 1234

    def doc_to_choice(self, doc):
        return doc["choices"]

    def doc_to_target(self, doc):
        return self.gold

    def build_all_requests(self):
        for number, doc in enumerate(DOCUMENTS):
            if self.OUTPUT_TYPE == "loglikelihood_rolling":
                self.instances.append(Instance(doc, (doc["q"],), number))
            else:
                count = 1 if self.OUTPUT_TYPE == "loglikelihood" else 2
                own = [(doc["q"], f" {choice}") for choice in doc["choices"][-count:]]
                self.instances += [Instance(doc, asked, number) for asked in own]


@pytest.fixture
def known(monkeypatch, tmp_path):
    """Tasks by name that a stand-in of lm-eval knows: ``known["mini"] = StandIn()``; the folder of ``--data``."""
    tasks: dict[str, StandIn] = {}

    class TaskManager:
        def __init__(self, include_path, include_defaults=True):
            assert include_path == str(tmp_path)
            self.all_subtasks = ("mini", "broken") if include_defaults else ("mini",)
            self.all_tasks = (*self.all_subtasks, "family")

        def load(self, names):
            if names == ["broken"]:
                raise ConnectionError("no hub\nanswers")
            return {"tasks": {name: tasks[name] for name in names}}

    package, module = types.ModuleType("lm_eval"), types.ModuleType("lm_eval.tasks")
    module.TaskManager = TaskManager
    monkeypatch.setitem(sys.modules, "lm_eval", package)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", module)
    return tasks


def test_choices_are_those_of_each_document(known, tmp_path):
    known["mini"] = StandIn()
    task = load_task("lm_eval:mini", tmp_path)
    items = task.items()
    assert (task.name, task.scorer, task.floor, len(items)) == ("lm_eval:mini", "choice", 0.5, 4)
    assert choices_of(items[2].reference) == (("2", "3"), 1)
    assert task.requests(items[2]) == (
        Continuation("What is 2 plus 1?", " 2"),
        Continuation("What is 2 plus 1?", " 3"),
    )


def test_a_right_choice_may_be_given_by_its_text(known, tmp_path):
    known["mini"] = StandIn(gold="1")
    with pytest.raises(HarnessError, match="document 2: its answer is -1; it must be one of the choices"):
        load_task("lm_eval:mini", tmp_path).items()


@pytest.mark.parametrize(("kind", "scorer"), [("loglikelihood", "greedy"), ("loglikelihood_rolling", "perplexity")])
def test_other_kinds_have_one_request(known, tmp_path, kind, scorer):
    known["mini"] = StandIn(kind)
    task = load_task("lm_eval:mini", tmp_path)
    (request,) = task.requests(task.items()[0])
    assert (task.scorer, task.floor, request.rolling) == (scorer, 0.0, kind == "loglikelihood_rolling")
    assert request.continuation == ("What is 0 plus 1?" if request.rolling else " 1")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (StandIn("new_type"), "its requests are of the type new_type"),
        (StandIn(scored_by=len), "it is scored by a function of its own"),
        (StandIn(multiple_target=2), "several of its choices may be right"),
        (StandIn(metrics=("acc_mutual_info",)), "without their context too"),
    ],
)
def test_what_would_be_other_numbers_is_refused(known, tmp_path, task, words):
    known["mini"] = task
    with pytest.raises(HarnessError, match=words) as error:
        load_task("lm_eval:mini", tmp_path).items()
    assert "harness import reads what lm-eval made of others" in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("minni", "lm-eval knows no such task; did you mean 'mini'"),
        ("family", "it is a group, or a tag, of several tasks"),
        ("broken", r"lm-eval could not make its requests \(ConnectionError: no hub answers\)"),
    ],
)
def test_what_cannot_be_read_is_one_line(known, tmp_path, name, words):
    with pytest.raises(HarnessError, match=words) as error:
        load_task(f"lm_eval:{name}", tmp_path).items()
    assert "\n" not in str(error.value)


def test_data_is_a_folder(known, tmp_path):
    file = tmp_path / "task.yaml"
    file.touch()
    with pytest.raises(HarnessError, match="for a task of lm-eval it is a folder of task files"):
        load_task("lm_eval:mini", file).items()


def test_without_the_package_the_way_to_it_is_said(monkeypatch, tmp_path):
    for name in ("lm_eval", "lm_eval.tasks"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(HarnessError, match=r"lm-eval is not installed; pip install 'robustness-harness\[lm-eval\]'"):
        load_task("lm_eval:mini", tmp_path).items()


TASK_FILE = """
task: mini_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{gold}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list: [{{metric: acc}}]
"""


def test_the_package_itself_says_the_same(two_layers, tmp_path):
    """Item by item, and the run is certified under noise."""
    lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval is not installed")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in DOCUMENTS))
    (tmp_path / "mini.yaml").write_text(TASK_FILE.format(data=tmp_path / "rows.jsonl"))
    theirs = lm_eval.simple_evaluate(
        model=huggingface.HFLM(pretrained=str(two_layers), dtype="float32", device="cpu"),
        tasks=["mini_choice"],
        task_manager=lm_eval.tasks.TaskManager(include_path=str(tmp_path), include_defaults=False),
        bootstrap_iters=0,
    )
    spec = EvalSpec("lm_eval:mini_choice", str(tmp_path), None, levels=(0.0, 0.05), noise_seeds=1)
    run = evaluate(two_layers, spec, tmp_path / "run", device="cpu")
    assert run.arm.certificate.status == CERTIFIED
    ours = {result.item: result for result in run.results if not result.level}
    items = load_task("lm_eval:mini_choice", tmp_path).items()
    samples = sorted(theirs["samples"]["mini_choice"], key=lambda sample: sample["doc_id"])
    for item, sample in zip(items, samples, strict=True):
        nats = [float(answer[0][0]) for answer in sample["resps"]]
        assert [each.nats for each in ours[item.key].requests] == pytest.approx(nats, abs=1e-4)
        assert ours[item.key].score == sample["acc"]
