"""Perturbs one tensor of one site: finds its rows, makes its keys, runs the kernel and books the result."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from harness.exceptions import NoiseSpecError
from harness.noise import layout
from harness.noise.frames import Frame
from harness.noise.kernel import Kernel
from harness.noise.layout import VALUE
from harness.noise.ledger import Entry, Ledger
from harness.noise.scores import score_keys, score_table
from harness.noise.sites import CONV1D, FUNCTION, LINEAR, SOFTMAX, Site
from harness.numerics.keyed_random import DrawKey, Keys, counter_keys, derive_key, stream_keys
from harness.record import BACKWARD, FORWARD, RECOMPUTE

_Measured = tuple[Tensor, int, int, Tensor | None]
"""The perturbed tensor, its real rows, its real elements, and what the kernel measured (None: it had no row)."""


PRODUCTS = (LINEAR, CONV1D)
"""Operators whose result is a tensor of its own, that nobody else holds when a hook gets it."""


class Injector:
    """What a session does with a tensor. Holds the kernel, the keys of columns and the perturbed weights."""

    def __init__(self, ledger: Ledger, kernel: Kernel, renormalised: bool = False) -> None:
        self._ledger = ledger
        self._renormalised = renormalised
        self._kernel = kernel
        self._calls = itertools.count(1)
        self._entries: dict[tuple[str, str, str, str], Entry] = {}
        self._columns: dict[tuple[str, str, int, torch.device], Keys] = {}
        self._weights: dict[str, tuple[tuple[object, ...], _Measured]] = {}

    def inject(self, site: Site, part: str, y: Tensor, frame: Frame) -> Tensor:
        """Return ``y`` perturbed at ``site`` in ``frame``, and counted in the ledger.

        ``part`` is empty for the result, :data:`VALUE` for a weight, else the operand whose gradient ``y`` is. dtype,
        shape and device are kept; integers never come here; complex numbers are pairs of real ones. Raises
        :class:`NoiseSpecError` where items are named and the rows of a result cannot be told apart.
        """
        if not frame.active:
            return y
        if y.is_complex():
            pairs = torch.view_as_real(y.resolve_conj())
            return strided(torch.view_as_complex(self.inject(site, part, pairs, frame).contiguous()), y)
        entry = self._entry(site, part, frame.phase)
        if y.numel() == 0:
            self._ledger.note(entry, 0, 0, None)
            return y
        if part == VALUE:
            after, rows, elements, sums = self._weight(entry, y, frame)
        elif not part and _is_whole(site, y, frame):
            after, rows, elements, sums = self._whole(entry, y, frame)
        else:
            after, rows, elements, sums = self._any(entry, y, frame)
        self._ledger.note(entry, rows, elements, sums)
        if self._renormalised and site.op == SOFTMAX and not part and frame.level:
            after = _renormalised(after, frame)
        return strided(after, y)

    def portion(self, site: Site, y: Tensor, keys: Keys, real: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """Return some rows ``y`` (rows, columns) of the result or the input of ``site``, perturbed, and what the kernel
        measured of them; nothing is booked.

        ``keys`` and ``real`` are (rows, 1). For code without gradients, whose portions :meth:`note` books as one call.
        """
        columns = self._column_keys(Entry(site, FORWARD, "", frame.phase), y.shape[1], y.device, frame)
        key, own = DrawKey(keys, columns), _is_own(site) and y.is_contiguous()
        return self._kernel.perturb(frame.error, y, key, frame.level, real, own)

    def note(self, site: Site, frame: Frame, rows: int, elements: int, sums: Sequence[Tensor]) -> None:
        """Count the portions of one call of ``site``: the real rows and elements of all, and the measures of each."""
        self._ledger.note(
            Entry(site, FORWARD, "", frame.phase), rows, elements, torch.cat(list(sums)) if sums else None
        )

    def _entry(self, site: Site, part: str, phase: str) -> Entry:
        """What a call is counted under: one object for all calls alike, so that finding it again costs little."""
        known = site.name, _direction(part), part, phase
        found = self._entries.get(known)
        if found is None or found.site is not site:
            found = self._entries[known] = Entry(site, known[1], "" if part == VALUE else part, phase)
        return found

    def _whole(self, entry: Entry, y: Tensor, frame: Frame) -> _Measured:
        """As :meth:`_rows`, where :func:`_is_whole` holds: nearly every call of a step, whose cost is calls."""
        rows, width = frame.rows, y.shape[-1]
        assert rows is not None
        keys, real = rows.columns
        key = DrawKey(keys, self._column_keys(entry, width, y.device, frame))
        own = _is_own(entry.site) and not y.requires_grad
        after, sums = self._kernel.perturb(frame.error, y.detach().view(-1, width), key, frame.level, real, own)
        return after.view(y.shape), rows.count, rows.count * width, sums

    def _any(self, entry: Entry, y: Tensor, frame: Frame) -> _Measured:
        kind = layout.arrangement(entry.site, y, frame.rows, entry.operand)
        if kind == layout.FLAT and frame.named and not entry.operand:
            raise NoiseSpecError(
                f"{entry.site.name} gave shape {tuple(y.shape)}",
                "which of its rows belongs to which item cannot be told",
                f"leave it out: exclude:{entry.site.module or entry.site.name}",
            )
        return self._scores(entry, y, frame) if kind == layout.SCORES else self._rows(entry, kind, y, frame)

    def _rows(self, entry: Entry, kind: str, y: Tensor, frame: Frame) -> _Measured:
        whole = layout.flatten(kind, y, frame, f"{entry.site.name}|{entry.operand}")
        flat = whole.chosen
        if flat.y.shape[0] == 0:
            return y, 0, 0, None
        columns = self._column_keys(entry, flat.y.shape[1], y.device, frame)
        own = not entry.operand and _is_own(entry.site) and flat.y.is_contiguous()
        after, sums = self._kernel.perturb(
            frame.error,
            flat.y.detach(),
            DrawKey(flat.keys, columns),
            frame.level,
            flat.real,
            own and not y.requires_grad,
        )
        after = layout.unflatten(kind, whole.with_chosen(after), y)
        return after, flat.rows, flat.rows * flat.y.shape[1], sums

    def _scores(self, entry: Entry, y: Tensor, frame: Frame) -> _Measured:
        """Counts the products of real queries with the real keys they may see; all others are not measured."""
        rows = frame.rows
        assert rows is not None
        if frame.error.row_statistic and frame.named:
            raise NoiseSpecError(
                f"{frame.error.name} on {entry.site.name}", "its rows hold padded keys", "choose another error model"
            )
        if rows.count == 0:
            return y, 0, 0, None
        key = score_keys(self._table(entry, y.shape[1], y.shape[3], frame), rows)
        after, sums = self._kernel.perturb(frame.error, y.detach(), key, frame.level, rows.seen)
        if rows.chosen is not None:
            after = torch.where(rows.chosen[:, None, :, None], after, y.detach())
        return after, rows.count, rows.visible * y.shape[1], sums

    def _weight(self, entry: Entry, y: Tensor, frame: Frame) -> _Measured:
        """Perturbed once per named batch, because weights do not change while a batch is decoded."""
        site = entry.site
        if frame.weight_seed is None and frame.error.random:
            raise NoiseSpecError(
                f"{site.name} in a batch of several noise seeds", "a weight is shared by all rows", "one seed per batch"
            )
        known = frame.batch, frame.level, frame.error, frame.weight_seed, y.dtype, y.device
        held = self._weights.get(site.name)
        kept = frame.batch is not None and not frame.error.fresh
        if held is not None and held[0] == known and kept:
            return held[1]
        labels = derive_key("weight", str(frame.weight_seed), site.name)
        height, width = (y.numel() // y.shape[-1], y.shape[-1]) if y.ndim else (1, 1)
        keys = Keys.of(counter_keys(labels, torch.arange(height, device=y.device))).view(-1, 1)
        columns = stream_keys(self._label(entry, frame), width, y.device).view(1, -1)
        real = torch.ones(height, 1, dtype=torch.bool, device=y.device)
        flat = y.detach().reshape(height, width)
        key = DrawKey(keys, columns)
        if frame.error.recipe is not None:
            # blocks run along the contraction dimension, which Conv1D and some experts store first
            turned = site.op == CONV1D or site.transposed
            count = y.shape[0] if site.field else 1  # each expert is a matrix of its own
            after, sums = self._kernel.quantize(frame.error.recipe, flat, key, frame.level, turned, count)
        else:
            after, sums = self._kernel.perturb(frame.error, flat, key, frame.level, real)
        measured = after.reshape(y.shape), height, y.numel(), sums
        if kept:
            self._weights[site.name] = known, measured
        return measured

    def _column_keys(self, entry: Entry, width: int, device: torch.device, frame: Frame) -> Keys:
        if frame.error.fresh:
            return stream_keys(self._label(entry, frame), width, device).view(1, -1)
        known = entry.site.name, entry.operand, width, device
        if known not in self._columns:
            self._columns[known] = stream_keys(self._label(entry, frame), width, device).view(1, -1)
        return self._columns[known]

    def _table(self, entry: Entry, heads: int, keys: int, frame: Frame) -> Keys:
        device = frame.rows.keys.device if frame.rows is not None else torch.device("cpu")
        known = entry.site.name, entry.operand, heads, device
        table = None if frame.error.fresh else self._columns.get(known)
        if table is None or table.low.shape[1] < keys:
            table = score_table([self._label(entry, frame, head) for head in range(heads)], keys, device)
            self._columns[known] = table
        return table

    def _label(self, entry: Entry, frame: Frame, *more: int) -> int:
        """The key of a site's stream of columns; a fresh error model has another one for every call."""
        kind = ("gradient", entry.operand) if entry.operand else ("site",)
        call = ("call", next(self._calls)) if frame.error.fresh else ()
        return derive_key(*kind, entry.site.name, *more, *call)


