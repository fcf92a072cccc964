"""Requests of lm-evaluation-harness, answered under noise with evidence: what the model ``harness`` there does.

All requests of one call are one evaluation of the task ``requests``: the clean level and the one that is asked for,
with records, counts, audits, replay and positive control, in a run folder that is named after their content. An answer
is given only out of a complete run whose certificate holds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.checkpoints.source import AnyCheckpoint
from harness.evaluate.api import evaluate_tasks
from harness.evaluate.tasks.lm_eval_answers import generation_of
from harness.evaluate.tasks.requests import NAME, PROMPT, REQUESTS, TEXT, Row, item_of, written
from harness.exceptions import EvidenceError, HarnessError
from harness.likelihoods import Scored
from harness.record import CERTIFIED, ItemResult, LikelihoodResult
from harness.runs.folder import write_atomically
from harness.runs.loaded import Run, check_complete
from harness.scorers.until import cut
from harness.spec import EngineOptions, EvalSpec

log = logging.getLogger(__name__)

WHERE = "a request of lm-eval"
_DIGITS = 12


@dataclass(frozen=True)
class Request:
    """What is asked: ``arguments`` as lm-eval gives them, and the ``document`` it belongs to (None: to none). The
    continuations of a document share their draws of noise, as those of a task's item do."""

    arguments: tuple[Any, ...]
    document: Hashable = None


@dataclass(frozen=True)
class Asking:
    """Under which conditions ``checkpoint`` is asked. ``spec`` has the levels and noise seeds that are evaluated; the
    answers are those at ``level`` with the noise seed ``seed``. Run folders stand in ``out``.

    Raises :class:`HarnessError` where the specification does not hold that level or seed.
    """

    checkpoint: AnyCheckpoint
    spec: EvalSpec
    out: Path
    level: float
    seed: int = 0
    options: EngineOptions = field(default_factory=EngineOptions)
    device: str | None = None

    def __post_init__(self) -> None:
        if self.level not in self.spec.levels:
            levels = ", ".join(f"{level:g}" for level in self.spec.levels)
            raise HarnessError(f"level {self.level:g}", f"the levels evaluated are {levels}", "add it to levels")
        if self.seed not in self.spec.seeds_at(self.level):
            count = len(self.spec.seeds_at(self.level))
            rule = f"{count} noise seeds from 0 are evaluated at level {self.level:g}"
            raise HarnessError(f"seed {self.seed}", rule, "give noise_seeds, or a smaller seed")


@dataclass(frozen=True)
class Answers:
    """``values`` of the requests, in their order, the folders of the runs that they come from, and what their
    certificates say beside (:class:`harness.record.Certificate`): ``notes``."""

    values: tuple[Any, ...]
    runs: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def loglikelihoods(asking: Asking, requests: Sequence[Request]) -> Answers:
    """Return (log-likelihood in nats, whether greedy decoding would write it) of each continuation behind its context.

    What is not finite is minus infinity, and greedy decoding would not write it. Raises :class:`HarnessError` for what
    cannot be asked and :class:`EvidenceError` where the run proves nothing, and where a document has several
    continuations of which one is not finite: of equal ones lm-eval chooses the first, which may be the right one.
    """
    documents: dict[Hashable, dict[tuple[str, str], None]] = {}
    for number, request in enumerate(requests):
        documents.setdefault(_document(number, request), {})[_pair(request)] = None
    rows = {name: {REQUESTS: sorted(map(list, pairs))} for name, pairs in documents.items()}
    runs = _answered(asking, {REQUESTS: rows.values()})
    records = _records(asking, runs.values())
    found: dict[Hashable, dict[tuple[str, str], tuple[float, bool]]] = {}
    broken = 0
    for name, row in rows.items():
        scored = _scored(records, row)
        broken += len(scored) > 1 and any(each.nats is None for each in scored)
        told = [(float("-inf"), False) if each.nats is None else (each.nats, each.greedy) for each in scored]
        found[name] = dict(zip(((context, text) for context, text in row[REQUESTS]), told, strict=True))
    if broken:
        raise EvidenceError(
            f"{broken} of {len(rows)} documents have continuations without a finite log-likelihood",
            "lm-eval would choose among them, and may choose the right one",
            "use harness eval --task lm_eval:NAME, where such an item has no score, or a lower level",
        )
    values = [found[_document(number, request)][_pair(request)] for number, request in enumerate(requests)]
    return _answers(values, runs)


