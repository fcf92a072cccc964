"""The tasks that a checkpoint can be evaluated on, by name: those of the package, and those of other distributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from harness import extensions
from harness.evaluate.tasks.arith import ArithTask
from harness.evaluate.tasks.base import Continuation, Item, Task, is_verbatim, requests_of, scores, select
from harness.evaluate.tasks.blimp import BlimpTask
from harness.evaluate.tasks.choice import ChoiceTask
from harness.evaluate.tasks.cloze import ClozeTask
from harness.evaluate.tasks.gsm8k import Gsm8kTask
from harness.evaluate.tasks.lm_eval import LmEvalTask, lm_eval_task
from harness.evaluate.tasks.perplexity import PerplexityTask
from harness.evaluate.tasks.requests import requests_task
from harness.evaluate.tasks.svamp import SvampTask
from harness.exceptions import HarnessError
from harness.spec import scorer_names
from harness.spec.evaluation import LM_EVAL
from harness.text import nearest

GROUP = "robustness_harness.tasks"
"""The group of entry points by which other distributions add tasks."""

TaskMaker = Callable[[Path | None], Task]
"""Makes a task that reads a data file (``--data FILE``; None where none is given)."""


def _arith(data: Path | None) -> ArithTask:
    if data is not None:
        raise HarnessError(f"--data {data}", "the task arith generates its items", "leave out --data")
    return ArithTask()


def _answers(data: Path | None) -> Task:
    from harness.evaluate.tasks.answers import AnswersTask  # the only one that needs numpy

    return AnswersTask(data)


TASKS: Mapping[str, TaskMaker] = MappingProxyType(
    {
        "arith": _arith,
        "gsm8k": Gsm8kTask,
        "svamp": SvampTask,
        "blimp": BlimpTask,
        "choice": ChoiceTask,
        "cloze": ClozeTask,
        "answers": _answers,
        "perplexity": PerplexityTask,
        "requests": requests_task,
    }
)
"""Name -> maker of the tasks in the package. A new one is a file beside this one and a row here."""

__all__ = [
    "GROUP",
    "TASKS",
    "ArithTask",
    "BlimpTask",
    "ChoiceTask",
    "ClozeTask",
    "Continuation",
    "Gsm8kTask",
    "Item",
    "LmEvalTask",
    "PerplexityTask",
    "SvampTask",
    "Task",
    "is_verbatim",
    "load_task",
    "requests_of",
    "scores",
    "select",
    "task_names",
]


def task_names() -> tuple[str, ...]:
    """Return the names that :func:`load_task` knows: the package's own first."""
    return tuple(dict.fromkeys((*TASKS, *extensions.names(GROUP))))


def load_task(name: str, data: Path | None = None) -> Task:
    """Return the task called ``name``, reading ``data`` (``--data FILE``) where the task has data files.

    ``lm_eval:NAME`` is the task NAME of lm-evaluation-harness, read at once. Other files are read at the first use of
    the items. Raises
    :class:`HarnessError` for an unknown name, for ``data`` with a task that generates its items, and, naming the
    distribution, for a task of another distribution that cannot be loaded, has a name that is taken, or is no
    :class:`Task`.
    """
    if name.startswith(LM_EVAL):
        return lm_eval_task(name, data)
    outside = extensions.load(GROUP, "task", name, TASKS)
    if name in TASKS:
        return TASKS[name](data)
    if outside is not None:
        return _made(name, outside, data)
    known = task_names()
    raise HarnessError(f"unknown task {name!r}", f"the tasks are {', '.join(known)}", nearest(name.lower(), known))


def _made(name: str, maker: TaskMaker, data: Path | None) -> Task:
    """The task of another distribution, checked as far as that costs nothing."""
    where = extensions.origin_of(GROUP, name)
    try:
        task = maker(data)
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        raise extensions.broken("task", name, where, f"{type(error).__name__}: {error}") from error
    wrong = _fault(name, task)
    if wrong:
        raise extensions.broken("task", name, where, wrong)
    return task


def _fault(name: str, task: Task) -> str:
    """What keeps ``task`` from being one, empty where nothing does."""
    wanted = _FIELDS if scores(task) else (*_FIELDS, *_GENERATING)
    lacking = [each for each in wanted if not hasattr(task, each)]
    if lacking:
        return f"it has no {lacking[0]}"
    if task.name != name:
        return f"it calls itself {task.name!r}"
    if task.scorer not in scorer_names():
        return f"its scorer is {task.scorer!r}, not one of {', '.join(scorer_names())}"
    if not isinstance(task.floor, float | int) or not 0 <= task.floor < 1:
        return f"its floor is {task.floor!r}, not a fraction in [0, 1)"
    tokens = 1 if scores(task) else task.max_new_tokens
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        return f"its max_new_tokens is {tokens!r}, not a number of tokens"
    return ""


_FIELDS = ("name", "scorer", "floor", "items", "dataset_hash")
_GENERATING = ("max_new_tokens", "messages")
