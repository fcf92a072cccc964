"""Reads lm-evaluation-harness: ``samples_TASK_DATE.jsonl`` (``--log_samples``) with its ``results_DATE.json``.

Written against files of lm-eval 0.4.13. Each line is one document under one filter, with hashes of the document, the
prompt and the target, which are computed again here; the results file states how many there are and their mean.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.evaluate.imported.rows import UNKNOWN, Conditions, Read, Row, digest, needed, number_of, sha256, text_of
from harness.evaluate.tasks.base import read_json_lines
from harness.exceptions import HarnessError
from harness.strict import read_object

NAME = "lm-eval"
WHAT = "a line of lm-eval's samples"
_FILE = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[-\d:.]+)\.jsonl")
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "doc_id": int,
    "doc": object,
    "target": object,
    "arguments": (dict, list),
    "resps": list,
    "filter": str,
    "metrics": list,
    "doc_hash": str,
    "prompt_hash": str,
    "target_hash": str,
}
_NO_GENERATION = "log-likelihood"


def is_line(row: Mapping[str, Any]) -> bool:
    """Return whether ``row`` looks like a line of this format."""
    return {"doc_id", "doc", "resps"} <= row.keys()


def read(path: Path, task: str | None) -> Read:
    """Return what the samples at ``path`` hold: a file, or the folder with those of ``task``. Raises
    :class:`HarnessError` with file and line for another schema, and for hashes, numbers and means that do not fit."""
    file = _in_folder(path, task) if path.is_dir() else path
    named = _FILE.fullmatch(file.name)
    if named is None:
        raise HarnessError(
            f"file {file}", "lm-eval calls it samples_TASK_DATE.jsonl", "keep the name that it was given"
        )
    results_file = file.with_name(f"results_{named['date']}.json")
    if not results_file.is_file():
        raise HarnessError(
            f"file {file}", f"{results_file.name}, which says what was evaluated, is not beside it", "copy both"
        )
    own, results = named["task"], read_object(results_file)
    if own not in results.get("results", {}):
        raise HarnessError(
            f"file {results_file}", f"it has no results of {own}", "copy the file of the same evaluation"
        )
    rows, prompts = _rows(file)
    _check_count(results_file, results, own, len(rows))
    config = results.get("config", {})
    facts = {
        "model": results.get("model_name"),
        "model_sha": config.get("model_sha"),
        "model_args": text_of(config.get("model_args")),
        "task_hash": results.get("task_hashes", {}).get(own),
        "chat_template_sha": results.get("chat_template_sha"),
        "system_instruction_sha": results.get("system_instruction_sha"),
        "date": named["date"],
    }
    return Read(
        format=NAME,
        tool=f"{NAME} {results.get('lm_eval_version', UNKNOWN)}",
        task=own,
        version=str(results.get("versions", {}).get(own, UNKNOWN)),
        rows=rows,
        files={file.name: sha256(file), results_file.name: sha256(results_file)},
        conditions=_conditions(results, own, digest(*sorted(prompts))),
        means=_means(results["results"][own]),
        facts={name: value for name, value in facts.items() if value},
    )


def _in_folder(folder: Path, task: str | None) -> Path:
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("samples_*.jsonl")):
        named = _FILE.fullmatch(file.name)
        if named is not None:
            found.setdefault(named["task"], []).append(file)
    chosen = found.get(task, []) if task is not None else [file for files in found.values() for file in files]
    if len(chosen) != 1:
        known = ", ".join(f"{name} ({len(files)})" for name, files in found.items()) or "none"
        raise HarnessError(
            f"folder {folder}", f"one samples file is read at a time; it has {known}", "name the file, or give --task"
        )
    return chosen[0]


def _rows(file: Path) -> tuple[tuple[Row, ...], set[str]]:
    """The documents with the metrics of all filters, and the hashes of their prompts."""
    found: dict[int, Row] = {}
    prompts: set[str] = set()
    for number, line in read_json_lines(file):
        place = f"{file}, line {number}"
        needed(place, line, _FIELDS, WHAT)
        _check_hashes(place, line)
        prompts.add(line["prompt_hash"])
        values = {f"{name},{line['filter']}": _value(place, name, line) for name in line["metrics"]}
        row = _row(place, line, values)
        before = found.get(line["doc_id"])
        if before is None:
            found[line["doc_id"]] = row
            continue
        if before.content != row.content or before.values.keys() & values.keys():
            raise HarnessError(
                f"{place}: doc_id {line['doc_id']} stands on another line with the same filter, or as another document",
                "each document has one line for each filter",
                "two files were joined: import them one by one",
            )
        found[line["doc_id"]] = replace(before, values={**before.values, **values})
    return tuple(found.values()), prompts


def _row(place: str, line: Mapping[str, Any], values: Mapping[str, float | None]) -> Row:
    arguments = line["arguments"]
    first = arguments.get("gen_args_0", {}) if isinstance(arguments, dict) else arguments[0] if arguments else {}
    prompt = first.get("arg_0", "") if isinstance(first, dict) else first[0]
    answers = line.get("filtered_resps", line["resps"])
    answer = text_of(answers[0]) if len(answers) == 1 else text_of(answers)
    text = line["resps"]
    while isinstance(text, list) and len(text) == 1:
        text = text[0]
    content = (line["doc_hash"], line["target_hash"])
    return Row(content, 0, values, text_of(prompt), text_of(line["target"]), text_of(text), place, answer)


def _value(place: str, name: object, line: Mapping[str, Any]) -> float | None:
    if name not in line:
        raise HarnessError(f"{place}: no {name}", "its metrics name it", "write the file again")
    value = line[str(name)]
    return number_of(place, str(name), value) if isinstance(value, int | float) else None


def _check_hashes(place: str, line: Mapping[str, Any]) -> None:
    """The document and the target are those that were hashed: an edited line shows."""
    content = {
        "doc_hash": json.dumps(line["doc"], indent=2, ensure_ascii=False),
        "target_hash": text_of(line["target"]),
    }
    for name, text in content.items():
        if hashlib.sha256(text.encode("utf-8")).hexdigest() != line[name]:
            raise HarnessError(
                f"{place}: {name} = {line[name]:.16}...", "it is not that of the line: edited", "write the file again"
            )


def _check_count(file: Path, results: Mapping[str, Any], task: str, documents: int) -> None:
    stated = results.get("n-samples", {}).get(task, {}).get("effective")
    if stated is not None and stated != documents:
        raise HarnessError(
            f"file {file}",
            f"it states {stated} documents of {task}, the samples hold {documents}",
            "copy both files again",
        )


def _means(results: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in results.items()
        if "," in name and "_stderr," not in name and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _conditions(results: Mapping[str, Any], task: str, template: str) -> Conditions:
    config, own = results.get("config", {}), results.get("configs", {}).get(task, {})
    dtype = str(config.get("model_dtype") or UNKNOWN).removeprefix("torch.")
    if own.get("output_type", "generate_until") != "generate_until":
        return Conditions(template, _NO_GENERATION, "0", dtype)
    asked = {**(own.get("generation_kwargs") or {}), **_mapping(config.get("gen_kwargs"))}
    longest = asked.pop("max_gen_toks", UNKNOWN)
    return Conditions(template, text_of(asked), str(longest), dtype)


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
