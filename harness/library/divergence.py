"""From a finished run to a reference of distributions, and from a checkpoint to a verdict against it; behind
``harness divergence``."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoints.hub import locate
from harness.distributions import TOP
from harness.exceptions import HarnessError, NotComparableError, StoreError
from harness.gates.divergence import DivergencePolicy, DivergenceResult, Measured, divergence_gate
from harness.progress import Watcher
from harness.record import ERROR, LikelihoodResult, digests_of
from harness.runs.folder import write_atomically
from harness.runs.item_order import choice_order
from harness.runs.loaded import Run, check_complete, complete_run, is_run, load_run
from harness.runs.store import Store
from harness.spec import EngineOptions, EvalSpec, NoiseSpec

if TYPE_CHECKING:
    from harness.evaluate.prepared import Prepared

log = logging.getLogger(__name__)

ITEMS, TOKENS = 64, 32
"""Answers that a reference has, and the tokens of each at which distributions are kept, unless others are asked for."""

ANSWERS = ".answers.jsonl"
"""What the file of the answers has behind the name of the reference's folder, beside which it lies."""

TASK = "answers"


@dataclass(frozen=True)
class Diverged:
    """A verdict on a run against a reference run."""

    run: Run
    reference: Run
    result: DivergenceResult

    @property
    def exit_code(self) -> int:
        """0, 1, 3 or 4: PASS, FAIL, INCONCLUSIVE, INVALID."""
        return self.result.exit_code

    def to_json(self) -> dict[str, Any]:
        """Return JSON types."""
        return self.result.to_json()


@dataclass(frozen=True)
class Candidate:
    """How a checkpoint is evaluated: its base or adapter, quantization on top, engine, dtype and attention (None: the
    reference's own), the folder of its run and its device."""

    base: Path | None = None
    adapter: str = "merged"
    quantization: tuple[NoiseSpec, ...] | None = None
    out: Path | None = None
    device: str | None = None
    engine: str | None = None
    dtype: str | None = None
    attention: str | None = None


@dataclass(frozen=True)
class Size:
    """How much of a run a reference takes: ``items`` answers, distributions at ``tokens`` places of each (drawn from
    all of its tokens, the end of sequence included; all of them where there are fewer), under ``noise_seeds`` seeds of
    each noisy level; of every distribution the ``top`` most probable tokens are kept. Raises :class:`HarnessError` for
    numbers below 1."""

    items: int = ITEMS
    tokens: int = TOKENS
    noise_seeds: int = 1
    top: int = TOP

    def __post_init__(self) -> None:
        """Check every number."""
        for name, value in vars(self).items():
            if value < 1:
                option = f"--{name.replace('_', '-')} {value}"
                raise HarnessError(option, "at least one is needed", "give 1 or more")


def record(
    source: Path | str,
    out: Path | str,
    size: Size | None = None,
    options: EngineOptions | None = None,
    device: str | None = None,
    watcher: Watcher | None = None,
) -> Run:
    """Score the clean answers of ``source``, a finished run of a checkpoint, under every noise level, and keep the
    distribution at each token; return the stored run, which :func:`diverge` takes as its reference.

    The first answers in the run's own seeded order are taken, as ``size`` says. An unfinished recording is resumed.
    Raises :class:`HarnessError` for a run that generated nothing or has no evidence,
    and :class:`NotComparableError` where its checkpoint or data are not what they were.
    """
    from harness.evaluate.api import evaluate
    from harness.evaluate.regenerate import prepared_again

    run, out, size = complete_run(Path(source)), Path(out), size or Size()
    _check_source(run, size)
    prepared = prepared_again(run, None, None, device)
    answers = out.with_name(out.name + ANSWERS)
    lines = _answer_lines(run, prepared, size)
    _write_once(answers, "".join(f"{line}\n" for line in lines))
    spec = _asked(prepared.spec, answers, size.noise_seeds)
    return evaluate(prepared.checkpoint.source, spec, out, options, device, watcher=watcher)


def diverge(
    target: Path | str,
    reference: Path | str,
    policy: DivergencePolicy,
    candidate: Candidate | None = None,
    options: EngineOptions | None = None,
    watcher: Watcher | None = None,
) -> Diverged:
    """Judge ``target``, a checkpoint or a finished run against the same reference, by how far its distributions lie
    from those of ``reference``.

    A checkpoint is evaluated as ``candidate`` says, by the reference's own specification, into a folder named after
    both unless it names one. INVALID, FAIL and INCONCLUSIVE are results, not errors. Raises :class:`HarnessError` for
    bad input and
    :class:`NotComparableError` for an unfinished run.
    """
    held, target = reference_run(Path(reference), "--reference"), Path(target)
    run = load_run(target) if is_run(target) else evaluated(target, held, candidate or Candidate(), options, watcher)
    check_complete(run)
    return Diverged(run, held, divergence_gate(measured(run), measured(held), policy))


