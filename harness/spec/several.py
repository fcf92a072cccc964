"""What a user writes for several tasks at once: ``--task a,b``, and options that name the task they are for."""

from __future__ import annotations

from collections.abc import Sequence

from harness.exceptions import HarnessError
from harness.text import nearest


def split_names(option: str, text: str) -> tuple[str, ...]:
    """Return ``"a,b"`` -> the names. Raises :class:`HarnessError` for an empty one and for one that is given twice."""
    names = tuple(part.strip() for part in text.split(","))
    if "" in names:
        raise HarnessError(f"{option} {text!r}", "names are separated by commas, none is empty", "write a,b")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise HarnessError(f"{option} {text}", f"{twice} is named twice", "name it once")
    return names


def for_tasks(option: str, values: Sequence[str], tasks: Sequence[str]) -> dict[str, str]:
    """Return task -> its value, of an option that is given as ``TASK=VALUE``, or as ``VALUE`` where there is one task.

    Raises :class:`HarnessError` for a value that names no task where there are several, for a task that is not among
    ``tasks``, and for two values of one.
    """
    found: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        named = bool(equals) and name in tasks
        if not named and len(tasks) > 1:
            known = f"the tasks are {', '.join(tasks)}"
            hint = nearest(name, tasks) if equals else f"write {option} {tasks[0]}={text}"
            raise HarnessError(f"{option} {text}", f"it does not say which task it is for ({known})", hint)
        task = name if named else tasks[0]
        if task in found:
            raise HarnessError(f"{option} {text}", f"the task {task} has {found[task]} already", "give it once")
        found[task] = value if named else text
    return found
