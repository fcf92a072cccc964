"""Completions produced elsewhere, scored into a run without an injection certificate (no torch)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.evaluate.completions import Completion, read_completions
from harness.evaluate.scoring import scored_result
from harness.evaluate.tasks import load_task, scores
from harness.exceptions import HarnessError
from harness.record import ItemResult
from harness.revision import code_identity
from harness.runs.machine import environment
from harness.runs.manifest import ExternalIdentity, ExternalManifest
from harness.runs.store import Store
from harness.scorers import Scorer, load_scorer, scorer_key
from harness.spec import nearest, scorer_names
from harness.spec.evaluation import scorers_like

ENGINE = "external"


def score_completions(task_name: str, data: str | None, scorer: str | None, completions: Path, out: Path) -> None:
    """Score the JSONL file ``completions`` into the run folder ``out``; the same call again changes nothing.

    ``scorer`` None means the task's own. What is not known of an external run is ``unknown`` in its
    measurement key. Raises :class:`HarnessError` for every fault of the file.
    """
    if scorer is not None and scorer not in scorers_like(scorer):
        raise HarnessError(f"--scorer {scorer}", nearest(scorer, scorer_names()))
    task = load_task(task_name, Path(data) if data is not None else None)
    if scores(task):
        raise HarnessError(
            f"--task {task_name}", "it needs log-likelihoods, which completions do not have", "use harness eval"
        )
    read = read_completions(completions, task)
    chosen = load_scorer(scorer or task.scorer)
    unknown = (
        "template",
        "dtype",
        "attention",
        "quantization",
        "aqn",
        "noise",
        "decoding",
        "max_new_tokens",
        "coverage",
    )
    key = {"task": task.name, "dataset": task.dataset_hash(), **scorer_key(chosen), "engine": ENGINE}
    key |= dict.fromkeys(unknown, "unknown")
    content = hashlib.sha256(completions.read_bytes()).hexdigest()
    manifest = ExternalManifest(
        identity=ExternalIdentity(content, key),
        measurement_key=key,
        environment=environment(),
        code=code_identity(),
        completions=str(completions),
        floor=task.floor,
    )
    with Store.create(out, manifest) as store:
        if store.done():
            return
        items = {completion.item.key: completion.item for completion in read}
        store.add_questions(
            {key: item.question for key, item in items.items()}, {key: item.reference for key, item in items.items()}
        )
        store.add_batch([_result(completion, chosen) for completion in read])


def _result(completion: Completion, scorer: Scorer) -> ItemResult:
    return scored_result(
        completion.item,
        completion.text,
        scorer,
        level=completion.level,
        seed=completion.seed,
        truncated=completion.truncated,
        tokens=(),
        prompt_tokens=0,
    )
