"""Reads NeMo Evaluator: ``results.jsonl``, a line for each repeat of a problem, and its bundle ``eval-*.json``.

Written against the documented result format (versions 0.3 and later, which no package index had on 2026-11-29), not
against files of its own. What the published 0.2.8 writes is read by :mod:`harness.evaluate.imported.nemo_byob`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.evaluate.imported import nemo_byob
from harness.evaluate.imported.rows import UNKNOWN, Conditions, Read, Row, digest, needed, number_of, sha256, text_of
from harness.evaluate.tasks.base import read_json_lines
from harness.exceptions import HarnessError
from harness.strict import read_object, shown

NAME = "nemo"
WHAT = "a line of NeMo Evaluator's results.jsonl"
RESULTS, BUNDLES = "results.jsonl", "eval-*.json"
_FIELDS: Mapping[str, type | tuple[type, ...]] = {"problem_idx": int, "reward": (int, float)}


def is_line(row: Mapping[str, Any]) -> bool:
    """Return whether ``row`` looks like a line of this format."""
    return {"problem_idx", "reward"} <= row.keys() or nemo_byob.is_line(row)


def is_folder(path: Path) -> bool:
    """Return whether the folder ``path`` holds results."""
    return (path / RESULTS).is_file() or any(path.rglob(nemo_byob.PREDICTIONS))


def is_beside(path: Path) -> bool:
    """Return whether the JSON file ``path`` stands beside results, and says what they are of."""
    return path.match(BUNDLES) or path.name == nemo_byob.RESULTS


def read(path: Path, task: str | None) -> Read:
    """Return what the results hold: ``results.jsonl`` or the predictions of an own benchmark, their folder, or the
    bundle beside them; ``task`` names the benchmark where no bundle does. Raises :class:`HarnessError` with file and
    line for another schema."""
    predictions = _predictions(path)
    if predictions is not None:
        return nemo_byob.read(predictions, task, NAME)
    file = path / RESULTS if path.is_dir() else path if path.suffix == ".jsonl" else path.with_name(RESULTS)
    if not file.is_file():
        raise HarnessError(f"{path}", f"there is no {RESULTS}, which holds the answers", "give the folder of the run")
    bundle = _bundle(file.parent)
    rows: list[Row] = []
    seen: dict[tuple[int, int], int] = {}
    for number, line in read_json_lines(file):
        place = f"{file}, line {number}"
        needed(place, line, _FIELDS, WHAT)
        repeat = line.get("repeat", 0)
        if isinstance(repeat, bool) or not isinstance(repeat, int) or repeat < 0:
            raise HarnessError(f"{place}: repeat = {shown(repeat)}", "it is a whole number of at least 0", "correct it")
        first = seen.setdefault((line["problem_idx"], repeat), number)
        if first != number:
            raise HarnessError(
                f"{place}: problem {line['problem_idx']}, repeat {repeat} stands on line {first} already",
                "each repeat of a problem has one line",
                "remove one",
            )
        rows.append(_row(place, line, repeat))
    benchmark = bundle.get("benchmark", {})
    named = benchmark.get("name") if isinstance(benchmark, dict) else benchmark
    files = {file.name: sha256(file), **{name: sha256(file.parent / name) for name in bundle.get("", ())}}
    config = bundle.get("config", {})
    return Read(
        format=NAME,
        tool=f"{NAME} {bundle.get('version', UNKNOWN)}",
        task=task or (named if isinstance(named, str) else NAME),
        rows=tuple(rows),
        files=files,
        conditions=Conditions(template=digest(*sorted({row.question for row in rows}))),
        facts={"config": config} if config else {},
    )


def _predictions(path: Path) -> Path | None:
    """The predictions of an own benchmark that ``path`` is, holds, or stands beside; None where there are none."""
    if path.is_dir():
        found = [] if (path / RESULTS).is_file() else sorted(path.rglob(nemo_byob.PREDICTIONS))
        if len(found) > 1:
            raise HarnessError(f"folder {path}", f"it holds {len(found)} {nemo_byob.PREDICTIONS}", "give one of them")
        return found[0] if found else None
    if path.name == nemo_byob.RESULTS:
        return path.with_name(nemo_byob.PREDICTIONS)
    if path.suffix != ".jsonl":
        return None
    first = next(read_json_lines(path), None)
    return path if first is not None and nemo_byob.is_line(first[1]) else None


def _bundle(folder: Path) -> dict[str, Any]:
    """The one bundle of the folder, with its file's name under the empty key; empty where there is none."""
    found = sorted(folder.glob(BUNDLES))
    if len(found) > 1:
        raise HarnessError(f"folder {folder}", f"it holds {len(found)} bundles {BUNDLES}", "keep one run in a folder")
    return {**read_object(found[0]), "": (found[0].name,)} if found else {}


def _row(place: str, line: Mapping[str, Any], repeat: int) -> Row:
    question, reference = text_of(line.get("prompt", "")), text_of(line.get("expected_answer", ""))
    metadata, details = line.get("metadata") or {}, line.get("scoring_details") or {}
    category = metadata.get("category") or details.get("category") or ""
    answer = line.get("extracted_answer")
    return Row(
        content=(str(line["problem_idx"]), question, reference),
        seed=repeat,
        values={"reward": number_of(place, "reward", line["reward"])},
        question=question or f"problem {line['problem_idx']}",
        reference=reference,
        text=text_of(line.get("model_response", answer or "")),
        place=place,
        answer=None if answer is None else text_of(answer),
        cluster=text_of(category),
    )
