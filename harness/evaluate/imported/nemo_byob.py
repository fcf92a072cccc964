"""Reads the predictions of NeMo Evaluator's own benchmarks (``byob_predictions.jsonl``, ``--save-predictions``).

Written against files of nemo-evaluator 0.2.8. It numbers samples on through its repeats, so that a sample is known by
its content; the means in ``byob_results.json`` beside it are over what was scored, rounded to four decimals.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.evaluate.imported.rows import Conditions, Read, Row, digest, needed, number_of, sha256, text_of
from harness.evaluate.tasks.base import read_json_lines
from harness.exceptions import HarnessError
from harness.strict import read_object, shown

WHAT = "a prediction of NeMo Evaluator"
PREDICTIONS, RESULTS = "byob_predictions.jsonl", "byob_results.json"
SCORED, SKIPPED = "scored", "skipped_"
ROUNDED = 5.1e-5
_FIELDS: Mapping[str, type | tuple[type, ...]] = {"sample_id": int, "prompt": str, "target": object, "status": str}


def is_line(row: Mapping[str, Any]) -> bool:
    """Return whether ``row`` looks like a line of this format."""
    return {"sample_id", "status", "scores"} <= row.keys()


def read(path: Path, task: str | None, name: str) -> Read:
    """Return what the predictions at ``path`` hold, as format ``name``; ``task`` names the benchmark where no results
    do. Raises :class:`HarnessError` with file and line for another schema, and where predictions are missing."""
    rows: list[Row] = []
    seen: dict[int, int] = {}
    for number, line in read_json_lines(path):
        place = f"{path}, line {number}"
        needed(place, line, _FIELDS, WHAT)
        first = seen.setdefault(line["sample_id"], number)
        if first != number:
            raise HarnessError(
                f"{place}: sample {line['sample_id']} stands on line {first} already",
                "each sample of each repeat has one line",
                "remove one",
            )
        rows.append(_row(place, line))
    files = {path.name: sha256(path)}
    results = path.with_name(RESULTS)
    benchmark, means = path.parent.name, dict[str, float]()
    if results.is_file():
        files[RESULTS] = sha256(results)
        benchmark, means = _results(results, rows)
    return Read(
        format=name,
        tool=f"{name} byob",
        task=task or benchmark or name,
        rows=tuple(rows),
        files=files,
        conditions=Conditions(template=digest(*sorted({row.question for row in rows}))),
        means=means,
        rounded=ROUNDED,
    )


def _row(place: str, line: Mapping[str, Any]) -> Row:
    status, scores, metadata = line["status"], line.get("scores") or {}, line.get("metadata") or {}
    if status != SCORED and not status.startswith(SKIPPED):
        raise HarnessError(
            f"{place}: status = {shown(status)}", f"{WHAT} is {SCORED} or {SKIPPED}...", "check the file"
        )
    if not isinstance(scores, dict) or not isinstance(metadata, dict) or (status == SCORED and not scores):
        raise HarnessError(f"{place}: scores = {shown(scores)}", f"{WHAT} that is {SCORED} has them", "check the file")
    asked = {name: value for name, value in metadata.items() if not name.startswith("_")}
    prompt, reference = line["prompt"], text_of(line["target"])
    return Row(
        content=(prompt or text_of(asked), reference),
        seed=_repeat(place, metadata.get("_repeat", 0)),
        values={
            name: number_of(place, name, value) for name, value in scores.items() if isinstance(value, int | float)
        },
        question=prompt or text_of(asked),
        reference=reference,
        text=line.get("response") or "",
        place=place,
        error=status != SCORED,
        cluster=text_of(metadata.get("category") or ""),
    )


def _repeat(place: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise HarnessError(f"{place}: _repeat = {shown(value)}", "it is a whole number of at least 0", "correct it")
    return value


def _results(path: Path, rows: list[Row]) -> tuple[str, dict[str, float]]:
    """The benchmark that the results name, and its means by metric; each must be over as many samples as are here."""
    tasks = read_object(path).get("tasks")
    try:
        ((benchmark, told),) = tasks.items()  # type: ignore[union-attr]
        scores = told["metrics"]["pass@1"]["scores"]
        stated = {name: (float(each["value"]), int(each["stats"]["count"])) for name, each in scores.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        rule = "results of NeMo Evaluator hold one benchmark, with value and count of each score"
        raise HarnessError(f"file {path}", rule, "copy it again, or remove it") from None
    for name, (_, count) in stated.items():
        there = sum(name in row.values for row in rows)
        if there != count:
            raise HarnessError(
                f"{path}: it states {count} samples with {name}, and {PREDICTIONS} holds {there}",
                "both must agree, or something is missing or edited",
                "copy the folder again",
            )
    return str(benchmark), {name: value for name, (value, _) in stated.items()}
