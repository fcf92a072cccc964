"""An evaluation, loaded and checked before anything is written or run."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness import extensions
from harness.aqn.dose_file import OFF, state_of
from harness.checkpoints.architecture import check_decodable, has_sdpa
from harness.checkpoints.source import AnyCheckpoint, Source, as_source, path_of
from harness.coverage import Coverage
from harness.distributions import Keep
from harness.engines.device import best_device, check_device, device_name, out_of_memory_as
from harness.engines.generation import Completion, Decoding, Forced, Prompt
from harness.engines.likelihood import Likelihood
from harness.engines.registry import engine_kind
from harness.engines.sessions import Sessions, open_sessions
from harness.evaluate.asked import check_asked, check_selected, requests_asked, texts_of
from harness.evaluate.attention import FUSED, choose_attention
from harness.evaluate.checkpoint import OUTLINE, Checkpoint, load_checkpoint
from harness.evaluate.prompt_tokens import adds_special, check_prompts, pad_token, stop_tokens, until_of
from harness.evaluate.prompting import Prompting, prompting_of
from harness.evaluate.rendering import check_distinct
from harness.evaluate.request_tokens import check_readable, check_references
from harness.evaluate.scoring import likelihood_result, scored_result
from harness.evaluate.tasks import GROUP as TASK_GROUP
from harness.evaluate.tasks import Item, Task, is_verbatim, load_task, scores, select
from harness.evaluate.tasks.base import clusters_of
from harness.exceptions import CheckpointError, HarnessError
from harness.gates.early import EarlyPlan
from harness.likelihoods import DECODING
from harness.noise.experts import check_experts
from harness.noise.flop_coverage import coverage_of
from harness.noise.inject import check_apart
from harness.noise.meta import CONFIG_FILE, load_config
from harness.noise.plan import InjectionPlan
from harness.noise.planner import build_plan
from harness.noise.untold import check_told
from harness.noise.windows import check_windows
from harness.record import ItemResult
from harness.revision import code_identity
from harness.runs.dequantized import dequantized_sentence
from harness.runs.machine import environment
from harness.runs.manifest import (
    EvaluationManifest,
    Identity,
    PlannedSite,
    QuantizedPart,
    QuantizedSite,
    StoredPlan,
    digest,
)
from harness.runs.quantized import WEIGHT
from harness.runs.replayed import VERSION
from harness.scorers import Scorer, load_scorer, scorer_key
from harness.scorers.until import until_key
from harness.spec import ENGINE_GROUP, ERROR_GROUP, SCORER_GROUP, EvalSpec, NoiseSpec, quantization_text
from harness.spec.formats import FORMAT_GROUP
from harness.thresholds import LEAST_RELATIVE
from harness.training_record import TrainingRecord, load_training_record

log = logging.getLogger(__name__)

_OF_MODULES = frozenset(("linear", "conv1d"))
"""Operators that are modules wherever transformers has them: nothing else has to be found by a forward."""


@dataclass(frozen=True)
class Prepared:
    """Everything an evaluation needs, loaded and checked, before anything is written or run. ``dated`` says that the
    prompts hold the date.

    Where continuations are scored, ``requests`` holds their token ids by item, ``prompts`` all of them of an item, one
    after the other, and ``prefix`` the prefix token as the measurement key writes it; else both are empty. ``budget``
    is what the manifest keeps of the choice of items and noise seeds within a budget.
    """

    spec: EvalSpec
    task: Task
    items: tuple[Item, ...]
    prompts: Mapping[str, tuple[int, ...]]
    checkpoint: Checkpoint
    plan: InjectionPlan
    decoding: Decoding
    scorer: Scorer
    template: str
    quantizers: tuple[InjectionPlan, ...] = ()
    training: TrainingRecord | None = None
    early: EarlyPlan | None = None
    aqn: str = OFF
    dated: bool = False
    prompting: Prompting | None = None
    requests: Mapping[str, tuple[Forced, ...]] = field(default_factory=dict)
    prefix: str = ""
    budget: Mapping[str, Any] | None = None

    def prompt(self, item: str, seed: int) -> Prompt:
        """Return what an engine is given of ``item`` under the noise seed ``seed``."""
        return Prompt(item, seed, self.prompts[item], self.requests.get(item, ()))

    @functools.cached_property
    def probed(self) -> tuple[Prompt, ...]:
        """The prompts of all items, the longest first, with noise seed 0."""
        return tuple(self.prompt(item, 0) for item in sorted(self.prompts, key=lambda item: -len(self.prompts[item])))

    def session(self, *, in_place: bool = False) -> contextlib.AbstractContextManager[Sessions]:
        """Open the noise and the quantization on the model."""
        return open_sessions(self.checkpoint.model, self.plan, self.quantizers, in_place=in_place)

    @property
    def loaded(self) -> bool:
        """False where the model is an outline without weights: its engine loads it in a process of its own."""
        return bool(self.checkpoint.model.device.type != OUTLINE)

    @property
    def device(self) -> str:
        """The name of the device, where this process has the model."""
        return device_name(self.checkpoint.model.device) if self.loaded else "of the engines' processes"

    @property
    def key(self) -> dict[str, str]:
        """The measurement key of every number of this run; the date is part of it where the prompts hold it."""
        dated = {"template_date": self.spec.template_date} if self.dated else {}
        return {
            **dated,
            **({} if self.prompting is None else self.prompting.key),
            "task": self.task.name,
            "dataset": self.task.dataset_hash(),
            "template": self.template,
            **scorer_key(self.scorer),
            "engine": self.spec.engine,
            "dtype": self.spec.dtype,
            "attention": self.checkpoint.model.config._attn_implementation,
            "quantization": quantization_text(self.spec.quantization, self.checkpoint.source.stored_text),
            "aqn": self.aqn,
            "noise": str(self.spec.noise),
            **(
                {"decoding": DECODING, "prefix_token": self.prefix}
                if self.requests
                else {"decoding": self.spec.decoding, "max_new_tokens": str(self.decoding.max_new_tokens)}
            ),
            **until_key(getattr(self.task, "until", ())),
            "coverage": self.coverage.text,
        }

    @functools.cached_property
    def coverage(self) -> Coverage:
        """How much of the model the noise reaches."""
        return coverage_of(self.plan, self.checkpoint.model, self.longest)

    def manifest(self) -> EvaluationManifest:
        """Return the manifest of the run."""
        identity = Identity(
            weights=self.checkpoint.fingerprint,
            settings=self.checkpoint.settings,
            measurement_key=self.key,
            items=tuple(item.key for item in self.items),
            levels=tuple(self.spec.levels),
            noise_seeds=self.spec.noise_seeds,
            positive_control=self.spec.positive_control,
            early_stop=None if self.early is None else self.early.to_json(),
            hub=self.checkpoint.source.pinned or None,
        )
        beside = {**engine_kind(self.spec.engine).distributions, **self._outside}
        return EvaluationManifest(
            identity=identity,
            measurement_key=self.key,
            environment=environment(),
            code=code_identity(self.spec.engine, torch.backends.cpu.get_cpu_capability(), beside),
            checkpoint=self.checkpoint.source.to_json(),
            training=None if self.training is None else self.training.to_json(),
            device=self.device,
            spec=self.spec.to_json(),
            plan=stored_plan(self.plan),
            replay=VERSION,
            coverage=self.coverage,
            floor=self.task.floor,
            quantization=tuple(_quantized_part(self.checkpoint.model, plan) for plan in self.quantizers),
            clusters=clusters_of(self.items, self.prompts) or None,
            groups={item.key: item.group for item in self.items if item.group} or None,
            budget=self.budget,
        )

    @property
    def _outside(self) -> dict[str, tuple[str, ...]]:
        """The distributions whose code makes the records together with the harness's."""
        errors = [spec.error for spec in (self.spec.noise, *self.spec.quantization)]
        formats = {error.recipe.format.name for error in errors if error.recipe is not None}
        return extensions.distributions(
            task=(TASK_GROUP, self.task.name),
            scorer=(SCORER_GROUP, self.scorer.name),
            error_model=(ERROR_GROUP, self.spec.noise.error.name),
            engine_kind=(ENGINE_GROUP, self.spec.engine),
            **{f"format {name}": (FORMAT_GROUP, name) for name in sorted(formats)},
        )

    @functools.cached_property
    def longest(self) -> int:
        """Tokens of the longest prompt and the longest answer together; of the longest request where those are scored,
        its last token and one more included, which some engines feed and generate."""
        if self.requests:
            return max(len(forced.fed) for own in self.requests.values() for forced in own) + 2
        return max(len(tokens) for tokens in self.prompts.values()) + self.decoding.max_new_tokens

    @functools.cached_property
    def _items(self) -> dict[str, Item]:
        return {item.key: item for item in self.items}

    def result(self, prompt: Prompt, completion: Completion, level: float) -> ItemResult:
        """Return the record of ``completion``, what an engine made of ``prompt`` at ``level``."""
        return scored_result(
            self._items[prompt.item],
            self.checkpoint.tokenizer.decode(completion.tokens, skip_special_tokens=True),
            self.scorer,
            level=level,
            seed=prompt.seed,
            truncated=completion.truncated,
            tokens=completion.tokens,
            prompt_tokens=len(prompt.tokens),
            logits=completion.logits,
        )

    def kept(self, prompts: Sequence[Prompt], level: float) -> list[Keep]:
        """Return what is kept beside the scored tokens of each of ``prompts`` at ``level``, as the task says."""
        kept = getattr(self.task, "kept", None)
        return [] if kept is None else [kept(prompt.item, level, prompt.seed) for prompt in prompts]

    def scored(self, prompt: Prompt, found: Sequence[Likelihood], level: float) -> ItemResult:
        """Return the record of ``found``, what an engine says of the continuations of ``prompt`` at ``level``."""
        return likelihood_result(self._items[prompt.item], prompt, found, self.scorer, level)

    @property
    def draws(self) -> int:
        """Generations in all, the positive control left out."""
        return len(self.items) * sum(len(self.spec.seeds_at(level)) for level in self.spec.levels)


