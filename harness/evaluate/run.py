"""The evaluation loop: one load, all levels and seeds, batch by batch into the store."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from harness.evaluate.attention import choose_attention
from harness.evaluate.checkpoint import Checkpoint, load_checkpoint
from harness.evaluate.device import best_device, check_device, device_name, out_of_memory_as
from harness.evaluate.generation import Completion, Decoding, Prompt, greedy
from harness.evaluate.layered import Injecting, Layered, layered
from harness.evaluate.scoring import scored_result
from harness.evaluate.tasks import Item, Task, load_task, select
from harness.exceptions import CheckpointError, HarnessError
from harness.noise.audit import check_audit
from harness.noise.auditor import Auditor
from harness.noise.comparing import formula_of
from harness.noise.inject import check_apart
from harness.noise.operand_auditor import OperandAuditor, check_operands
from harness.noise.plan import InjectionPlan, build_plan
from harness.record import ERROR, ItemResult
from harness.runs.evidence import judge_control
from harness.runs.loaded import EVALUATION_KIND
from harness.runs.manifest import build_manifest, digest
from harness.runs.quantized import WEIGHT
from harness.runs.store import Audit, Store
from harness.spec import DEFAULT_BATCH, ErrorModel, EvalSpec, RelativeGaussian, quantization_text
from harness.stats import wilson
from harness.thresholds import CONTROL_ITEMS, CONTROL_SCALE
from harness.training_record import TrainingRecord, load_training_record

log = logging.getLogger(__name__)
_PROBE_STEPS = 8


@dataclass(frozen=True)
class Prepared:
    """Everything an evaluation needs, loaded and checked, before anything is written or run."""

    spec: EvalSpec
    task: Task
    items: tuple[Item, ...]
    prompts: Mapping[str, tuple[int, ...]]
    checkpoint: Checkpoint
    plan: InjectionPlan
    decoding: Decoding
    scorer: str
    template: str
    quantizers: tuple[InjectionPlan, ...] = ()
    training: TrainingRecord | None = None

    def session(self, *, in_place: bool = False) -> contextlib.AbstractContextManager[Layered]:
        """Opens the noise and the quantization on the model."""
        return layered(self.checkpoint.model, self.plan, self.quantizers, in_place=in_place)

    @property
    def key(self) -> dict[str, str]:
        """The measurement key of every number of this run."""
        return {
            "task": self.task.name,
            "dataset": self.task.dataset_hash(),
            "template": self.template,
            "scorer": self.scorer,
            "engine": self.spec.engine,
            "dtype": self.spec.dtype,
            "attention": self.checkpoint.model.config._attn_implementation,
            "quantization": quantization_text(self.spec.quantization),
            "aqn": "off",
            "noise": str(self.spec.noise),
            "decoding": "greedy",
            "max_new_tokens": str(self.decoding.max_new_tokens),
        }

    def manifest(self) -> dict[str, Any]:
        """The manifest of the run."""
        identity = {
            "weights": self.checkpoint.fingerprint,
            "settings": self.checkpoint.settings,
            "measurement_key": self.key,
            "items": [item.key for item in self.items],
            "levels": list(self.spec.levels),
            "noise_seeds": self.spec.noise_seeds,
            "positive_control": self.spec.positive_control,
        }
        details = {
            "checkpoint": {"path": str(self.checkpoint.path), "weights": self.checkpoint.fingerprint},
            "training": None if self.training is None else self.training.to_json(),
            "device": device_name(self.checkpoint.model.device),
            "spec": self.spec.to_json(),
            "plan": self.plan.to_json(),
            "quantization": [_quantized_part(self.checkpoint.model, plan) for plan in self.quantizers],
        }
        return build_manifest(EVALUATION_KIND, identity, self.key, details)

    @property
    def draws(self) -> int:
        """Generations in all, the positive control left out."""
        return len(self.items) * sum(len(self.spec.seeds_at(level)) for level in self.spec.levels)


def _quantized_part(model: nn.Module, plan: InjectionPlan) -> dict[str, Any]:
    """What the certificate will hold a quantizer's ledger against, and what it leaves alone."""
    parts = [
        {
            "name": site.name,
            "columns": model.get_submodule(site.module).weight.numel() if site.point == WEIGHT else site.columns,  # type: ignore[operator]
            "last_token_only": site.last_token_only,
        }
        for site in plan.sites
    ]
    return {"text": str(plan.spec), "point": plan.spec.at, "sites": parts, "excluded": dict(plan.excluded)}


def attention_for(spec: EvalSpec) -> str:
    """The attention implementation to load for ``spec``: :func:`harness.evaluate.attention.choose_attention`."""
    return choose_attention(spec.attention, (spec.noise,))