def _renormalised(after: Tensor, frame: Frame) -> Tensor:
    """Probabilities without what lies below 0, their sum 1 again, in all rows or in the chosen ones."""
    positive = after.clamp(min=0)
    divided = positive / positive.sum(-1, keepdim=True)
    if frame.rows is None or frame.rows.chosen is None:
        return divided
    return torch.where(frame.rows.chosen[:, None, :, None], divided, after)


def _is_whole(site: Site, y: Tensor, frame: Frame) -> bool:
    """Whether ``y`` is the result of a product for all tokens of all rows, (batch, tokens, features), of which none is
    left alone: :data:`harness.noise.layout.TOKENS` with nothing to cut or to turn."""
    rows = frame.rows
    if rows is None or rows.chosen is not None or y.ndim != 3 or site.op not in PRODUCTS:
        return False
    return y.shape[:2] == rows.keys.shape and y.is_contiguous()


def _is_own(site: Site) -> bool:
    """Whether what ``site`` hands over is a new tensor that nobody else holds: what a product gave, not what it was
    given, which several modules may share."""
    return site.op in PRODUCTS and site.way != FUNCTION and site.point == "output"


def strided(after: Tensor, like: Tensor) -> Tensor:
    """Return ``after`` with the strides of a copy of ``like``: those of ``like`` itself, unless its elements
    overlap."""
    if after.stride() == like.stride():
        return after
    wanted = torch.empty_like(like)
    return after if after.stride() == wanted.stride() else wanted.copy_(after)


def _direction(part: str) -> str:
    if part not in ("", VALUE):
        return BACKWARD
    return RECOMPUTE if torch._C._current_graph_task_id() != -1 else FORWARD
