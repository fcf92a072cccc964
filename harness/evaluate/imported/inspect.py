"""Reads the logs of Inspect: ``.json``, and ``.eval``, an archive with a file for each sample.

Written against logs of inspect-ai 0.3.285. Scores are ``C`` (1), ``P`` (0.5), ``I`` and ``N`` (0), true, false,
numbers, or several of them by name; an epoch is a seed. The accuracy that a log states is the mean over its samples.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.evaluate.imported.archive import member
from harness.evaluate.imported.rows import UNKNOWN, Conditions, Read, Row, digest, needed, number_of, sha256, text_of
from harness.exceptions import HarnessError
from harness.strict import once, read_object, shown

NAME = "inspect"
WHAT = "a log of Inspect"
ARCHIVE, HEADER = ".eval", "header.json"
_SAMPLE = re.compile(r"samples/.+\.json")
_LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_LOG: Mapping[str, type | tuple[type, ...]] = {"version": int, "status": str, "eval": dict}
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "id": (int, str),
    "epoch": int,
    "input": (str, list),
    "target": object,
}
_MEANS = ("accuracy", "mean")


def is_log(data: Mapping[str, Any]) -> bool:
    """Return whether ``data`` looks like a log of this format."""
    return {"version", "status", "eval", "samples"} <= data.keys()


def read(path: Path, task: str | None) -> Read:
    """Return what the log at ``path`` holds. Raises :class:`HarnessError` for another schema, for a log that was not
    ended, and for samples that are missing."""
    log, samples = _archive(path) if path.suffix == ARCHIVE else _object(path)
    needed(f"file {path}", log, _LOG, WHAT)
    if log["status"] != "success":
        raise HarnessError(f"file {path}", f"its status is {log['status']}: the evaluation did not end", "let it end")
    rows = tuple(_row(f"{path}, {place}", sample) for place, sample in samples)
    results = log.get("results") or {}
    total = results.get("total_samples")
    if total is not None and total != len(rows):
        raise HarnessError(f"file {path}", f"it states {total} samples and holds {len(rows)}", "copy the whole log")
    own = log["eval"]
    packages = own.get("packages") or {}
    generate = (log.get("plan") or {}).get("config") or {}
    asked = {**_given(own.get("model_generate_config")), **generate}
    longest = asked.pop("max_tokens", UNKNOWN)
    steps = [(each.get("solver"), each.get("params")) for each in (log.get("plan") or {}).get("steps", ())]
    facts = {"model": own.get("model"), "run_id": own.get("run_id"), "task_id": own.get("task_id")}
    facts |= {"created": own.get("created")}
    arguments = own.get("task_args") or {}
    return Read(
        format=NAME,
        tool=f"{NAME} {packages.get('inspect_ai', UNKNOWN)}",
        task=task or str(own.get("task", NAME)),
        version=" ".join([str(own.get("task_version", UNKNOWN)), *([text_of(arguments)] if arguments else [])]),
        rows=rows,
        files={path.name: sha256(path)},
        conditions=Conditions(digest(steps), text_of(asked), str(longest)),
        means=_means(results),
        facts={name: value for name, value in facts.items() if value},
    )


def _object(path: Path) -> tuple[Mapping[str, Any], Iterator[tuple[str, Mapping[str, Any]]]]:
    log = read_object(path)
    samples = log.get("samples")
    if not isinstance(samples, list):
        raise HarnessError(f"file {path}: samples = {shown(samples)}", f"{WHAT} has a list", "give a log with samples")
    return log, ((f"sample {number}", each) for number, each in enumerate(samples, start=1))


def _archive(path: Path) -> tuple[Mapping[str, Any], Iterator[tuple[str, Mapping[str, Any]]]]:
    with _one_line(path):
        archive = zipfile.ZipFile(path)
        names = archive.namelist()
    if HEADER not in names:
        raise HarnessError(f"file {path}", f"it has no {HEADER}: the evaluation did not end", "let it end")
    with _one_line(path):
        header = _parsed(path, HEADER, member(path, archive, HEADER))
    return header, _members(path, archive, [name for name in names if _SAMPLE.fullmatch(name)])


def _members(path: Path, archive: zipfile.ZipFile, names: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in names:
        with _one_line(path):
            found = _parsed(path, name, member(path, archive, name))
        yield name, found


def _parsed(path: Path, name: str, content: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(content, object_pairs_hook=once)
    except ValueError as error:
        raise HarnessError(f"{path}, {name}: {error}", "it is one JSON object", "copy the log again") from None
    if not isinstance(found, dict):
        raise HarnessError(f"{path}, {name}: {shown(found)}", "it is one JSON object", "copy the log again")
    return found


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, EOFError) as error:
        raise HarnessError(f"file {path}", f"the archive is damaged ({error})", "copy the log again") from None
    except OSError as error:
        raise HarnessError(f"file {path}", f"it cannot be read ({error.strerror or error})", "check the path") from None


def _row(place: str, sample: Mapping[str, Any]) -> Row:
    if not isinstance(sample, dict):
        raise HarnessError(f"{place}: {shown(sample)}", "a sample is an object", "check the file")
    needed(place, sample, _FIELDS, WHAT)
    values: dict[str, float | None] = {}
    answer = None
    for name, score in (sample.get("scores") or {}).items():
        found = score.get("value") if isinstance(score, dict) else score
        answer = (score.get("answer") if isinstance(score, dict) else None) or answer
        parts = {f"{name}/{key}": each for key, each in found.items()} if isinstance(found, dict) else {name: found}
        values |= {key: _value(place, key, each) for key, each in parts.items()}
    choices = (sample.get("output") or {}).get("choices") or [{}]
    return Row(
        content=(_content(sample["input"]), text_of(sample.get("choices")), text_of(sample["target"])),
        seed=sample["epoch"] - 1,
        values=values,
        question=_content(sample["input"]),
        reference=text_of(sample["target"]),
        text=_content((choices[0].get("message") or {}).get("content", "")),
        place=place,
        answer=None if answer is None else text_of(answer),
        truncated=choices[0].get("stop_reason") in ("max_tokens", "model_length"),
        error=bool(sample.get("error")) or not values,
    )


def _content(value: object) -> str:
    """The text of a message, or of several, without the ids that each run gives them anew."""
    if isinstance(value, list):
        parts = [
            {name: each[name] for name in ("role", "content", "type", "text") if name in each}
            if isinstance(each, dict)
            else each
            for each in value
        ]
        return text_of(parts)
    return text_of(value)


def _value(place: str, name: str, value: object) -> float | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):  # it was not scored
        return None
    if isinstance(value, str):
        if value in _LETTERS:
            return _LETTERS[value]
        raise HarnessError(
            f"{place}: {name} = {shown(value)}",
            f"a score is one of {', '.join(_LETTERS)} or a number",
            "name another --metric",
        )
    return number_of(place, name, value)


def _means(results: Mapping[str, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for score in results.get("scores", ()):
        if score.get("reducer") in (None, "mean"):
            for name in _MEANS:
                stated = (score.get("metrics") or {}).get(name, {}).get("value")
                if isinstance(stated, int | float):
                    found.setdefault(score["name"], float(stated))
    return found


def _given(value: object) -> dict[str, Any]:
    return {name: each for name, each in value.items() if each is not None} if isinstance(value, Mapping) else {}
