"""Reads the logs of OpenAI's evals: one event a line, of type ``match`` or ``metrics`` where something was scored.

Written against the documented record format, not against files of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evaluate.imported.rows import (
    UNKNOWN,
    Conditions,
    Read,
    Row,
    digest,
    needed,
    repeats_numbered,
    sha256,
    text_of,
)
from harness.evaluate.tasks.base import read_json_lines
from harness.exceptions import HarnessError
from harness.strict import shown

NAME = "openai"
WHAT = "an event of OpenAI's evals"
SPEC, REPORT = "spec", "final_report"
SAMPLING, MATCH, METRICS, ERROR = "sampling", "match", "metrics", "error"
CORRECT = "correct"
_FIELDS: Mapping[str, type | tuple[type, ...]] = {"sample_id": str, "type": str, "data": (dict, list, str)}


@dataclass(frozen=True)
class _Event:
    """A scored sample; ``values`` are None where the measurement failed."""

    place: str
    sample: str
    data: Mapping[str, Any]
    values: Mapping[str, float | None] | None


def is_line(row: Mapping[str, Any]) -> bool:
    """Return whether ``row`` looks like a line of this format."""
    return SPEC in row or {"sample_id", "type", "data"} <= row.keys()


def read(path: Path, task: str | None) -> Read:
    """Return what the log at ``path`` holds. Raises :class:`HarnessError` with file and line for another schema, and
    for a log without its final report: the evaluation did not end."""
    spec: dict[str, Any] = {}
    report: dict[str, Any] | None = None
    asked: dict[str, dict[str, Any]] = {}
    scored: list[_Event] = []
    for number, line in read_json_lines(path):
        place = f"{path}, line {number}"
        if SPEC in line:
            spec = line[SPEC]
        elif REPORT in line:
            report = line[REPORT]
        else:
            needed(place, line, _FIELDS, WHAT)
            data = line["data"] if isinstance(line["data"], dict) else {}
            if line["type"] == SAMPLING:
                asked.setdefault(line["sample_id"], data)
            elif line["type"] in (MATCH, METRICS):
                scored.append(_Event(place, line["sample_id"], data, _values(place, line["type"], data)))
            elif line["type"] == ERROR:
                scored.append(_Event(place, line["sample_id"], data, None))
    if report is None:
        raise HarnessError(f"file {path}", "it has no final_report: the evaluation did not end", "let it end")
    rows = [_row(event, asked.get(event.sample, {})) for event in scored]
    metrics = dict.fromkeys(name for row in rows for name in row.values)
    stated = report.get("accuracy") if isinstance(report, dict) else None
    means = {CORRECT: float(stated)} if isinstance(stated, int | float) and CORRECT in metrics else {}
    config = spec.get("run_config", {})
    facts = {"models": spec.get("completion_fns") or spec.get("model_name"), "run_id": spec.get("run_id")}
    return Read(
        format=NAME,
        tool=NAME,
        task=task or str(spec.get("eval_name") or spec.get("base_eval") or NAME),
        rows=repeats_numbered(rows),
        files={path.name: sha256(path)},
        version=str(spec.get("split", UNKNOWN)),
        conditions=Conditions(template=digest(*sorted({row.question for row in rows})), decoding=text_of(config)[:200]),
        means=means,
        facts={name: value for name, value in facts.items() if value},
    )


def _values(place: str, kind: str, data: Mapping[str, Any]) -> dict[str, float | None]:
    if kind == MATCH:
        if not isinstance(data.get(CORRECT), bool):
            raise HarnessError(
                f"{place}: {CORRECT} = {shown(data.get(CORRECT))}", "a match is true or false", "check the file"
            )
        return {CORRECT: float(data[CORRECT])}
    return {name: float(value) for name, value in data.items() if isinstance(value, int | float)}


def _row(event: _Event, asked: Mapping[str, Any]) -> Row:
    data = event.data
    prompt, reference = text_of(asked.get("prompt", "")), text_of(data.get("expected", ""))
    picked = data.get("picked")
    return Row(
        content=(prompt or event.sample, reference),
        seed=0,
        values=event.values or {},
        question=prompt or event.sample,
        reference=reference,
        text=text_of(data.get("sampled", asked.get("sampled", ""))),
        place=event.place,
        answer=None if picked is None else text_of(picked),
        error=event.values is None,
    )