def prepare(path: Path, spec: EvalSpec, device: str | None = None) -> Prepared:
    """Loads task and checkpoint and makes the plan. Raises :class:`HarnessError` for every kind of bad input."""
    if spec.noise.at != "output":
        raise HarnessError(
            f"--noise {spec.noise}",
            "the levels of an evaluation perturb results, not inputs or weights",
            "drop at:, or quantize weights and activations with --quantize",
        )
    task = load_task(spec.task, Path(spec.data) if spec.data is not None else None)
    every = task.items()
    items = select(every, spec.items if spec.items is not None else len(every), spec.item_seed)
    place = check_device(device or best_device())
    with out_of_memory_as(f"checkpoint {path} on {place}", "free memory, or give a --device that has more"):
        checkpoint = load_checkpoint(path, spec.dtype, attention_for(spec), place)
    plan = build_plan(checkpoint.model, spec.noise)
    quantizers = tuple(build_plan(checkpoint.model, each) for each in spec.quantization)
    check_apart((plan, *quantizers))
    training = load_training_record(path)
    _check_rows(spec, plan)
    limit = spec.max_new_tokens or task.max_new_tokens
    tokenizer = checkpoint.tokenizer
    prompts = {
        item.key: tuple(tokenizer(render(checkpoint, task.messages(item)), add_special_tokens=False)["input_ids"])
        for item in items
    }
    if not all(prompts.values()):
        raise CheckpointError(f"checkpoint {path}", "its chat template gives an empty prompt", "correct it")
    longest = max(prompts.values(), key=len)
    if checkpoint.context is not None and len(longest) + limit > checkpoint.context:
        raise HarnessError(
            f"a prompt of {len(longest)} tokens and {limit} new ones",
            f"the context of {path} holds {checkpoint.context}",
            "lower --max-new-tokens or choose other items",
        )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    decoding = Decoding(limit, _stop_tokens(checkpoint), pad)
    # over the whole split, so that it does not depend on the choice of items
    template = digest("\0".join(render(checkpoint, task.messages(item)) for item in every))
    scorer = spec.scorer or task.scorer
    return Prepared(spec, task, items, prompts, checkpoint, plan, decoding, scorer, template, quantizers, training)


def _check_rows(spec: EvalSpec, plan: InjectionPlan) -> None:
    """Refuses models that read whole rows where padded keys are part of a row: results would hang on the batch."""
    growing = [site.name for site in plan.sites if site.grows]
    if growing and spec.noise.error.row_statistic:
        raise HarnessError(
            f"--noise {spec.noise}",
            f"{spec.noise.error.name} reads whole rows, and those of {growing[0]} hold padded keys",
            "choose other operators or another error model",
        )


def render(checkpoint: Checkpoint, messages: Sequence[Mapping[str, str]]) -> str:
    """The prompt text of ``messages`` under the checkpoint's own chat template."""
    try:
        text = checkpoint.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program: jinja2's errors and any other
        raise CheckpointError(
            f"checkpoint {checkpoint.path}",
            f"its chat template fails ({type(error).__name__}: {error!s:.160})",
            "correct chat_template.jinja",
        ) from None
    return str(text)


def _stop_tokens(checkpoint: Checkpoint) -> tuple[int, ...]:
    stop = checkpoint.model.generation_config.eos_token_id
    own = stop if isinstance(stop, list) else [stop]
    found = {token for token in (*own, checkpoint.tokenizer.eos_token_id) if token is not None}
    rows = checkpoint.model.config.get_text_config().vocab_size
    if not all(isinstance(token, int) and 0 <= token < rows for token in found):
        raise CheckpointError(
            f"checkpoint {checkpoint.path}", f"eos_token_id {stop!r}", f"give a token id from 0 to {rows - 1}"
        )
    return tuple(sorted(found))


@dataclass(frozen=True)
class Batch:
    """The prompts of one forward batch, all at one level; ``error`` replaces the error model (positive control)."""

    level: float
    prompts: tuple[Prompt, ...]
    audited: bool = False
    error: ErrorModel | None = None


def batches(prepared: Prepared, done: set[tuple[str, float, int]], size: int) -> Iterator[Batch]:
    """What is left to do, level by level (clean first), longest prompts first.

    Each level's first and last batch are audited.
    """
    for level in prepared.spec.levels:
        left = [
            Prompt(item.key, seed, prepared.prompts[item.key])
            for item in prepared.items
            for seed in prepared.spec.seeds_at(level)
            if (item.key, level, seed) not in done
        ]
        left.sort(key=lambda prompt: -len(prompt.tokens))
        for start in range(0, len(left), size):
            audited = start == 0 or start + size >= len(left)
            yield Batch(level, tuple(left[start : start + size]), audited)


