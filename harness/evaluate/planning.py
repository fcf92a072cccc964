"""Makes the plans that ``harness plan`` shows: loads the model, or builds it without weights, and adds up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.checkpoints.architecture import check_decodable, has_sdpa
from harness.checkpoints.checking import check_config
from harness.checkpoints.dequantized import dequantized_from
from harness.checkpoints.hub import located_config
from harness.checkpoints.source import CheckpointRef, as_source
from harness.checkpoints.stored_quantization import StoredQuantization, stored_quantization
from harness.engines.device import best_device, check_device, out_of_memory_as
from harness.evaluate.attention import choose_attention
from harness.evaluate.checkpoint import load_checkpoint
from harness.exceptions import CheckpointError, HarnessError, NoiseSpecError
from harness.noise.estimate.expected import Expected, Width, expected_counts
from harness.noise.estimate.speed import BATCH, Speed, measure_speed
from harness.noise.experts import clean_experts
from harness.noise.flop_coverage import product_share, selected_share
from harness.noise.meta import CONFIG_FILE, fused_linears, load_config, meta_model
from harness.noise.plan import InjectionPlan
from harness.noise.planner import build_plan
from harness.noise.untold import untold_words
from harness.noise.windows import least_window
from harness.runs.dequantized import FIELD, dequantized_sentence
from harness.spec import NoiseSpec
from harness.spec.experts import pattern_for
from harness.thresholds import LEAST_RELATIVE

CHECKPOINT, CONFIG = "checkpoint", "config"


@dataclass(frozen=True)
class Source:
    """The model to plan for. ``kind`` says whether ``path`` is a checkpoint or only a configuration, ``said`` what its
    weights are, where they are or were quantized."""

    kind: str
    path: Path
    model: Any
    dtype: str
    device: str
    said: tuple[str, ...] = ()


def from_checkpoint(path: Path, noises: Sequence[NoiseSpec], given: Mapping[str, Any]) -> Source:
    """Return the checkpoint at ``path``, loaded as an evaluation would. Raises :class:`HarnessError`."""
    place = check_device(best_device() if given["device"] is None else given["device"])
    named = as_source(CheckpointRef(path, given["base"], given["adapter"]))
    config = load_config(named.folder)
    check_decodable(config, path)
    attention = choose_attention(given["attention"], noises, has_sdpa(config))
    with out_of_memory_as(f"checkpoint {path} on {place}", "give its config alone: --config"):
        model = load_checkpoint(named, given["dtype"], attention, place).model
    said = _said(named.quantization, named.details, given["dtype"])
    return Source(CHECKPOINT, path, model, given["dtype"], place, said)


def from_config(path: Path, noises: Sequence[NoiseSpec], given: Mapping[str, Any]) -> Source:
    """Return the model of the configuration at ``path`` (a file or a folder), without weights."""
    place = check_device(best_device() if given["device"] is None else given["device"])
    path = located_config(path)
    config = load_config(path)
    check_config(path / CONFIG_FILE if path.is_dir() else path)
    check_decodable(config, path)
    stored = stored_quantization(path)
    model: Any = meta_model(config)
    model.set_attn_implementation(choose_attention(given["attention"], noises, has_sdpa(config)))
    return Source(CONFIG, path, model, given["dtype"], place, _said(stored, _was(path), given["dtype"]))


def plan_report(
    source: Source, noises: Sequence[NoiseSpec], tokens: int, new_tokens: int | None = None
) -> dict[str, Any]:
    """Return everything that the tables show, as JSON types, with one entry of ``plans`` for each of ``noises``; what
    some of the tokens are of a sequence of ``tokens`` and ``new_tokens`` generated ones, where these are given."""
    plans = [_plan(source, noise) for noise in noises]
    counts = [expected_counts(plan, source.model) for plan in plans]
    speed = measure_speed(dict.fromkeys(noise.error for noise in noises), source.dtype, source.device)
    config = source.model.config
    return {
        source.kind: str(source.path),
        "model": type(source.model).__name__,
        "attention": config._attn_implementation,
        "dtype": source.dtype,
        "device": source.device,
        "tokens": tokens,
        "vllm_fused_linears": _fused_linears(config),
        "plans": [
            _plan_json(source, plan, expected, speed, tokens) | _selection(source, plan, tokens, new_tokens)
            for plan, expected in zip(plans, counts, strict=True)
        ],
        "conflicts": _conflicts(noises, counts),
    }


def _plan(source: Source, noise: NoiseSpec) -> InjectionPlan:
    try:
        return build_plan(source.model, noise)
    except HarnessError:
        raise
    except Exception as error:
        if source.kind == CHECKPOINT:
            raise
        # what a forward needs of its values differs from model to model
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise CheckpointError(
            f"config {source.path}", f"its model does not run without weights ({why:.160})", "plan its checkpoint"
        ) from None


def _plan_json(
    source: Source, plan: InjectionPlan, expected: Sequence[Expected], speed: Speed, tokens: int
) -> dict[str, Any]:
    share = product_share(plan, source.model, tokens)
    known = sum((line.width for line in expected if line.width is not None), Width())
    return {
        "noise": str(plan.spec),
        "sites": len(plan.sites),
        "expected": {
            "calls": sum(line.calls for line in expected),
            "width": asdict(known),
            "elements": known.elements(tokens),
            "unknown": sum(line.width is None for line in expected),
            "last_token_only": [site.name for site in plan.sites if site.last_token_only],
            "lines": [_line_json(line, tokens) for line in expected],
        },
        "excluded": dict(plan.excluded),
        "uncovered": dict(plan.uncovered),
        "products": share,
        "overhead": _overhead(plan, known, share, speed, tokens),
        "warnings": [
            *source.said,
            *_warnings(plan.spec, source.dtype),
            *_clean_experts(plan),
            *_untold(plan),
            *_windows(plan, tokens),
        ],
    }


def _selection(source: Source, plan: InjectionPlan, tokens: int, new_tokens: int | None) -> dict[str, Any]:
    """What a plan says of the tokens to which its noise is limited; nothing where it is not."""
    if not plan.spec.tokens:
        return {}
    told = {"tokens": list(plan.spec.tokens)}
    return {"selection": told if new_tokens is None else selected_share(plan, source.model, tokens, new_tokens)}


def _line_json(line: Expected, tokens: int) -> dict[str, Any]:
    site = line.site
    return {
        "site": site.name,
        "op": site.op,
        "way": site.way,
        "point": site.point,
        "layer": site.layer,
        "direction": line.direction,
        "operand": line.operand,
        "calls": line.calls,
        "width": None if line.width is None else asdict(line.width),
        "elements": None if line.width is None else line.width.elements(tokens),
    }


def _overhead(
    plan: InjectionPlan, width: Width, share: Mapping[str, Any], speed: Speed, tokens: int
) -> dict[str, float]:
    """Seconds of noise and of products per token, where 64 sequences are computed together."""
    nanoseconds = speed.nanoseconds[str(plan.spec.error)]
    elements = width.per_pass / BATCH + (width.elements(tokens) - width.per_pass) / tokens
    passes = 3 if plan.spec.backward else 1  # a backward pass multiplies twice as much as its forward
    noise, products = elements * nanoseconds * 1e-9, passes * share["flops"] / tokens / (speed.gflops * 1e9)
    return {
        "batch": BATCH,
        "nanoseconds_per_element": nanoseconds,
        "gflops_per_second": speed.gflops,
        "noise_seconds_per_token": noise,
        "product_seconds_per_token": products,
        "ratio": noise / products if products else 0.0,
    }


def _said(stored: StoredQuantization | None, details: Mapping[str, Any], dtype: str) -> tuple[str, ...]:
    """What is said of weights that are, or were, quantized."""
    was = dequantized_sentence(details)
    return (*(() if stored is None else (stored.sentence(dtype),)), *(() if was is None else (was,)))


def _was(path: Path) -> dict[str, Any]:
    found = dequantized_from(path)
    return {} if found is None else {FIELD: found.to_json()}


def _warnings(noise: NoiseSpec, dtype: str) -> list[str]:
    level, least = noise.level, LEAST_RELATIVE.get(dtype, 0.0)
    relative = None if level is None else noise.error.expected_relative_rms(level)
    if not relative or relative >= least:
        return []
    return [
        f"{dtype} cannot carry a relative error of {relative:g}: rounding swallows what is below about {least:g}; "
        "raise the level or use float32"
    ]


def _clean_experts(plan: InjectionPlan) -> list[str]:
    names = clean_experts(plan)
    if not names:
        return []
    modules = dict.fromkeys(name.partition(":")[0] for name in names)
    return [
        f"mixture of experts: {len(modules)} modules ({next(iter(modules))} first) hold experts whose products cannot "
        f"be perturbed; an evaluation refuses this unless they are left out by name: "
        f"exclude:{','.join(pattern_for(names))}"
    ]


def _untold(plan: InjectionPlan) -> list[str]:
    words = untold_words(plan)
    return [] if words is None or clean_experts(plan) else ["{}: {}; an evaluation refuses this: {}".format(*words)]


def _windows(plan: InjectionPlan, tokens: int) -> list[str]:
    found = least_window(plan)
    if found is None or tokens <= found[1]:
        return []
    return [f"{found[0]}: its sliding window holds {found[1]} keys; an evaluation refuses longer sequences under this"]


def _conflicts(noises: Sequence[NoiseSpec], counts: Sequence[Sequence[Expected]]) -> list[str]:
    """Specifications that perturb the same result or gradient: they cannot be used together."""
    found = []
    places = [[(line.site.name, line.direction) for line in expected] for expected in counts]
    for second, names in enumerate(places):
        for first in range(second):
            shared = dict.fromkeys(name for name in names if name in set(places[first]))
            if shared:
                name, direction = next(iter(shared))
                found.append(
                    f"{noises[first]} and {noises[second]} cannot be used together: both perturb {name} in {direction} "
                    f"({len(shared)} such places)"
                )
    return found


def _fused_linears(config: Any) -> int | None:
    try:
        return fused_linears(config)
    except NoiseSpecError:
        return None
