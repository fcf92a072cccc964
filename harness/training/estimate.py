"""What a recipe will do and cost, before anything runs: injections per step, sigma per step, memory, hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.spec.noise import NoiseSpec
from harness.training.injection import BACKWARD, OLD_LOG_PROB, PASSES, REFERENCE, ROLLOUT, TRAINING_FORWARD, VALIDATION
from harness.training.recipe import Recipe
from harness.training.sections import CPU, LORA
from harness.training.sizes import Sizes, trained_parameters

GIB = 1 << 30
CPU_MEMORY, CPU_MEMORY_OF_A_RANK = 8.0, 4.3
"""GiB that a run takes on a CPU (measured: MemAvailable fell by 6.6 to 7.6), and what each further rank adds."""

CPU_START, CPU_STEP, CPU_VALIDATION = 100.0, 2.7, 4.0
"""Seconds on a quiet CPU, measured on the shipped checkpoint without noise: imports, a step, a validation of 32."""

GRADIENTS = 2
"""Operands of a product whose gradients backward noise perturbs: input and weight."""


@dataclass(frozen=True)
class Injections:
    """What the ledgers of one step must count in a pass: ``sites``, and ``calls`` of them (None: open, see ``words``).

    Forward and log-probability passes are counted on each device; a rollout's calls depend on how vLLM batches.
    """

    name: str
    sites: int | None
    calls: int | None
    words: str = ""


def expected_injections(recipe: Recipe, sizes: Sizes) -> tuple[Injections, ...]:
    """Return what one training step injects, pass by pass; passes that stay clean have 0 sites."""
    noise = recipe.noise
    found = []
    for name in PASSES:
        there = noise is not None and name in noise.passes and not (name == REFERENCE and not recipe.algorithm.kl_loss)
        if noise is None or not there:
            found.append(Injections(name, 0, 0, "clean"))
            continue
        spec = noise.spec_in(TRAINING_FORWARD if name == BACKWARD else name)
        assert spec is not None
        sites = _sites(spec, sizes)
        if name in (ROLLOUT, VALIDATION):
            found.append(Injections(name, sites, None, _rows(recipe, name, sites)))
        elif sites is None:
            found.append(Injections(name, None, None, "counted when the model is loaded"))
        else:
            factor = GRADIENTS if name == BACKWARD else 1
            found.append(Injections(name, sites, sites * factor * _micro_batches(recipe, name)))
    return tuple(found)


def _sites(spec: NoiseSpec, sizes: Sizes) -> int | None:
    """Return how many modules ``spec`` reaches, None where only the model can tell."""
    if (
        sizes.experts
        or not spec.asked_ops
        or spec.include
        or spec.exclude
        or not set(spec.asked_ops) <= set(sizes.counts)
    ):
        return None
    if not spec.layers:
        return sum(sizes.counts[op] for op in spec.asked_ops)
    layers = sum(max(0, min(last, sizes.layers - 1) - first + 1) for first, last in spec.layers)
    return sum((sizes.counts[op] - (op in ("linear", "rms_norm"))) // sizes.layers * layers for op in spec.asked_ops)


def _micro_batches(recipe: Recipe, name: str) -> int:
    """Return the forwards of one step on one device: sequences in groups of the micro-batch."""
    sequences = recipe.trained_prompts * recipe.algorithm.rollouts // (recipe.machine.devices * recipe.machine.nodes)
    each = recipe.optimizer.micro_batch
    if name in (OLD_LOG_PROB, REFERENCE):
        return -(-sequences // each)
    of_update = sequences // recipe.updates_per_step
    return recipe.updates_per_step * -(-of_update // each)


def _rows(recipe: Recipe, name: str, sites: int | None) -> str:
    if name == VALIDATION:
        return f"its own metric, over {recipe.data.validation_items} answers"
    sequences = recipe.drawn_prompts * recipe.algorithm.rollouts
    tokens = sequences * (recipe.data.max_prompt + recipe.data.max_response)
    return f"at most {tokens * sites:,} token rows" if sites else "counted when the model is loaded"


def memory_gib(recipe: Recipe, sizes: Sizes) -> float:
    """Return the memory that a run needs at least: GiB of one device, or of the machine on a CPU.

    On a device: float32 weights, gradients and two moments of AdamW of what is trained, sharded; the frozen base of an
    adapter; the reference where there is a KL term; the rollout copy. Activations and the cache of keys come on top.
    """
    machine = recipe.machine
    ranks = machine.devices * machine.nodes
    if machine.platform == CPU:
        return CPU_MEMORY + CPU_MEMORY_OF_A_RANK * (ranks - 1)
    trained = trained_parameters(recipe, sizes)
    sharded = 16 * trained
    sharded += 4 * sizes.parameters if recipe.tuning.kind == LORA else 0
    sharded += 4 * sizes.parameters if recipe.algorithm.kl_loss and recipe.tuning.kind != LORA else 0
    copy = (2 if recipe.model.dtype == "bfloat16" else 4) * sizes.parameters / recipe.model.tensor_parallel
    return (sharded / ranks + copy) / GIB


def validated_steps(recipe: Recipe) -> tuple[int, ...]:
    """Return the steps after which verl validates: multiples, and the last step while the frequency is above 0."""
    return _steps(recipe.run.validate_every, recipe.total_steps)


def saved_steps(recipe: Recipe) -> tuple[int, ...]:
    """Return the steps after which verl saves a checkpoint: multiples, and the last step."""
    return _steps(recipe.run.save_every, recipe.total_steps)


def _steps(every: int, last: int) -> tuple[int, ...]:
    return () if every < 1 else tuple(dict.fromkeys((*range(every, last + 1, every), last)))


def estimate(recipe: Recipe, sizes: Sizes) -> dict[str, Any]:
    """Return all of this as plain data; hours are None where the sources do not say what a step took."""
    steps = recipe.total_steps
    config = recipe.aqn_config(sizes.layers)
    seconds = CPU_START + CPU_STEP * steps + CPU_VALIDATION * (len(validated_steps(recipe)) + 1)
    hours = recipe.run.gpu_hours_per_step * steps
    return {
        "steps": steps,
        "updates": steps * recipe.updates_per_step,
        "updates_per_step": recipe.updates_per_step,
        "trajectories_per_step": recipe.trained_prompts * recipe.algorithm.rollouts,
        "validated_at": list(validated_steps(recipe)),
        "saved_at": list(saved_steps(recipe)),
        "injections": [vars(each) for each in expected_injections(recipe, sizes)],
        "sigma": None if config is None else config.schedule.to_json(),
        "aqn_layers": None if config is None else _aqn_layers(recipe, sizes),
        "memory_gib": round(memory_gib(recipe, sizes), 1),
        "cpu_minutes": round(seconds / 60, 1) if recipe.machine.platform == CPU else None,
        "gpu_hours": round(hours, 1) if hours else None,
    }


def _aqn_layers(recipe: Recipe, sizes: Sizes) -> int | None:
    """Return how many weights AQN matches in the rollout copy, None where only the model can tell."""
    part = recipe.aqn
    assert part is not None
    if part.include or part.exclude:
        return None
    kinds = {"rmsnorm": sizes.counts["rms_norm"], "layernorm": 0, "linear": sizes.counts["linear"] - 1}
    if sizes.experts:
        kinds["rmsnorm"] = sizes.layers  # those behind the attention alone
    return sum(kinds[kind] for kind in part.layer_types)