def stored_plan(plan: InjectionPlan) -> StoredPlan:
    """Return what a manifest keeps of ``plan``."""
    sites = tuple(
        PlannedSite(
            *(site.name, site.op, site.columns, site.last_token_only, site.grows),
            per_token=site.per_token if site.field else None,
        )
        for site in plan.sites
    )
    return StoredPlan(str(plan.spec), sites, dict(plan.excluded), dict(plan.uncovered), dict(plan.uncompared))


def _quantized_part(model: nn.Module, plan: InjectionPlan) -> QuantizedPart:
    """What the certificate will hold a quantizer's ledger against, and what it leaves alone."""
    sites = tuple(
        QuantizedSite(
            site.name,
            model.get_submodule(site.module).get_parameter(site.field or "weight").numel()
            if site.point == WEIGHT
            else site.columns,
            site.last_token_only,
            site.per_token if site.field else None,
        )
        for site in plan.sites
    )
    return QuantizedPart(str(plan.spec), plan.spec.at, sites, dict(plan.excluded))


def attention_for(spec: EvalSpec, sdpa: bool = True) -> str:
    """Return the attention implementation to load for ``spec``: :func:`harness.evaluate.attention.choose_attention`."""
    return choose_attention(spec.attention, (spec.noise,), sdpa)


