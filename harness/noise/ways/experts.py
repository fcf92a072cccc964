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
from harness.numerics.keyed_random import Keys, counter_keys

PRODUCTS = ("linear", "bmm", "matmul", "__matmul__", "mm", "_grouped_mm", "grouped_mm", "grouped_mm_fallback")
"""Names of the functions that multiply rows by the weight of one expert, of one for each row, or of groups of rows."""

_TURNS = ("transpose", "swapaxes", "permute", "t", "contiguous", "to", "__get__")
"""Names of those that give a weight again, turned over (``__get__`` is that of ``mT``) or in another dtype."""

_FOLLOWED = frozenset(("__getitem__", "repeat_interleave", *_TURNS))


@dataclass(frozen=True)
class _Weight:
    """``tensor`` is the weight ``field`` of the expert ``chosen`` (a number, or one for each row); of all experts,
    where that is None. Held, so that its identity stays its own."""

    tensor: Tensor
    field: str
    chosen: Tensor | int | None = None


class ExpertsMode(TorchFunctionMode):
    """Perturbs the products of one call of ``module``, which holds stacked experts, was given ``hidden`` and whose
    tokens ``chose`` experts.

    ``rows`` counts the rows of each field's products. Without gradients, the products of one field are booked as one
    call, by :meth:`book`.
    """

    def __init__(
        self, module: nn.Module, sites: Mapping[str, Site], session: Session, hidden: Tensor, chose: Tensor
    ) -> None:
        super().__init__()
        self.rows: Counter[str] = Counter()
        self._module, self._sites, self._session, self._hidden, self._chose = module, sites, session, hidden, chose
        self._frame = session.frame(next(iter(sites.values())))
        self._tokens: Tensor | None = None
        self._turned: dict[int, _Weight] = {}
        self._known: tuple[Tensor | None, object, Rows | None] = (None, None, None)
        self._ordered: ByExpert | None = None
        self._derived: tuple[Rows | None, Frame | None] = (None, None)
        some = self._frame.rows is not None and self._frame.rows.chosen is not None
        self._plain = not torch.is_grad_enabled() and not self._frame.error.fresh and not some
        self._measured: dict[str, list[tuple[Tensor, int, int]]] = {field: [] for field in sites}

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, func.__name__
        if name in PRODUCTS:
            for place in (0, 1):
                if (weight := self._weight(args[place])) is not None:
                    return self._product(func, list(args), kwargs, 1 - place, weight)
        result = func(*args, **kwargs)
        if name in _FOLLOWED and args and isinstance(result, Tensor):
            self._follow(name, args, kwargs, result)
        return result

    def _weight(self, x: Any) -> _Weight | None:
        """What ``x`` is: the weight that the module shows now, or what was made of it."""
        if not isinstance(x, Tensor):
            return None
        if (known := self._turned.get(id(x))) is not None:
            return known
        field = next((field for field in FIELDS if x is getattr(self._module, field, None)), None)
        if field is None:
            return None
        return self._turned.setdefault(id(x), _Weight(x, field))

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
            rows = self._rows(site, count, weight, kwargs.get("offs", args[2] if len(args) > 2 else None))
        if self._plain:
            if site.point == "input":
                args[place] = self._portion(site, given, rows)
                return func(*args, **kwargs)
            return self._portion(site, func(*args, **kwargs), rows)
        with torch._C.DisableTorchFunction():
            frame = self._frame_of(rows)
            with session.bound(frame):
                args[place] = session.operand(site, given, "input")
                if site.point == "input":
                    args[place] = session.result(site, args[place])
        result = func(*args, **kwargs)
        if site.point == "input":
            return result
        with torch._C.DisableTorchFunction(), session.bound(frame):
            return session.result(site, result)

    def _portion(self, site: Site, y: Tensor, rows: Rows) -> Tensor:
        """``y``, the rows of one product, perturbed without gradients; what that changed is booked later."""
        if not self._session.plan.spec.forward:
            return y
        with torch._C.DisableTorchFunction():
            keys, real = rows.columns
            flat = y.reshape(len(real), -1)
            after, sums = self._session.portion(site, flat, keys, real, self._frame)
            self._measured[site.field].append((sums, rows.count, rows.count * flat.shape[1]))
            return after.reshape(y.shape)

    def book(self) -> None:
        """Count the products of each field as one call."""
        for field, measured in self._measured.items():
            if measured:
                sums, rows, elements = zip(*measured, strict=True)
                self._session.note(self._sites[field], self._frame, sum(rows), sum(elements), sums)

    def _frame_of(self, rows: Rows) -> Frame:
        """The frame of these rows, which gradients keep."""
        known, frame = self._derived
        if frame is None or known is not rows:
            frame = self._session.derived(self._frame, rows)
            self._derived = rows, frame
        return frame

    def _rows(self, site: Site, count: int, weight: _Weight, ends: Any) -> Rows:
        """The rows of a product: each a token and the expert that it chose. ``ends`` says where the rows of each expert
        end, where the weight is that of all."""
        tokens, known, every = self._tokens, self._known, self._frame.rows
        chosen: Any = ends if weight.chosen is None else weight.chosen
        if known[2] is not None and known[0] is tokens and known[1] is chosen:
            return known[2]
        if every is None or tokens is None or chosen is None or tokens.shape != (count,):
            raise _unknown(site)
        if every.keys.numel() != self._hidden.shape[0]:
            raise _unknown(site)
        if weight.chosen is None:
            places = torch.arange(count, dtype=chosen.dtype, device=chosen.device)
            rows = rows_of(every, tokens, torch.searchsorted(chosen, places, right=True))
        elif isinstance(chosen, int) or chosen.ndim == 0:
            if self._ordered is None:
                self._ordered = ByExpert(every, self._chose)
            rows = self._ordered.of(int(chosen), tokens)
        else:
            rows = rows_of(every, tokens, chosen.long())
        self._known = tokens, chosen, rows
        return rows


