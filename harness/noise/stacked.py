"""Stacked experts as transformers writes them: one module with a 3-D weight for each of two products.

transformers' ``use_experts_implementation`` marks such a class: it sets what is read here, and runs the module as
``eager``, ``batched_mm`` or ``grouped_mm`` on hidden states (tokens, hidden) and the numbers of the experts that each
token chose (tokens, experts chosen). Other classes with stacked weights are not known here.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.spec.experts import FIELDS

*FIRST, LAST = FIELDS
"""Names of the weight of the first product, with a gate and without, and that of the second."""

IMPLEMENTATIONS = ("eager", "batched_mm", "grouped_mm")
"""How transformers may run such a module and each product can still be told."""

_MARKS = ("has_gate", "has_bias", "is_transposed", "num_experts", "config")


class StackedLinear(nn.Module):
    """Stands for the linears of one weight of stacked experts where modules are chosen; it holds no parameter."""

    def __init__(self, owner: nn.Module, field: str) -> None:
        super().__init__()
        self.field = field
        self.sizes = tuple(weight_of(owner, field).shape)


def stacked_fields(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the weights of stacked experts of the known class, in the order in which they are used; empty
    for every other module, and for experts run in a way that hides their products."""
    if not all(hasattr(module, name) for name in _MARKS):
        return ()
    first, used = FIRST[0 if module.has_gate else 1], getattr(module.config, "_experts_implementation", None)
    weights = [module._parameters.get(name) for name in (first, LAST)]
    if used not in IMPLEMENTATIONS or any(weight is None or weight.ndim != 3 for weight in weights):
        return ()
    return first, LAST


def stacked_modules(model: nn.Module) -> Mapping[str, nn.Module]:
    """Return path -> module of the stacked experts of ``model`` that are known."""
    return {path: module for path, module in model.named_modules() if stacked_fields(module)}


def weight_of(module: nn.Module, field: str) -> Tensor:
    """Return the weight ``field`` of ``module``: (experts, out, in), or (experts, in, out) where it is transposed."""
    weight: Tensor = getattr(module, field)
    return weight


def out_width(module: nn.Module, field: str) -> int:
    """Return the features that the product with ``field`` gives for one token and expert."""
    return int(weight_of(module, field).shape[2 if module.is_transposed else 1])


def in_width(module: nn.Module, field: str) -> int:
    """Return the features that the product with ``field`` takes of one token and expert."""
    return int(weight_of(module, field).shape[1 if module.is_transposed else 2])


@contextlib.contextmanager
def experts_on_meta(model: nn.Module) -> Iterator[None]:
    """Run stacked experts inside as ``batched_mm``: without weights the others cannot, they look at the choice."""
    with contextlib.ExitStack() as stack:
        configs: dict[int, Any] = {id(module.config): module.config for module in stacked_modules(model).values()}
        for config in configs.values():
            stack.callback(setattr, config, "_experts_implementation", config._experts_implementation)
            config._experts_implementation = IMPLEMENTATIONS[1]
        yield


def routed(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return what a call of ``module`` was given: hidden states (tokens, hidden), and the experts that each token chose
    (tokens, experts chosen), int64. Their names differ between classes, not their order."""
    names = _names(type(module).forward)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    hidden, chosen = given[names[0]], given[names[1]]
    assert isinstance(hidden, Tensor) and isinstance(chosen, Tensor)
    return hidden, chosen.to(torch.int64)


@functools.cache
def _names(forward: Callable[..., Any]) -> tuple[str, ...]:
    """The names of the arguments of the forward of a class; signatures are slow to read."""
    return tuple(inspect.signature(forward).parameters)[1:]
