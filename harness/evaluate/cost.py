"""What an evaluation will cost and what it can tell, said before it runs."""

from __future__ import annotations

from harness.engines.registry import engine_kind
from harness.evaluate.prepared import Prepared
from harness.gates.forecast import ASSUMED_DISCORDANCE
from harness.gates.keys import asked_with
from harness.noise.estimate.speed import measure_speed
from harness.progress import duration
from harness.spec import EngineOptions, EvalSpec
from harness.stats import minimum_detectable_effect

SECONDS_PER_FORWARD = 0.02
"""What scheduling and Python cost an engine in a forward, beside the arithmetic: 10 to 20 ms were seen on two cores."""

SECONDS_TO_START = 60
"""An engine in a process of its own took 21 to 90 s."""


def cost_line(prepared: Prepared, left: int, options: EngineOptions) -> str:
    """Return what the ``left`` generations will cost and what the run can tell, in one line."""
    items, levels = len(prepared.items), len(prepared.spec.levels)
    seconds, bound, how = _seconds(prepared, left, options)
    quantized = "".join(f"; {plan.spec} on {len(plan.sites)} sites" for plan in prepared.quantizers)
    words = asked_with({} if prepared.prompting is None else prepared.prompting.key)
    asked = f"; {words}" if words else ""
    workers = f" on {options.workers} workers" if options.workers > 1 else ""
    work, most = "generations", f"at most {prepared.decoding.max_new_tokens} new tokens"
    if prepared.requests:
        work, most = "records", f"{sum(map(len, prepared.requests.values()))} continuations for each level and seed"
    return (
        f"{left} of {prepared.draws} {work} to do: {_counted(items, 'item')} x {_counted(levels, 'level')}"
        f"{_seeds(prepared.spec)}, {most}{asked}; "
        f"{prepared.spec.noise} on {len(prepared.plan.sites)} sites{quantized}; "
        f"{bound} {duration(seconds / options.workers)}{workers} ({how}){_effect(prepared)}"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _seeds(spec: EvalSpec) -> str:
    """The draws of a level, where there are any."""
    if spec.sampling is not None:
        return f", {_counted(spec.noise_seeds, 'sample')} at each ({spec.decoding})"
    return f", {_counted(spec.noise_seeds, 'noise seed')} above level 0" if any(spec.levels) else ""


def _effect(prepared: Prepared) -> str:
    """What a gate could tell; nothing where answers are neither right nor wrong."""
    if getattr(prepared.scorer, "continuous", False):
        return ""
    effect = minimum_detectable_effect(ASSUMED_DISCORDANCE**0.5, len(prepared.items))
    together = "; larger where items of a cluster move together" if any(i.cluster for i in prepared.items) else ""
    return (
        f"; minimum detectable effect {100 * effect:.1f} percentage points (one-sided alpha 0.05, power 0.8, "
        f"if {100 * ASSUMED_DISCORDANCE:.0f} % of the pairs disagree{together})"
    )


def _seconds(prepared: Prepared, left: int, options: EngineOptions) -> tuple[float, str, str]:
    """Seconds on one worker if every answer were as long as allowed, whether that is a bound, and how it was found."""
    probe = engine_kind(prepared.spec.engine).probe
    if probe is not None and prepared.loaded:
        batches = -(-left // options.batch_size)
        return probe(prepared, options.batch_size) * batches, "at most", "measured on a probe batch"
    speed = measure_speed([prepared.plan.spec.error], prepared.spec.dtype, "cpu")
    products = 2 * sum(weight.numel() for weight in prepared.checkpoint.model.parameters()) / speed.gflops
    noise = sum(site.columns for site in prepared.plan.sites) * max(speed.nanoseconds.values())
    forwards = -(-left // options.batch_size) * prepared.decoding.max_new_tokens
    tokens = prepared.longest
    if prepared.requests:
        tokens = sum(map(len, prepared.prompts.values())) // len(prepared.prompts)
        forwards *= max(map(len, prepared.requests.values()))
    seconds = left * tokens * (products + noise) * 1e-9 + forwards * SECONDS_PER_FORWARD
    return (
        seconds,
        "about",
        f"estimated from this CPU's rates; another {SECONDS_TO_START} s until the engine has started",
    )