def evaluate(
    prepared: Prepared, out: Path, batch_size: int = DEFAULT_BATCH, advance: Callable[[int], None] = lambda n: None
) -> None:
    """Runs what is missing of ``prepared`` into the run folder ``out``; ``advance(n)`` is told of every n records.

    Can be stopped at any moment and called again: at most the running batch is lost, and a finished run is
    left as it is. Out-of-memory and other engine errors stop the run, resumable.
    """
    if batch_size < 1:
        raise HarnessError(f"--batch-size {batch_size}", "a batch holds at least one item", "give 1 or more")
    smaller = "give a smaller --batch-size: the same command resumes"
    with (
        out_of_memory_as(f"--batch-size {batch_size}", smaller),
        Store.create(out, prepared.manifest()) as store,
    ):
        done = store.done()
        advance(len(done))
        store.add_questions({item.key: item.question for item in prepared.items})
        with prepared.session(in_place=True) as session:
            for batch in batches(prepared, done, batch_size):
                if batch.level and prepared.spec.positive_control and store.control() is None:
                    _run_control(prepared, session, store)
                started = time.monotonic()
                results, audit = run_batch(prepared, session, batch)
                store.add_batch(results, session.drain(batch.level), audit)
                log.debug("level %g: %d records in %.2f s", batch.level, len(results), time.monotonic() - started)
                advance(len(results))
            if prepared.spec.positive_control and store.control() is None:
                _run_control(prepared, session, store)


def run_batch(prepared: Prepared, session: Injecting, batch: Batch) -> tuple[list[ItemResult], Audit | None]:
    """Generates and scores one batch; the ledger of ``session`` holds its counts afterwards."""
    model = prepared.checkpoint.model
    error = batch.error or prepared.plan.spec.error
    auditor = Auditor(model, formula_of(error, batch.level)) if batch.audited else None
    operands = OperandAuditor(model, prepared.quantizers) if batch.audited and prepared.quantizers else None
    auditors = tuple(each for each in (auditor, operands) if each is not None)
    items = [prompt.item for prompt in batch.prompts]
    seeds = [prompt.seed for prompt in batch.prompts]
    with session.batch(items, seeds, batch.level, error):
        completions = greedy(model, batch.prompts, prepared.decoding, session, auditors)
    known = {item.key: item for item in prepared.items}
    results = [
        _result(prepared, known[prompt.item], prompt, completion, batch.level)
        for prompt, completion in zip(batch.prompts, completions, strict=True)
    ]
    if auditor is None:
        return results, None
    problems = check_audit(auditor, prepared.plan, batch.level, error)
    if operands is not None:
        problems += check_operands(operands)
    return results, Audit(batch.level, sum(auditor.products.values()), problems)


def _result(prepared: Prepared, item: Item, prompt: Prompt, completion: Completion, level: float) -> ItemResult:
    text = prepared.checkpoint.tokenizer.decode(completion.tokens, skip_special_tokens=True)
    return scored_result(
        item,
        text,
        prepared.scorer,
        level=level,
        seed=prompt.seed,
        truncated=completion.truncated,
        tokens=completion.tokens,
        prompt_tokens=len(prompt.tokens),
    )


def probe_seconds(prepared: Prepared, batch_size: int) -> float:
    """Seconds one full batch would take if every answer were as long as allowed: a noisy batch of the longest
    prompts for a few tokens, extrapolated. An upper estimate; nothing is stored."""
    longest = sorted(prepared.prompts.items(), key=lambda entry: -len(entry[1]))[:batch_size]
    prompts = [Prompt(item, 0, tokens) for item, tokens in longest]
    steps = min(_PROBE_STEPS, prepared.decoding.max_new_tokens)
    short = replace(prepared.decoding, max_new_tokens=steps, stop=())
    items = [prompt.item for prompt in prompts]
    with (
        prepared.session() as session,
        session.batch(items, [0] * len(items), CONTROL_SCALE, RelativeGaussian()),
    ):
        begun = time.monotonic()
        greedy(prepared.checkpoint.model, prompts, short, session)
        elapsed = time.monotonic() - begun
    return elapsed / steps * prepared.decoding.max_new_tokens * batch_size / len(prompts)


def _run_control(prepared: Prepared, session: Layered, store: Store) -> None:
    """Runs the positive control on the first items of the seeded order and stores its outcome."""
    items = prepared.items[:CONTROL_ITEMS]
    clean = [result for result in store.results() if result.level == 0]
    right = sum(result.score == 1.0 for result in clean)
    measured = sum(result.reason != ERROR for result in clean)
    at_floor = wilson(right, measured).low < prepared.task.floor
    prompts = tuple(Prompt(item.key, 0, prepared.prompts[item.key]) for item in items)
    noisy, _ = run_batch(prepared, session, Batch(CONTROL_SCALE, prompts, error=RelativeGaussian()))
    session.drain(CONTROL_SCALE)
    result = judge_control(clean, noisy, CONTROL_SCALE, at_floor)
    for problem in result.problems:
        log.warning("%s: this run will be INVALID", problem)
    store.set_control(result)
