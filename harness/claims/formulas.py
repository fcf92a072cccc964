"""Arithmetic that settles a claim without an experiment. A formula gives a value, and a chance p where it has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.exceptions import HarnessError


@dataclass(frozen=True)
class Outcome:
    """The value of a formula; ``chance`` is the probability of at least this value without any skill."""

    value: float
    chance: float | None = None


@dataclass(frozen=True)
class Formula:
    """A named calculation, the inputs it takes, and what it says."""

    inputs: tuple[str, ...]
    words: str
    compute: Callable[..., Outcome]


def lora_parameters(rank: float, layers: float, inputs: tuple[float, ...], outputs: tuple[float, ...]) -> Outcome:
    """Return trainable numbers of LoRA: layers * sum over adapted matrices of rank * (inputs + outputs)."""
    return Outcome(layers * sum(rank * (wide + high) for wide, high in zip(inputs, outputs, strict=True)))


def window_overlap(layers: float, window: tuple[float, ...], target: tuple[float, ...]) -> Outcome:
    """Return the share of ``target`` layers inside ``window`` (percent), and how often a window put at random does as
    well."""
    width, wanted = len(window), set(target)
    if not wanted or not 0 < width <= layers:
        raise ValueError("a window within the layers and at least one target layer")
    hit = len(wanted & set(window))
    starts = range(int(layers) - width + 1)
    as_good = sum(len(wanted & set(range(start, start + width))) >= hit for start in starts)
    return Outcome(100 * hit / len(wanted), as_good / len(starts))


def adapters_behind_frozen(layers: float, adapters_per_layer: float, last_adapters: float) -> Outcome:
    """Return adapters whose gradient passes through at least one frozen matrix: all but the last ones of the network.

    The gradient of an adapter is carried back through every later layer, whose frozen matrices multiply it.
    """
    return Outcome(layers * adapters_per_layer - last_adapters)


FORMULAS: Mapping[str, Formula] = {
    "lora_parameters": Formula(
        ("rank", "layers", "inputs", "outputs"), "trainable parameters of the adapters", lora_parameters
    ),
    "window_overlap": Formula(
        ("layers", "window", "target"), "percent of the target layers inside the window", window_overlap
    ),
    "adapters_behind_frozen": Formula(
        ("layers", "adapters_per_layer", "last_adapters"),
        "adapters whose gradient passes a frozen matrix",
        adapters_behind_frozen,
    ),
}


def evaluate(name: str, inputs: Mapping[str, Any]) -> Outcome:
    """Return the formula ``name`` of its inputs. Raises :class:`HarnessError` where they do not fit together."""
    try:
        return FORMULAS[name].compute(**inputs)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise HarnessError(f"formula {name}", f"its inputs do not fit: {error}", "correct the registry") from None
