"""Reads the logs of OpenAI's evals: one event a line, of type ``match`` or ``metrics`` where something was scored.

Written against logs of evals 3.0.1. A sample may have both kinds of events, which say different things of one answer;
what is said twice of it is a repeat. The final report stands before the events, which are written at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.evaluate.imported.rows import (
    UNKNOWN,
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
from harness.strict import shown

NAME = "openai"
WHAT = "an event of OpenAI's evals"
SPEC, REPORT = "spec", "final_report"
SAMPLING, MATCH, METRICS, ERROR = "sampling", "match", "metrics", "error"
CORRECT = "correct"
LONGEST = 160
_FIELDS: Mapping[str, type | tuple[type, ...]] = {"sample_id": str, "type": str, "data": (dict, list, str)}


@dataclass
class _Scored:
    """One answer to a sample, and what its events say of it."""

    place: str
    sample: str
    data: dict[str, Any] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    failed: bool = False

    def said(self, data: Mapping[str, Any], values: Mapping[str, float]) -> bool:
        """Take in an event, unless it says of the answer again what was said; return whether it was taken."""
        if values.keys() & self.values.keys():
            return False
        self.data |= data
        self.values |= values
        return True


def is_line(row: Mapping[str, Any]) -> bool:
    """Return whether ``row`` looks like a line of this format."""
    return SPEC in row or {"sample_id", "type", "data"} <= row.keys()


def read(path: Path, task: str | None) -> Read:
    """Return what the log at ``path`` holds. Raises :class:`HarnessError` with file and line for another schema, and
    for a log without its final report: the evaluation did not end."""
    spec: dict[str, Any] = {}
    report: dict[str, Any] | None = None
    asked: dict[str, dict[str, Any]] = {}
    scored: dict[str, list[_Scored]] = {}
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
                values = _values(place, line["type"], data)
                answers = scored.setdefault(line["sample_id"], [])
                if not answers or not answers[-1].said(data, values):
                    answers.append(_Scored(place, line["sample_id"], dict(data), dict(values)))
            elif line["type"] == ERROR:
                scored.setdefault(line["sample_id"], []).append(_Scored(place, line["sample_id"], failed=True))
    if report is None:
        raise HarnessError(f"file {path}", "it has no final_report: the evaluation did not end", "let it end")
    answers = [answer for sample in sorted(scored) for answer in scored[sample]]
    rows = [_row(answer, asked.get(answer.sample, {})) for answer in answers]
    facts = {"models": spec.get("completion_fns") or spec.get("model_name"), "run_id": spec.get("run_id")}
    return Read(
        format=NAME,
        tool=NAME,
        task=task or str(spec.get("eval_name") or spec.get("base_eval") or NAME),
        rows=repeats_numbered(rows, [answer.sample for answer in answers]),
        files={path.name: sha256(path)},
        version=str(spec.get("split", UNKNOWN)),
        conditions=Conditions(template=digest(*sorted({row.question for row in rows})), decoding=_asked_how(spec)),
        means=_means(report, rows),
        facts={name: value for name, value in facts.items() if value},
    )


def _asked_how(spec: Mapping[str, Any]) -> str:
    """Arguments of the evaluation and its seed; not the command, which names the model and the file of the log."""
    config = spec.get("run_config")
    if not isinstance(config, dict):
        return UNKNOWN
    of_eval = config.get("eval_spec")
    arguments = of_eval.get("args") if isinstance(of_eval, dict) else None
    text = text_of({"args": arguments, "seed": config.get("seed")})
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... {digest(text)}"


def _means(report: object, rows: Sequence[Row]) -> dict[str, float]:
    """The means of the report, by the metrics of the rows; that of matches is called accuracy there."""
    stated = report if isinstance(report, dict) else {}
    named = {metric: metric for row in rows for metric in row.values}
    found = {name: stated.get("accuracy" if name == CORRECT else name) for name in named}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def _values(place: str, kind: str, data: Mapping[str, Any]) -> dict[str, float]:
    if kind == MATCH:
        if not isinstance(data.get(CORRECT), bool):
            raise HarnessError(
                f"{place}: {CORRECT} = {shown(data.get(CORRECT))}", "a match is true or false", "check the file"
            )
        return {CORRECT: float(data[CORRECT])}
    return {name: number_of(place, name, value) for name, value in data.items() if isinstance(value, int | float)}


def _row(answer: _Scored, asked: Mapping[str, Any]) -> Row:
    data = answer.data
    prompt, reference = text_of(asked.get("prompt", "")), _one(data.get("expected")) or ""
    return Row(
        content=(prompt or answer.sample, reference),
        seed=0,
        values=answer.values,
        question=prompt or answer.sample,
        reference=reference,
        text=_one(data.get("sampled", asked.get("sampled"))) or "",
        place=answer.place,
        answer=_one(data.get("picked")),
        error=answer.failed,
    )


def _one(value: object) -> str | None:
    """What a list of one holds, as text; None for nothing."""
    if isinstance(value, list) and len(value) < 2:
        value = value[0] if value else None
    return None if value is None else text_of(value)