def rows_of(every: Rows, tokens: Tensor, numbers: Tensor) -> Rows:
    """Return the rows of these tokens (flat numbers in ``every``) with the experts ``numbers``, int64 (rows,)."""
    keys = counter_keys(every.keys.reshape(-1)[tokens], numbers)[:, None]
    real = every.real.reshape(-1)[tokens][:, None]
    count = len(keys) if every.count == every.real.numel() else int(real.sum())
    chosen = None if every.chosen is None else every.chosen.reshape(-1)[tokens][:, None]
    return Rows(keys, keys, keys, real, count, 0, chosen)


class ByExpert:
    """The rows of all tokens of a call, expert by expert, and of each the first choices of all tokens before the
    second ones: as code takes them that runs one expert after the other. Keys are made once for all."""

    def __init__(self, every: Rows, chose: Tensor) -> None:
        flat, tokens = chose.t().reshape(-1), len(chose)
        numbers, order = torch.sort(flat, stable=True)
        self._every, self._tokens = every, order % tokens
        self._rows = rows_of(every, self._tokens, numbers)
        self._keys, self._real = self._rows.columns
        ends = torch.bincount(numbers).cumsum(0).tolist()
        self._places = {number: (ends[number - 1] if number else 0, end) for number, end in enumerate(ends)}

    def of(self, expert: int, tokens: Tensor) -> Rows:
        """Return the rows of ``tokens`` with that expert, int64 (rows,), in their order."""
        first, last = self._places.get(expert, (0, 0))
        some = self._every.chosen is not None
        if some or last - first != len(tokens) or not torch.equal(self._tokens[first:last], tokens):
            return rows_of(self._every, tokens, torch.full_like(tokens, expert))
        keys, real = self._rows.keys[first:last], self._real[first:last]
        count = last - first if self._rows.count == len(self._real) else int(real.sum())
        halves = Keys(self._keys.low[first:last], self._keys.high[first:last])
        return Rows(keys, keys, keys, real, count, 0, made=(halves, real))


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
    mode = ExpertsMode(module, sites, session, hidden, chosen)
    with contextlib.ExitStack() as stack:
        for field, site in sites.items() if first.point == "output" and session.plan.spec.backward else ():
            shadow(module, field, session.operand(site, shown(module, field), "weight"), session.handle)
            stack.callback(unshadow, module, field, session.handle)
        stack.enter_context(mode)
        result = original(*args, **kwargs)
    if any(mode.rows[field] != chosen.numel() for field in sites):
        raise _unknown(first)
    mode.book()
    return result


def _unknown(site: Site) -> NoiseSpecError:
    return NoiseSpecError(
        f"{site.name} in a forward pass",
        "which rows of its products belong to which token and expert cannot be told",
        f"leave it out: exclude:{site.module.rpartition('.')[2]}",
    )
