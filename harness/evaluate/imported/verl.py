"""Reads verl's validation dumps (``trainer.validation_data_dir``): ``STEP.jsonl``.

Written against verl 0.9.1, whose trainers write ``input``, ``output``, ``gts``, ``score``, ``step`` and what a reward
function reports besides. The file names no task and no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.evaluate.imported.rows import (
    Conditions,
    Read,
    Row,
    digest,
    needed,
    number_of,
    repeats_numbered,
    sha256,
    text_of,
)
from harness.evaluate.tasks.base import read_json_lines
from harness.exceptions import HarnessError

NAME = "verl"
WHAT = "a line of verl's validation dump"
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "input": str,
    "output": str,
    "gts": object,
    "score": (int, float),
    "step": int,
}
_NO_METRIC = ("input", "output", "gts", "step", "uid")


def is_line(row: Mapping[str, Any]) -> bool:
    """Return whether ``row`` looks like a line of this format."""
    return {"input", "output", "gts", "step"} <= row.keys()


def read(path: Path, task: str | None) -> Read:
    """Return what the dump at ``path`` holds; ``task`` is what it is called. Raises :class:`HarnessError` with file and
    line for another schema, and for a file of several steps."""
    rows: list[Row] = []
    steps: dict[int, int] = {}
    for number, line in read_json_lines(path):
        place = f"{path}, line {number}"
        needed(place, line, _FIELDS, WHAT)
        steps.setdefault(line["step"], number)
        if len(steps) > 1:
            raise HarnessError(f"{place}: step {line['step']}", "one file is one step", "import the steps one by one")
        values = {
            name: number_of(place, name, value)
            for name, value in line.items()
            if name not in _NO_METRIC and isinstance(value, int | float)
        }
        reference = text_of(line["gts"])
        answer = line.get("pred")
        rows.append(
            Row((line["input"], reference), 0, values, line["input"], reference, line["output"], place, _text(answer))
        )
    prompts = sorted({row.question for row in rows})
    return Read(
        format=NAME,
        tool=NAME,
        task=task or NAME,
        rows=repeats_numbered(rows),
        files={path.name: sha256(path)},
        conditions=Conditions(template=digest(*prompts)),
        facts={"step": next(iter(steps), None)},
    )


def _text(value: object) -> str | None:
    return None if value is None else text_of(value)