def prepare(
    named: AnyCheckpoint,
    spec: EvalSpec,
    device: str | None = None,
    *,
    outline: bool = False,
    loaded: Checkpoint | None = None,
) -> Prepared:
    """Load task and checkpoint, and make the plan. Raises :class:`HarnessError` for every kind of bad input.

    With ``outline``, and for engines that load it themselves, the model has no weights. ``loaded`` is the checkpoint
    where it was loaded for a specification that asks for the same model.
    """
    path = path_of(named)
    if spec.noise.at != "output":
        raise HarnessError(
            f"--noise {spec.noise}",
            "the levels of an evaluation perturb results, not inputs or weights",
            "drop at:, or quantize weights and activations with --quantize",
        )
    task = load_task(spec.task, Path(spec.data) if spec.data is not None else None)
    scorer = load_scorer(spec.scorer or task.scorer)
    check_asked(spec, task, scorer)
    prompting = prompting_of(spec, task)
    every = prompting.evaluated(task.items())
    items = select(every, spec.items if spec.items is not None else len(every), spec.item_seed)
    checkpoint = _load(named, spec, device, outline) if loaded is None else loaded
    _tell_weights(checkpoint.source, spec.dtype)
    aqn = state_of(checkpoint.source)
    check_carried(spec)
    check_experts(checkpoint.model, _acting(spec))
    plan = build_plan(checkpoint.model, spec.noise)
    if engine_kind(spec.engine).loads:
        check_told(plan)
    quantizers = tuple(build_plan(checkpoint.model, each) for each in spec.quantization)
    check_apart((plan, *quantizers))
    engine_kind(spec.engine).check_plans((plan, *quantizers))
    training = load_training_record(path)
    _check_rows(spec, plan)
    if scores(task):
        requests, prompts, template, prefix, dated = requests_asked(checkpoint, spec, prompting, items)
        nothing = Decoding(1, (), pad_token(checkpoint))
        check_references(scorer, items, requests)
        fixed = (spec, task, items, prompts, checkpoint, plan, nothing, scorer, template)
        found = Prepared(*fixed, quantizers=quantizers, training=training, aqn=aqn, requests=requests, prefix=prefix)
        found = replace(found, prompting=prompting, dated=dated)
        check_windows(plan, found.longest)
        return found
    decoding = _decoding(checkpoint, spec, task)
    check_readable(scorer, items)
    tokenizer = checkpoint.tokenizer
    # every item of the split, so that neither the template's hash nor its checks depend on the choice of items
    asked = {item.key: prompting.messages(item) for item in every}
    texts, dated = texts_of(checkpoint, spec, prompting, asked)
    special = {key: adds_special(checkpoint, text, prompting.chat, is_verbatim(task)) for key, text in texts.items()}
    tokens = {item.key: tokenizer(texts[item.key], add_special_tokens=special[item.key]) for item in items}
    prompts = {key: tuple(found["input_ids"]) for key, found in tokens.items()}
    if not all(prompts.values()):
        raise CheckpointError(f"checkpoint {path}", "its chat template gives an empty prompt", "correct it")
    check_distinct(checkpoint, asked, prompts, "token ids")
    check_prompts(checkpoint, prompts, decoding.max_new_tokens)
    check_selected(spec, ((len(own), decoding.max_new_tokens) for own in prompts.values()))
    template = digest("\0".join(texts.values()))
    fixed = (spec, task, items, prompts, checkpoint, plan, decoding, scorer, template)
    found = Prepared(*fixed, quantizers=quantizers, training=training, aqn=aqn, dated=dated, prompting=prompting)
    check_windows(plan, found.longest)
    return found


