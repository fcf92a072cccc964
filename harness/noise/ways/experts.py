"""Noise on the products of stacked experts: the model's own code runs, and each of its products is recognised.

While the module runs, a function mode follows which rows were gathered from the hidden states and which expert's
weight a product is with. A row is keyed by its token and its expert, so that neither the order of the rows, nor the
batch, nor the implementation (eager, batched, grouped) matters. A bias that is added to a product later stays clean.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.exceptions import NoiseSpecError
from harness.noise.frames import Frame, Rows
from harness.noise.protocol import Session
from harness.noise.sites import Site
from harness.noise.stacked import FIELDS, routed
from harness.noise.ways.shadow import shadow, shown, unshadow
from harness.noise.ways.wrapping import wrapped
from harness.numerics.keyed_random import counter_keys

PRODUCTS = ("linear", "bmm", "matmul", "__matmul__", "mm", "_grouped_mm", "grouped_mm", "grouped_mm_fallback")
"""Names of the functions that multiply rows by the weight of one expert, of one for each row, or of groups of rows."""

_TURNS = ("transpose", "swapaxes", "permute", "t", "contiguous", "to", "__get__")
"""Names of those that give a weight again, turned over (``__get__`` is that of ``mT``) or in another dtype."""


@dataclass(frozen=True)
class _Weight:
    """``tensor`` is the weight ``field`` of the expert ``chosen`` (a number, or one for each row); of all experts,
    where that is None. Held, so that its identity stays its own."""

    tensor: Tensor
    field: str
    chosen: Tensor | int | None = None


class ExpertsMode(TorchFunctionMode):
    """Perturbs the products of one call of ``module``, which holds stacked experts and was given ``hidden``.

    ``rows`` counts the rows of each field's products.
    """

    def __init__(self, module: nn.Module, sites: Mapping[str, Site], session: Session, hidden: Tensor) -> None:
        super().__init__()
        self.rows: Counter[str] = Counter()
        self._module, self._sites, self._session, self._hidden = module, sites, session, hidden
        self._frame = session.frame(next(iter(sites.values())))
        self._tokens: Tensor | None = None
        self._turned: dict[int, _Weight] = {}
        self._known: tuple[Tensor | None, object, Frame | None] = (None, None, None)

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, func.__name__
        if name in PRODUCTS:
            for place in (0, 1):
                if (weight := self._weight(args[place])) is not None:
                    return self._product(func, list(args), kwargs, 1 - place, weight)
        result = func(*args, **kwargs)
        if args and isinstance(result, Tensor):
            self._follow(name, args, kwargs, result)
        return result

    def _weight(self, x: Any) -> _Weight | None:
        """What ``x`` is: the weight that the module shows now, or what was made of it."""
        if not isinstance(x, Tensor):
            return None
        field = next((field for field in FIELDS if x is getattr(self._module, field, None)), None)
        return self._turned.get(id(x)) if field is None else _Weight(x, field)

    def _follow(self, name: str, args: Any, kwargs: Mapping[str, Any], result: Tensor) -> None:
        first = args[0]
        if first is self._hidden and name == "__getitem__" and isinstance(args[1], Tensor):
            self._tokens = args[1]
        elif first is self._hidden and name == "repeat_interleave":
            times = args[1] if len(args) > 1 else kwargs["repeats"]
            with torch._C.DisableTorchFunction():
                self._tokens = torch.arange(first.shape[0], device=first.device).repeat_interleave(times)
        elif name == "__getitem__" and isinstance(args[1], Tensor | int):
            if (weight := self._weight(first)) is not None and weight.chosen is None:
                self._turned[id(result)] = _Weight(result, weight.field, args[1])
        elif name in _TURNS and result is not first and (weight := self._weight(first)) is not None:
            self._turned[id(result)] = replace(weight, tensor=result)

    def _product(self, func: Any, args: list[Any], kwargs: dict[str, Any], place: int, weight: _Weight) -> Any:
        site, session, given = self._sites.get(weight.field), self._session, args[place]
        with torch._C.DisableTorchFunction():  # other modes must not take this for the model's
            count = given.shape[0]
        self.rows[weight.field] += count
        if site is None or count == 0:
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            frame = self._rows(site, count, weight, kwargs.get("offs", args[2] if len(args) > 2 else None))
            with session.bound(frame):
                args[place] = session.operand(site, given, "input")
                if site.point == "input":
                    args[place] = session.result(site, args[place])
        result = func(*args, **kwargs)
        if site.point == "input":
            return result
        with torch._C.DisableTorchFunction(), session.bound(frame):
            return session.result(site, result)

    def _rows(self, site: Site, count: int, weight: _Weight, ends: Any) -> Frame:
        """The frame whose rows are those of a product: a token and the expert that it chose. ``ends`` says where the
        rows of each expert end, where the weight is that of all."""
        tokens, known, rows = self._tokens, self._known, self._frame.rows
        chosen: Any = ends if weight.chosen is None else weight.chosen
        if known[2] is not None and known[0] is tokens and known[1] is chosen:
            return known[2]
        if rows is None or tokens is None or chosen is None or tokens.shape != (count,):
            raise _unknown(site)
        if rows.keys.numel() != self._hidden.shape[0]:
            raise _unknown(site)
        if weight.chosen is None:
            places = torch.arange(count, dtype=chosen.dtype, device=chosen.device)
            numbers = torch.searchsorted(chosen, places, right=True)
        else:
            numbers = torch.as_tensor(chosen, device=tokens.device).long()
        keys = counter_keys(rows.keys.reshape(-1)[tokens], numbers)[:, None]
        real = rows.real.reshape(-1)[tokens][:, None]
        known_real = count if rows.count == rows.real.numel() else int(real.sum())
        chosen_rows = None if rows.chosen is None else rows.chosen.reshape(-1)[tokens][:, None]
        frame = self._session.derived(self._frame, Rows(keys, keys, keys, real, known_real, 0, chosen_rows))
        self._known = tokens, chosen, frame
        return frame


@contextlib.contextmanager
def perturbed(model: nn.Module, sites: Sequence[Site], session: Session) -> Iterator[None]:
    """Wrap the forward of every module of ``sites`` so that the products of its experts are perturbed."""
    by_module: dict[str, dict[str, Site]] = {}
    for site in sites:
        by_module.setdefault(site.module, {})[site.field] = site
    with contextlib.ExitStack() as stack:
        for path, own in by_module.items():
            stack.enter_context(wrapped(model.get_submodule(path), functools.partial(_run, session, own)))
        yield


def _run(session: Session, sites: Mapping[str, Site], module: nn.Module, original: Any, args: Any, kwargs: Any) -> Any:
    first = next(iter(sites.values()))
    if torch.compiler.is_compiling():
        rule = "products of experts are told apart in eager mode only"
        raise NoiseSpecError(f"{first.name} in a compiled model", rule, "do not compile it")
    if session.is_paused or not session.frame(first).active:
        return original(*args, **kwargs)
    hidden, chosen = routed(module, args, kwargs)
    mode = ExpertsMode(module, sites, session, hidden)
    with contextlib.ExitStack() as stack:
        for field, site in sites.items() if first.point == "output" and session.plan.spec.backward else ():
            shadow(module, field, session.operand(site, shown(module, field), "weight"), session.handle)
            stack.callback(unshadow, module, field, session.handle)
        stack.enter_context(mode)
        result = original(*args, **kwargs)
    if any(mode.rows[field] != chosen.numel() for field in sites):
        raise _unknown(first)
    return result


def _unknown(site: Site) -> NoiseSpecError:
    return NoiseSpecError(
        f"{site.name} in a forward pass",
        "which rows of its products belong to which token and expert cannot be told",
        f"leave it out: exclude:{site.module.rpartition('.')[2]}",
    )
