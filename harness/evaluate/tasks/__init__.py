"""The tasks that a checkpoint can be evaluated on, by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from harness.evaluate.tasks.arith import ArithTask
from harness.evaluate.tasks.base import Item, Task, select
from harness.evaluate.tasks.gsm8k import Gsm8kTask
from harness.exceptions import HarnessError

TASKS = ("arith", "gsm8k")
"""The names that :func:`load_task` knows."""

__all__ = ["TASKS", "ArithTask", "Gsm8kTask", "Item", "Task", "load_task", "select"]


def load_task(name: str, data: Path | None = None) -> Task:
    """The task called ``name``, reading ``data`` (``--data FILE``) where the task has data files.

    A :class:`HarnessError` for an unknown name, and for ``data`` with a task that generates its items.
    Files are read at the first use of the items.
    """
    if name == "gsm8k":
        return Gsm8kTask(data)
    if name == "arith":
        if data is not None:
            raise HarnessError(f"--data {data}", "the task arith generates its items", "leave out --data")
        return ArithTask()
    near = difflib.get_close_matches(name.lower(), TASKS, n=1)
    way_out = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(TASKS)}"
    raise HarnessError(f"unknown task {name!r}", f"the tasks are {', '.join(TASKS)}", way_out)
