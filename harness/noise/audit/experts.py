"""What the products of stacked experts gave and what was used of them, seen from outside the injector.

It stands outside every other function mode, so that it meets the product itself first and then, as an argument of the
next function that is called with it, what became of it. Which rows belong to which token and expert follows from the
choice that the module was given and from how transformers orders them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.hooks import RemovableHandle

from harness.noise.stacked import routed, stacked_fields, stacked_modules

_BATCHED, _GROUPED = ("bmm",), ("_grouped_mm", "grouped_mm", "grouped_mm_fallback")
_LAST = 6
"""Results of a module's own code that are remembered: what a product is given lies a few calls back."""

_PRODUCTS = (*_BATCHED, *_GROUPED, "linear", "matmul", "__matmul__", "mm")

Seen = Callable[[str, Tensor, Tensor, Tensor], None]
"""Takes a site, its product and what was used of it (tokens * experts chosen, columns), and the experts chosen (tokens,
experts chosen)."""


@dataclass
class _Call:
    """One call of a module: the experts that its tokens chose, and of each product its name, what it gave and what of
    it was used."""

    path: str
    fields: tuple[str, ...]
    chosen: Tensor
    products: list[tuple[str, Tensor]] = field(default_factory=list)
    used: list[Tensor] = field(default_factory=list)


Given = Callable[[str, str, Tensor, Tensor], None]
"""Takes module and weight of a product, its rows as the model made them, and as the product was given them."""


class InputsWatch(TorchFunctionMode):
    """Hands the rows of every product of the stacked experts at ``paths`` of ``model`` to ``given``: what the module's
    own code made last, and what the product was called with."""

    def __init__(self, model: nn.Module, paths: Sequence[str], given: Given) -> None:
        super().__init__()
        self._modules = {path: model.get_submodule(path) for path in paths}
        self._given = given
        self._running: tuple[str, Any] | None = None
        self._made: list[Tensor] = []
        self._count = 0

    def hook(self) -> Iterator[RemovableHandle]:
        """Yield the hooks of one ``with`` block."""
        for path, module in self._modules.items():
            yield module.register_forward_pre_hook(self._begin(path))
            yield module.register_forward_hook(self._end, always_call=True)

    def _begin(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            self._running, self._made, self._count = (path, module), [], 0

        return hook

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        self._running, self._made = None, []

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self._running is None or not isinstance(result, Tensor):
            return result
        name = func.__name__
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            if name in _PRODUCTS:
                self._product(args[1] if name in _BATCHED and not self._running[1].is_transposed else args[0])
            elif not (name == "__getitem__" and args[0].ndim > 2):  # the weights of chosen experts
                self._made = [*self._made[-_LAST:], result]
        return result

    def _product(self, given: Tensor) -> None:
        assert self._running is not None
        path, module = self._running
        made = next((x for x in reversed(self._made) if _is_of(x, given)), None)
        fields = stacked_fields(module)
        if made is not None:
            self._given(path, fields[self._count % len(fields)], made.detach(), given.detach())
        self._count += 1


class ExpertsWatch(TorchFunctionMode):
    """Hands what every module of stacked experts of ``model`` multiplied to ``seen``, when the module is done.

    Products that nobody used afterwards, and rows that are not as many as were chosen, are not handed on: then there is
    nothing to compare, and the audit says so.
    """

    def __init__(self, model: nn.Module, seen: Seen) -> None:
        super().__init__()
        self._modules = stacked_modules(model)
        self._seen = seen
        self._call: _Call | None = None

    def hook(self) -> Iterator[RemovableHandle]:
        """Yield the hooks of one ``with`` block."""
        for path, module in self._modules.items():
            yield module.register_forward_pre_hook(self._begin(path), with_kwargs=True)
            yield module.register_forward_hook(self._end, always_call=True)

    def _begin(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            chosen = routed(module, args, kwargs)[1]
            self._call = None if chosen.is_meta else _Call(path, stacked_fields(module), chosen)

        return hook

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        call = self._call
        if call is None:
            return func(*args, **(kwargs or {}))
        if len(call.used) < len(call.products):
            found = next((x for x in args if _is_of(x, call.products[-1][1])), None)
            if found is not None:
                call.used.append(_copy(found))
        result = func(*args, **(kwargs or {}))
        if func.__name__ in _PRODUCTS:
            call.products.append((func.__name__, _copy(result)))
        return result

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        call, self._call = self._call, None
        if call is None or len(call.used) != len(call.products):
            return
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            for number, name in enumerate(call.fields):
                own = slice(number, None, len(call.fields))
                places = _places(call.products[own], call.chosen)
                if places is None:
                    continue
                exact, used = (
                    _rows(parts, places) for parts in ([product for _, product in call.products[own]], call.used[own])
                )
                self._seen(f"{call.path}:{name}", exact, used, call.chosen)


def _is_of(x: Any, product: Tensor) -> bool:
    """Whether ``x`` may be ``product`` or what became of it; parameters are as wide, and no results."""
    if not isinstance(x, Tensor) or isinstance(x, nn.Parameter):
        return False
    with torch._C.DisableTorchFunction():
        return x.numel() == product.numel() and _sizes(x) == _sizes(product)


def _sizes(x: Tensor) -> list[int]:
    return [size for size in x.shape if size != 1]


def _copy(x: Tensor) -> Tensor:
    """A copy: a result may be overwritten where it lies."""
    with _disable_current_modes(), torch._C.DisableTorchFunction():
        return x.detach().clone()


def _places(products: Sequence[tuple[str, Tensor]], chosen: Tensor) -> Tensor | None:
    """Where in ``chosen`` (flat) the rows of ``products`` belong, in their order; None where they are not as many."""
    flat = chosen.reshape(-1)
    names = {name for name, _ in products}
    if names <= set(_GROUPED):
        places = torch.sort(flat)[1]
    elif names <= set(_BATCHED):
        places = torch.arange(flat.numel(), device=flat.device)
    else:  # expert by expert, and of each the first choices of all tokens before the second ones
        turned = chosen.t().reshape(-1)
        order = torch.sort(turned, stable=True)[1]
        places = order % len(chosen) * chosen.shape[1] + order // len(chosen)
    rows = sum(product.shape[0] for _, product in products)
    return places if rows == flat.numel() else None


def _rows(parts: Sequence[Tensor], places: Tensor) -> Tensor:
    """``parts`` one below the other, each row at its place."""
    stacked = torch.cat([part.reshape(part.shape[0], -1) for part in parts])
    return torch.empty_like(stacked).index_copy_(0, places, stacked)