def rolling(asking: Asking, requests: Sequence[Request]) -> Answers:
    """Return the log-likelihood (nats) of each whole text, raising as :func:`loglikelihoods` does."""
    rows = [{TEXT: request.arguments[0]} for request in requests]
    runs = _answered(asking, {TEXT: rows})
    records = _records(asking, runs.values())
    windows = [[float("-inf") if each.nats is None else each.nats for each in _scored(records, row)] for row in rows]
    return _answers(map(math.fsum, windows), runs)


def generations(asking: Asking, requests: Sequence[Request]) -> Answers:
    """Return the text of each answer, cut where lm-eval cuts it, raising as :func:`loglikelihoods` does.

    Requests that end at other texts, or may have other lengths, have runs of their own.
    """
    rows = [_prompt(request) for request in requests]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_settings(row), []).append(row)
    runs = _answered(asking, groups)
    records = _records(asking, runs.values())
    return _answers([cut(records[item_of(row).key].text, row["until"]) for row in rows], runs)


def proven(run: Run, level: float) -> Run:
    """Return ``run`` where its evidence holds, at ``level`` and without noise; nobody is given a number of another one.

    Raises :class:`EvidenceError` for what speaks against it, :class:`NotComparableError` where it is unfinished.
    """
    check_complete(run)
    certificate = run.arm.certificate
    problems = [problem for each in dict.fromkeys((0.0, level)) for problem in certificate.problems_at(each)]
    if problems or certificate.status != CERTIFIED or certificate.uncontrolled:
        why = problems[0] if problems else f"its certificate is {certificate.status}, without a positive control"
        raise EvidenceError(f"run {run.path}: {why}", "no evidence, no number", "see harness report on that folder")
    return run


def _answered(asking: Asking, groups: Mapping[str, Iterable[Row]]) -> dict[str, Run]:
    """The runs of all ``groups`` of requests, each proven; the model is loaded once."""
    specs: dict[str, EvalSpec] = {}
    folders: dict[str, Path] = {}
    for group, rows in groups.items():
        text = written(rows)
        if not text:
            continue
        name = f"{_kind(group)}-{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"
        file, folders[group] = asking.out / f"{name}.jsonl", asking.out / name
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)
        specs[group] = _spec(asking.spec, file)
    if not specs:
        return {}
    try:
        runs = evaluate_tasks(asking.checkpoint, specs, folders, asking.options, asking.device)
    finally:
        for folder in folders.values():
            if not folder.exists():  # refused before anything ran
                folder.with_name(f"{folder.name}.jsonl").unlink(missing_ok=True)
    for run in runs.values():
        log.info("requests of lm-eval answered at level %g, seed %d from %s", asking.level, asking.seed, run.path)
    return {group: proven(run, asking.level) for group, run in runs.items()}


def _spec(spec: EvalSpec, file: Path) -> EvalSpec:
    data = spec.to_json() | {"task": NAME, "data": str(file), "items": None, "scorer": None}
    return EvalSpec.from_json(data)


def _kind(group: str) -> str:
    return group if group in (REQUESTS, TEXT) else PROMPT


def _records(asking: Asking, runs: Iterable[Run]) -> dict[str, ItemResult]:
    """The records that were asked for, by item."""
    wanted = asking.level, asking.seed
    return {result.item: result for run in runs for result in run.results if (result.level, result.seed) == wanted}


def _scored(records: Mapping[str, ItemResult], row: Row) -> Sequence[Scored]:
    """What the record of ``row`` says of its continuations, or of the windows of its text."""
    result = records[item_of(row).key]
    assert isinstance(result, LikelihoodResult)
    return result.requests


def _document(number: int, request: Request) -> Hashable:
    return ("alone", _pair(request)) if request.document is None else ("document", request.document)


def _pair(request: Request) -> tuple[str, str]:
    context, continuation = request.arguments[:2]
    return context, continuation


def _prompt(request: Request) -> Row:
    context, given = request.arguments[:2]
    asked = generation_of(given, WHERE)
    if asked.sampled:
        rule = f"its answers are sampled ({asked.sampled}), and lm-eval has no keys for its draws"
        raise HarnessError(WHERE, rule, "give --gen_kwargs do_sample=False, or use harness eval --task lm_eval:NAME")
    return {PROMPT: context, "until": list(asked.until), "max_tokens": asked.max_new_tokens}


def _settings(row: Row) -> str:
    return json.dumps([row["until"], row["max_tokens"]])


def _answers(values: Iterable[Any], runs: Mapping[str, Run]) -> Answers:
    certificates = [run.arm.certificate for run in runs.values()]
    said = [note for each in certificates for note in (*each.notes, each.nondeterministic) if note]
    return Answers(tuple(values), tuple(run.path for run in runs.values()), tuple(dict.fromkeys(said)))