def _decoding(checkpoint: Checkpoint, spec: EvalSpec, task: Task) -> Decoding:
    """How answers to ``task`` are generated: by its token limit and the texts that end them, unless the user says."""
    until, ends = until_of(checkpoint, getattr(task, "until", ()))
    stop = tuple(sorted({*stop_tokens(checkpoint), *ends}))
    return Decoding(spec.max_new_tokens or task.max_new_tokens, stop, pad_token(checkpoint), spec.sampling, until)


def _tell_weights(source: Source, dtype: str) -> None:
    """Logs what the weights are, where they are or were quantized."""
    if source.quantization is not None:
        log.info("checkpoint %s: %s", source.path, source.quantization.sentence(dtype))
    if (was := dequantized_sentence(source.details)) is not None:
        log.info("checkpoint %s: %s", source.path, was)


def _load(named: AnyCheckpoint, spec: EvalSpec, device: str | None, outline: bool) -> Checkpoint:
    """The checkpoint; its outline for engines that load it in processes of their own."""
    kind = engine_kind(spec.engine)
    kind.check(spec, device)
    here = kind.loads and not outline
    place = check_device(best_device() if device is None else device) if here else OUTLINE
    source = as_source(named)
    config = load_config(source.folder)
    check_decodable(config, source.path)
    attention = attention_for(spec, has_sdpa(config)) if kind.loads else FUSED
    if here:
        _check_outline(source, spec)
    with out_of_memory_as(f"checkpoint {path_of(named)} on {place}", "free memory, or give a --device that has more"):
        checkpoint = load_checkpoint(source, spec.dtype, attention, place)
    kind.check_checkpoint(checkpoint)
    return checkpoint


def _check_outline(source: Source, spec: EvalSpec) -> None:
    """Refuse before the weights are read what the outline shows already: experts that would stay clean, and operators
    whose rows cannot be told."""
    file = source.folder / CONFIG_FILE
    mixture = file.is_file() and "expert" in file.read_text(encoding="utf-8", errors="replace")
    called = bool(spec.noise.asked_ops and spec.noise.operators - _OF_MODULES)
    if not mixture and not called:
        return
    model = _load(source, spec, None, True).model
    check_experts(model, _acting(spec))
    if called:
        try:
            check_told(build_plan(model, spec.noise))
        except HarnessError:
            raise
        except Exception as error:  # what a forward needs of its values differs from model to model
            log.debug("the outline of %s does not run without weights: %s", source.path, error)


def _acting(spec: EvalSpec) -> tuple[NoiseSpec, ...]:
    """What changes results at some level: the quantization, and the noise where a level is not 0."""
    return (*((spec.noise,) if any(spec.levels) else ()), *spec.quantization)


def check_carried(spec: EvalSpec) -> None:
    """Raise :class:`HarnessError` for a level that the dtype cannot carry: rounding would swallow the noise."""
    least = LEAST_RELATIVE.get(spec.dtype, 0.0)
    for level in spec.levels:
        relative = spec.noise.error.expected_relative_rms(level) if level else None
        if relative is not None and relative < least:
            raise HarnessError(
                f"noise level {level:g} in {spec.dtype}",
                f"it cannot carry a relative error of {relative:g}: rounding swallows what is below about {least:g}",
                "raise the level or use --dtype float32",
            )


def _check_rows(spec: EvalSpec, plan: InjectionPlan) -> None:
    """Refuses models that read whole rows where padded keys are part of a row: results would depend on the batch."""
    growing = [site.name for site in plan.sites if site.grows]
    if growing and spec.noise.error.row_statistic:
        raise HarnessError(
            f"--noise {spec.noise}",
            f"{spec.noise.error.name} reads whole rows, and those of {growing[0]} hold padded keys",
            "choose other operators or another error model",
        )
