"""Tasks of lm-evaluation-harness by their names there: ``--task lm_eval:NAME`` (the extra ``lm-eval``).

lm-eval reads the data and writes the requests, few-shot examples of its own included; they are scored like those of
any task here, under keyed noise, with records, counts and replays. ``--data`` names a folder of task files (YAML) that
lm-eval looks into first. What scores them here follows the rules of lm-eval 0.4.13: ``multiple_choice`` by ``choice``
(``acc``, ``acc_norm``, ``acc_bytes``), ``loglikelihood`` by ``greedy`` (``acc``), ``loglikelihood_rolling`` by
``perplexity``.

Not asked: tasks with pictures or sound, with a scoring function of their own, or with several
right choices. Answers that are generated (``generate_until``): :mod:`harness.evaluate.tasks.lm_eval_answers`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evaluate.tasks.base import Continuation, Item, ScoresTexts, Task, item_key, unique_items
from harness.evaluate.tasks.hub import offline_without_hub
from harness.evaluate.tasks.lm_eval_answers import GENERATION, answers_task
from harness.exceptions import HarnessError
from harness.scorers.likelihood import reference_of
from harness.scorers.perplexity import PERPLEXITY, lengths_of
from harness.spec.evaluation import LM_EVAL
from harness.text import brief, nearest

CHOICE, LIKELIHOOD, ROLLING = "multiple_choice", "loglikelihood", "loglikelihood_rolling"
SCORERS = {CHOICE: "choice", LIKELIHOOD: "greedy", ROLLING: PERPLEXITY}
"""Output type of a task in lm-eval -> what scores it here."""

FEWSHOT_SEED = 1234
"""Of lm-eval's own examples: the one that ``lm_eval`` uses where none is given."""


@dataclass(frozen=True)
class LmEvalTask(ScoresTexts):
    """The task ``name`` (``lm_eval:NAME``) of lm-eval whose requests, of one ``kind``, are scored; ``asked`` holds
    those of each of the items ``read``, by key."""

    name: str
    kind: str
    read: tuple[Item, ...]
    asked: Mapping[str, tuple[Continuation, ...]]

    @property
    def scorer(self) -> str:
        """What scores the task's kind of request."""
        return SCORERS[self.kind]

    @property
    def floor(self) -> float:
        """The share of right answers of guessing (fraction): 0 where no choices are given."""
        if self.kind != CHOICE:
            return 0.0
        chances = [1 / len(own) for own in self.asked.values()]
        return sum(chances) / len(chances)

    def requests(self, item: Item) -> tuple[Continuation, ...]:
        """Return what lm-eval asks of the item."""
        return self.asked[item.key]

    @property
    def _items(self) -> tuple[Item, ...]:
        return self.read


def lm_eval_task(asked: str, data: Path | None) -> Task:
    """Return the task ``asked`` (``lm_eval:NAME``) of lm-eval; ``data`` is a folder with task files.

    Raises :class:`HarnessError` where lm-eval is not installed, does not know the task or cannot read its data, and for
    a task that cannot be asked so.
    """
    with _quietly(), _as_one_line(asked), _without_waiting(data):
        task = _task(asked.removeprefix(LM_EVAL), data)
        _check(asked, task)
        task.set_fewshot_seed(FEWSHOT_SEED)
        task.build_all_requests()
        documents = list(_by_document(task.instances))
        if task.OUTPUT_TYPE == GENERATION:
            return answers_task(asked, task, documents)
        rows = [_item(asked, task, own) for own in documents]
    items = unique_items([item for item, _ in rows], asked)
    requests = {item.key: own for item, own in rows}
    return LmEvalTask(asked, str(task.OUTPUT_TYPE), items, {item.key: requests[item.key] for item in items})


