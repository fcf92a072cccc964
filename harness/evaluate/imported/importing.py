"""Turns results of other programs into a run without an injection certificate (no torch)."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.evaluate.imported.formats import AUTO, read_results
from harness.evaluate.imported.rows import UNKNOWN, Read, Row, digest, without_twins
from harness.exceptions import HarnessError, NotComparableError
from harness.record import ERROR, RIGHT, UNPARSED, WRONG, ItemResult
from harness.revision import code_identity
from harness.runs.machine import environment
from harness.runs.manifest import ExternalIdentity, ExternalManifest
from harness.runs.store import Store
from harness.text import nearest
from harness.thresholds import FLOOR

log = logging.getLogger(__name__)
ENGINE = "external"
_SAME = ("format", "tool", "task", "version", "conditions")
_UNKNOWN = ("attention", "quantization", "aqn", "noise", "coverage")


@dataclass(frozen=True)
class ImportOptions:
    """How results are read: ``metric`` by its name (None: the only one), ``at_least`` the value from which a score
    counts as right (None: scores are 0 and 1), ``level`` the noise level (fraction) that was on elsewhere, ``floor``
    the clean accuracy (fraction) below which the task measures nothing."""

    format: str = AUTO
    task: str | None = None
    metric: str | None = None
    at_least: float | None = None
    level: float = 0.0
    floor: float = FLOOR


def import_results(files: Sequence[Path], out: Path, options: ImportOptions = ImportOptions()) -> None:
    """Import the results in ``files`` into the run folder ``out``; the same call again changes nothing.

    Several files are repeats of one evaluation: the seeds of each follow those of the one before. Items are paired by
    their content, so that two imports of one task pair item by item. The scores are those of the writer: they are
    not computed again, and the run says so. Raises :class:`HarnessError` with file and line for what does not follow
    the format, for an unknown metric and for scores other than 0 and 1, and :class:`NotComparableError` where the files
    are not repeats of one evaluation.
    """
    _check(options)
    reads = [read_results(file, options.format, options.task) for file in files]
    _check_alike(files, reads)
    first = reads[0]
    metric = _metric(first, options.metric, files[0])
    rows = _joined(files, reads)
    for file, read in zip(files, reads, strict=True):
        _check_mean(file, read, metric)
    results = {(_key(first, row), row.seed): (row, _result(first, row, metric, options)) for row in rows}
    manifest = _manifest(files, reads, metric, options, {key: row for (key, _), (row, _) in results.items()})
    with Store.create(out, manifest) as store:
        if store.done():
            return
        questions = {key: row.question for (key, _), (row, _) in results.items()}
        references = {key: row.reference for (key, _), (row, _) in results.items()}
        store.add_questions(questions, references)
        store.add_batch([result for _, result in results.values()])


def _check(options: ImportOptions) -> None:
    for name, value in (("--level", options.level), ("--floor", options.floor)):
        if not 0 <= value < 1:
            raise HarnessError(f"{name} {value:g}", "it is a fraction, at least 0 and below 1", "write 0.05 for 5 %")
    if options.at_least is not None and not math.isfinite(options.at_least):
        raise HarnessError(f"--at-least {options.at_least}", "it is a finite number", "give the lowest right score")


def _check_alike(files: Sequence[Path], reads: Sequence[Read]) -> None:
    """All files are of one evaluation, and none is there twice."""
    for file, read in zip(files[1:], reads[1:], strict=True):
        for name in _SAME:
            mine, theirs = getattr(read, name), getattr(reads[0], name)
            if mine != theirs:
                raise NotComparableError(
                    f"{file}: {name} {mine}; {files[0]} has {theirs}",
                    "several files of one import are repeats of one evaluation",
                    "import them into runs of their own",
                )
    contents = [tuple(read.files.values()) for read in reads]
    for number, content in enumerate(contents):
        if content in contents[:number]:
            raise HarnessError(
                f"{files[number]}: its content is that of {files[contents.index(content)]}",
                "a repeat is another draw, not a copy",
                "leave it out",
            )


def _joined(files: Sequence[Path], reads: Sequence[Read]) -> list[Row]:
    """The rows of all files, the seeds of each after those of the one before."""
    found: list[Row] = []
    for file, read in zip(files, reads, strict=True):
        rows, twins = without_twins(read.rows, file)
        if twins:
            log.warning("%s: %d repeated questions dropped, the first of each kept", file, twins)
        after = 1 + max((row.seed for row in found), default=-1)
        found += [replace(row, seed=after + row.seed) for row in rows]
    return found


def _metric(read: Read, wanted: str | None, file: Path) -> str:
    known = read.metrics
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted is None:
        raise HarnessError(
            f"{file}: it has the metrics {', '.join(known) or 'none'}",
            "a run has one that is gated",
            "give --metric NAME",
        )
    if wanted not in known:
        raise HarnessError(f"--metric {wanted}", f"{file} has {', '.join(known) or 'none'}", nearest(wanted, known))
    return wanted


def _check_mean(file: Path, read: Read, metric: str) -> None:
    """The mean that the writer states is that of its rows: where lines are missing or edited, it is not."""
    stated = read.means.get(metric)
    values = [row.values[metric] for row in read.rows if row.values.get(metric) is not None]
    if stated is None or not values or any(row.error for row in read.rows):
        return
    mean = math.fsum(value for value in values if value is not None) / len(values)
    if abs(mean - stated) > read.rounded:
        raise HarnessError(
            f"{file}: {metric} is {mean:.6f} over its {len(values)} answers, and {stated:.6f} by its own account",
            "both must agree, or something is missing or edited",
            "copy the files again, or choose another --metric",
        )


def _key(read: Read, row: Row) -> str:
    return digest(read.format, read.task, *row.content)


def _result(read: Read, row: Row, metric: str, options: ImportOptions) -> ItemResult:
    value = row.values.get(metric)
    score, reason = None, ERROR if row.error else UNPARSED
    if value is not None and not row.error:
        score = _binary(row, metric, value, options.at_least)
        reason = RIGHT if score else WRONG
    return ItemResult(
        item=_key(read, row),
        level=abs(options.level),
        seed=row.seed,
        score=score,
        reason=reason,
        answer=row.answer,
        scores={metric: score},
        prompt_tokens=0,
        tokens=(),
        text=row.text,
        truncated=row.truncated,
    )


def _binary(row: Row, metric: str, value: float, at_least: float | None) -> float:
    if at_least is not None:
        return float(value >= at_least)
    if value not in (0, 1):
        raise HarnessError(
            f"{row.place}: {metric} = {value:g}",
            "a gate judges right and wrong: 1 and 0",
            "give --at-least NUMBER, the lowest score that is right, or another --metric",
        )
    return float(value)


def _manifest(
    files: Sequence[Path], reads: Sequence[Read], metric: str, options: ImportOptions, items: Mapping[str, Row]
) -> ExternalManifest:
    first = reads[0]
    conditions = first.conditions
    key = {
        "task": f"{first.format}:{first.task}",
        "dataset": digest(*sorted(items)),
        "template": conditions.template,
        "scorer": metric if options.at_least is None else f"{metric} >= {options.at_least:g}",
        "scorer_rule": f"{first.tool}, task version {first.version}",
        "engine": ENGINE,
        "dtype": conditions.dtype,
        "decoding": conditions.decoding,
        "max_new_tokens": conditions.max_new_tokens,
        **dict.fromkeys(_UNKNOWN, UNKNOWN),
    }
    told: list[dict[str, Any]] = [
        {"files": dict(read.files), "facts": json.loads(json.dumps(dict(read.facts), default=str))} for read in reads
    ]
    content = hashlib.sha256(json.dumps([part["files"] for part in told], sort_keys=True).encode()).hexdigest()
    clusters = {item: row.cluster for item, row in items.items() if row.cluster}
    return ExternalManifest(
        identity=ExternalIdentity(content, {**key, "level": f"{options.level:g}"}),
        measurement_key=key,
        environment=environment(),
        code=code_identity(),
        completions=", ".join(str(file) for file in files),
        floor=options.floor,
        imported={"format": first.format, "tool": first.tool, "metric": metric, "sources": told},
        clusters=clusters or None,
    )
