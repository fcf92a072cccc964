"""Measures the inputs of linears on the prompts of a task, token by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.diagnostics.gaussian import Yardstick
from harness.diagnostics.measuring import Measurement
from harness.diagnostics.scan_result import ModuleScan
from harness.diagnostics.scan_spec import ACTIVATIONS
from harness.diagnostics.scanned_model import FUSED_INPUT, ScannedModel
from harness.diagnostics.weight_roles import Place
from harness.spec.formats import Recipe


def prompt_batches(prompts: Sequence[tuple[int, ...]], size: int) -> list[list[tuple[int, ...]]]:
    """Return batches of at most ``size`` prompts of equal length: no padding, so every row of an input is a real token,
    however a model arranges its rows."""
    lengths: dict[int, list[tuple[int, ...]]] = {}
    for prompt in prompts:
        lengths.setdefault(len(prompt), []).append(prompt)
    return [
        group[start : start + size]
        for _, group in sorted(lengths.items(), reverse=True)
        for start in range(0, len(group), size)
    ]


@torch.inference_mode()
def scan_activations(
    loaded: ScannedModel,
    recipes: Sequence[Recipe],
    yardstick: Yardstick,
    size: int,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[tuple[ModuleScan, ...], dict[str, str]]:
    """Return (what was measured, module -> why its inputs were not); ``advance(n)`` is told of every n prompts.

    Formats with a scale for the whole tensor have one for every token, as engines compute them: no token depends on
    its batch.
    """
    places = [place for place in loaded.chosen if place.hooked]
    unmeasured = {place.name: FUSED_INPUT for place in loaded.chosen if not place.hooked}
    measurements = {place.module: Measurement(recipes, per_row=True) for place in places}
    model: Any = loaded.model
    handles = []
    try:
        for place in places:
            hook = _measuring(measurements[place.module])
            handles.append(model.get_submodule(place.module).register_forward_pre_hook(hook))
        for batch in prompt_batches(list(loaded.prepared.prompts.values()), size):
            ids = torch.tensor(batch, device=model.device)
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
            advance(len(batch))
    finally:
        for handle in handles:
            handle.remove()
    found = [scan for place in places for scan in _results(place, measurements[place.module], yardstick)]
    silent = {place.module: "no token reached it" for place in places if not measurements[place.module].rows}
    return tuple(found), unmeasured | silent


def _measuring(measurement: Measurement) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        measurement.add(args[0].reshape(-1, args[0].shape[-1]))

    return hook


def _results(place: Place, measurement: Measurement, yardstick: Yardstick) -> Iterator[ModuleScan]:
    if not measurement.rows:
        return
    for recipe, error, expected in measurement.results(yardstick):
        yield ModuleScan(
            module=place.module,
            group=place.group,
            what=ACTIVATIONS,
            format=recipe.format.name,
            shape=(measurement.rows, measurement.length),
            dtype=str(measurement.dtype).removeprefix("torch."),
            digest="",
            nonfinite=measurement.scales.nonfinite,
            rms=measurement.scales.rms,
            error=error,
            expected=expected,
        )