def _task(name: str, data: Path | None) -> Any:
    """The task of lm-eval that is called ``name``."""
    try:
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError as error:
        if error.name not in ("lm_eval", "lm_eval.tasks"):
            raise
        way_out = "pip install 'robustness-harness[lm-eval]'"
        raise HarnessError(f"--task {LM_EVAL}{name}", "lm-eval is not installed", way_out) from None
    if data is not None and not data.is_dir():
        rule = "for a task of lm-eval it is a folder of task files (YAML)"
        raise HarnessError(f"--data {data}", rule, "name that folder, or leave it out")
    folder = None if data is None else str(data)
    if folder is not None:  # its index of a folder is there at once, that of its own tasks takes many seconds
        manager = TaskManager(include_path=folder, include_defaults=False)
        if name in manager.all_subtasks:
            return manager.load([name])["tasks"][name]
    manager = TaskManager(include_path=folder)
    if name not in manager.all_subtasks:
        if name in manager.all_tasks:
            rule = "it is a group, or a tag, of several tasks"
            raise HarnessError(f"--task {LM_EVAL}{name}", rule, "name one of them")
        raise HarnessError(f"--task {LM_EVAL}{name}", "lm-eval knows no such task", nearest(name, manager.all_subtasks))
    return manager.load([name])["tasks"][name]


def _check(asked: str, task: Any) -> None:
    """Raise :class:`HarnessError` for a task whose numbers would be others here than there."""
    metrics = set(task._metric_fn_list)
    for wrong, rule in (
        (task.OUTPUT_TYPE not in (*SCORERS, GENERATION), f"its requests are of the type {task.OUTPUT_TYPE}"),
        (callable(task.config.process_results), "it is scored by a function of its own"),
        (bool(task.config.doc_to_image or task.config.doc_to_audio), "it shows pictures or plays sound"),
        (task.OUTPUT_TYPE == CHOICE and bool(task.multiple_target), "several of its choices may be right"),
        ("acc_mutual_info" in metrics, "it asks for the choices without their context too"),
    ):
        if wrong:
            known = ", ".join((*SCORERS, GENERATION))
            way_out = f"tasks of the types {known} can be asked; harness import reads what lm-eval made of others"
            raise HarnessError(f"--task {asked}", rule, way_out)


def _by_document(instances: Sequence[Any]) -> Iterator[list[Any]]:
    """The requests of each document, in their order."""
    waiting: list[Any] = []
    for instance in instances:
        if waiting and instance.doc_id != waiting[0].doc_id:
            yield waiting
            waiting = []
        waiting.append(instance)
    if waiting:
        yield waiting


def _item(asked: str, task: Any, instances: Sequence[Any]) -> tuple[Item, tuple[Continuation, ...]]:
    """One document: its item, and what is asked of it."""
    doc, place = instances[0].doc, f"task {asked}, document {instances[0].doc_id}"
    if task.OUTPUT_TYPE == ROLLING:
        (text,) = instances[0].args
        return _made(asked, text, lengths_of(text)), (Continuation("", text, rolling=True),)
    requests = tuple(Continuation(*instance.args[:2]) for instance in instances)
    told = "\n".join(f"{each.context}|{each.continuation}" for each in requests)
    if task.OUTPUT_TYPE == LIKELIHOOD:
        return _made(asked, told, requests[0].continuation), requests
    choices = [str(choice) for choice in task.doc_to_choice(doc)]
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    if isinstance(gold, str):
        gold = choices.index(gold) if gold in choices else -1
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices) == len(requests):
        raise HarnessError(f"{place}: its answer is {gold!r}", "it must be one of the choices", "correct the data")
    return _made(asked, told, reference_of(choices, gold)), requests


def _made(asked: str, question: str, reference: str) -> Item:
    return Item(item_key(asked, question, reference), question, reference, "")


@contextlib.contextmanager
def _as_one_line(asked: str) -> Iterator[None]:
    """Whatever lm-eval, or the library of its data, raises."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:  # the code of others raises anything
        rule = f"lm-eval could not make its requests ({brief(error)})"
        way_out = "check its data (a hub that cannot be reached?), or give --data FOLDER with a task file of local data"
        raise HarnessError(f"--task {asked}", rule, way_out) from None


@contextlib.contextmanager
def _without_waiting(data: Path | None) -> Iterator[None]:
    """Have data of a hub looked for in its cache alone where no hub answers; data of one's own files have none."""
    if data is not None:
        yield
        return
    import datasets

    with offline_without_hub(datasets, "lm_eval"):
        yield


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """lm-eval tells of every step in the log."""
    loud = logging.getLogger("lm_eval")
    before = loud.level
    loud.setLevel(logging.ERROR)
    try:
        yield
    finally:
        loud.setLevel(before)