def reference_run(path: Path, option: str) -> Run:
    """Return the finished reference at ``path``, which ``option`` named. Raises :class:`HarnessError` for a run of
    another task."""
    held = complete_run(path)
    if held.arm.key.get("task") != TASK:
        rule = f"a run of the task {held.arm.key.get('task')} keeps no distributions"
        raise HarnessError(f"{option} {held.path}", rule, "make one: harness divergence record RUN --out FOLDER")
    return held


def measured(run: Run) -> Measured:
    """Return what ``run`` shows: its arm, what it kept at each token, and the log-probabilities of scored tokens."""
    from harness.evaluate.tasks.answers import distributions_of, tokens_of

    if run.arm.key.get("task") != TASK:
        raise NotComparableError(
            f"run {run.path}",
            f"a run of the task {run.arm.key.get('task')} keeps no distributions",
            "give the checkpoint: it is evaluated on the reference's answers",
        )
    with Store.read(run.path) as store:
        logprobs = {name: found for level in run.arm.outcomes for name, found in store.logits(level).items()}
    answers = {item: digests_of(tokens_of(run.references[item]).continuation) for item in run.asked.items}
    return Measured(run.arm, distributions_of(run), logprobs, answers)


def _check_source(run: Run, size: Size) -> None:
    if any(isinstance(result, LikelihoodResult) for result in run.results):
        rule = "it scored given texts and generated no answers"
        raise HarnessError(f"run {run.path}", rule, "give a run of a task that generates, such as arith")
    problems = run.arm.certificate.problems_at(0.0)
    if problems:
        raise StoreError(f"run {run.path}", f"it is no evidence: {problems[0]}", "evaluate again")
    there = len(run.asked.items)
    if size.items > there:
        raise HarnessError(f"--items {size.items}", f"the run has {there} items", f"give 1 to {there}")


def _answer_lines(run: Run, prepared: Prepared, size: Size) -> list[str]:
    """The lines of the answers file, in the seeded order of the run."""
    from harness.evaluate.tasks.answers import answer_row
    from harness.evaluate.tasks.base import Tokens

    clean = {
        result.item: result
        for result in run.results
        if result.level == 0 and result.seed == 0 and result.reason != ERROR and result.tokens
    }
    known = {item.key: item for item in prepared.items}
    keys = [key for key in choice_order(known, prepared.spec.item_seed) if key in clean][: size.items]
    if len(keys) < size.items:
        rule = f"only {len(keys)} of its clean answers have a token"
        raise StoreError(f"run {run.path}", rule, f"give --items {max(len(keys), 1)} or less, or evaluate again")
    lines = []
    for key in keys:
        prompt = prepared.prompts[key]
        if len(prompt) != clean[key].prompt_tokens:
            rule = f"the prompt of item {key} has {len(prompt)} tokens now, and had {clean[key].prompt_tokens}"
            raise NotComparableError(f"run {run.path}", rule, "restore the checkpoint's tokenizer and the data")
        item = replace(known[key], cluster=run.arm.clusters.get(key, ""))
        # whether the model ends its answer is part of it; which stop token it was the record does not say
        end = () if clean[key].truncated else prepared.decoding.stop[:1]
        answer = (*clean[key].tokens, *end)
        lines.append(answer_row(item, Tokens(prompt, answer), _places(key, len(answer), size.tokens), size.top))
    return lines


def _places(item: str, there: int, wanted: int) -> list[int]:
    """``wanted`` of the numbers below ``there``, ascending, drawn by a rule that only the item decides."""
    names = {f"{item}/{place}": place for place in range(there)}
    return sorted(names[name] for name in choice_order(names, 0)[:wanted])


def _write_once(path: Path, text: str) -> None:
    """What is there already must be the same: a recording that is resumed scores the same answers."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    if path.exists():
        raise StoreError(f"{path}", "it holds other answers than those of the run", "use another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


def _asked(spec: EvalSpec, answers: Path, noise_seeds: int) -> EvalSpec:
    """The specification of ``spec`` on the answers in a file: how the model computes stays, how it is asked goes."""
    kept = ("item_seed", "levels", "noise", "attention", "dtype", "engine", "positive_control", "quantization")
    same = {name: getattr(spec, name) for name in kept}
    return EvalSpec(TASK, str(answers), None, noise_seeds=noise_seeds, **same)


def evaluated(
    target: Path,
    held: Run,
    how: Candidate,
    options: EngineOptions | None = None,
    watcher: Watcher | None = None,
) -> Run:
    """Return the run of the checkpoint ``target`` on the answers of the reference ``held``."""
    target, base = locate(target, how.base)
    how = replace(how, base=base)
    from harness.checkpoints.source import resolve
    from harness.evaluate.api import evaluate
    from harness.library.for_gate import default_run_folder

    spec = replace(EvalSpec.from_json(dict(held.evaluation.spec)), data=str(held.path))
    changes = {name: getattr(how, name) for name in ("quantization", "engine", "dtype", "attention")}
    spec = replace(spec, **{name: value for name, value in changes.items() if value is not None})
    source = resolve(target, base=how.base, adapter=how.adapter)
    return evaluate(source, spec, how.out or default_run_folder(source, spec), options, how.device, watcher=watcher)
