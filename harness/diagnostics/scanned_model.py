"""The loaded model of a scan with its prompts, for activations and the effect on answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.diagnostics.scan_spec import ScanSpec
from harness.diagnostics.weight_roles import Place, find_places, matrices
from harness.diagnostics.weights import Source
from harness.evaluate.prepared import Prepared, prepare
from harness.exceptions import HarnessError
from harness.numerics.quantizer import quantized
from harness.spec import EvalSpec
from harness.spec.formats import Recipe

FUSED_INPUT = "fused experts: their inputs are computed inside the module"


@dataclass(frozen=True)
class ScannedModel:
    """A checkpoint in memory: model, prompts and decoding of ``prepared``, and the places of its linears."""

    prepared: Prepared
    places: Mapping[str, Place]

    @property
    def model(self) -> nn.Module:
        """The model, on its device."""
        model: nn.Module = self.prepared.checkpoint.model
        return model

    @property
    def chosen(self) -> tuple[Place, ...]:
        """What is scanned: each weight of each module once, though the module may have several paths."""
        found: dict[tuple[int, str], Place] = {}
        for place in self.places.values():
            if place.reason is None and not place.meant:
                found.setdefault((id(self.model.get_submodule(place.module)), place.field), place)
        return tuple(found.values())

    @property
    def groups(self) -> tuple[str, ...]:
        """The blocks that hold something to quantize, in the order of the model."""
        return tuple(dict.fromkeys(place.group for place in self.chosen))


def load(spec: ScanSpec, source: Source) -> ScannedModel:
    """Load the model and the prompts of ``spec`` as an evaluation does, an adapter merged or beside it.

    Raises :class:`harness.exceptions.HarnessError` for all that ``harness eval`` refuses too.
    """
    assert spec.task is not None
    task = spec.task
    asked = EvalSpec(
        task.name,
        levels=(0.0,),
        data=task.data,
        items=task.items,
        item_seed=task.item_seed,
        scorer=task.scorer,
        max_new_tokens=task.max_new_tokens,
        attention=spec.attention,
        dtype=spec.dtype,
    )
    prepared = prepare(source.opened, asked, spec.device)
    if prepared.requests:
        raise HarnessError(
            f"--task {task.name}", "a scan measures the effect on generated answers", "choose a task that generates"
        )
    return ScannedModel(prepared, find_places(prepared.checkpoint.model, spec.include))


@contextlib.contextmanager
def quantized_places(
    model: nn.Module, places: Sequence[Place], recipe: Recipe, weights: bool, activations: bool
) -> Iterator[None]:
    """Let the modules of ``places`` compute with quantized weights, quantized inputs (every token by itself), or both.

    The parameters themselves are not written: others stand in their place for as long as this lasts.
    """
    kept: list[tuple[nn.Module, str, nn.Parameter | None]] = []
    handles = []
    try:
        for place in places:
            module = model.get_submodule(place.module)
            if weights:
                parameter = module._parameters[place.field]
                assert parameter is not None
                kept.append((module, place.field, parameter))
                after = quantized_weight(parameter.detach(), recipe, place.transposed)
                module._parameters[place.field] = nn.Parameter(after, requires_grad=False)
            if activations and place.hooked:
                handles.append(module.register_forward_pre_hook(_quantizing(recipe)))
        yield
    finally:
        for module, field, parameter in kept:
            module._parameters[field] = parameter
        for handle in handles:
            handle.remove()


def quantized_weight(weight: Tensor, recipe: Recipe, transposed: bool) -> Tensor:
    """Return ``weight`` quantized along its contraction dimension, in its own layout; experts each by themselves."""
    after = [quantized(matrix, recipe) for matrix in matrices(weight, transposed)]
    if transposed and weight.ndim in (2, 3):
        after = [matrix.t() for matrix in after]
    return (torch.stack(after) if weight.ndim == 3 else after[0]).reshape(weight.shape).contiguous()


def _quantizing(recipe: Recipe) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return quantized(args[0], recipe, per_row=True), *args[1:]

    return hook
