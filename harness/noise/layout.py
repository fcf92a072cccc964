"""How the elements of a tensor are keyed: which of its dimensions are rows with an item, which are features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.noise.frames import Frame, Rows
from harness.noise.sites import BY_HEADS, BY_SCORES, PV, QK, SDPA, SOFTMAX, Site
from harness.numerics.keyed_random import Keys, counter_keys, derive_key

TOKENS, FOLDED, HEADS, SCORES, FLAT = "tokens", "folded", "heads", "scores", "flat"
"""(batch, tokens, ...), (batch * tokens, ...), (batch, heads, tokens, dim), (batch, heads, tokens, keys), any."""

VALUE = "itself"
"""The part of a weight's site that is the weight itself."""

_BY_HEADS = (QK, PV, SDPA)
OF_NO_ROW = ("weight", VALUE)
SCALAR_ROW = (1, 1)


def arrangement(site: Site, y: Tensor, rows: Rows | None, part: str = "") -> str:
    """Return which of the arrangements above ``y`` has; ``flat`` where its rows cannot be told.

    ``part`` is empty for the site's result, else the operand whose gradient ``y`` is, or :data:`VALUE`. Elements of a
    weight or of its gradient belong to no row.
    """
    if rows is None or part in OF_NO_ROW or y.ndim < 1 or (site.op == QK and part == "other"):  # keys, transposed
        return FLAT
    batch, tokens = rows.keys.shape
    if y.ndim == 4 and site.grows and (part == "" or site.arranged == BY_SCORES or site.op == SOFTMAX):
        keys = rows.key_positions.shape[1]
        return SCORES if y.shape[0] == batch and tuple(y.shape[2:]) == (tokens, keys) else FLAT
    if y.ndim >= 2 and y.shape[0] == batch:
        heads = y.ndim == 4 and y.shape[2] == tokens
        by_tokens = y.shape[1] == tokens or (site.last_token_only and 0 < y.shape[1] < tokens)
        told = site.op in _BY_HEADS or site.arranged == BY_HEADS  # there may be as many heads as tokens
        if heads and (told or not by_tokens):
            return HEADS
        if by_tokens:
            return TOKENS
    return FOLDED if y.shape[0] == batch * tokens else FLAT


@dataclass(frozen=True)
class Flattened:
    """A tensor as (rows, columns): ``y`` 2-D, ``keys`` and ``real`` (rows, 1), ``real`` bool and False at padding,
    ``rows`` the number of real rows. ``places`` int64 are the chosen rows, which alone may change; None: all."""

    y: Tensor
    keys: Keys
    real: Tensor
    rows: int
    places: Tensor | None = None

    @property
    def chosen(self) -> Flattened:
        """The chosen rows alone."""
        if self.places is None:
            return self
        keys = Keys(self.keys.low[self.places], self.keys.high[self.places])
        return Flattened(self.y[self.places], keys, self.real[self.places], self.rows)

    def with_chosen(self, after: Tensor) -> Tensor:
        """Return all rows, the chosen ones as they are in ``after``."""
        return after if self.places is None else self.y.detach().index_copy(0, self.places, after)


def flatten(kind: str, y: Tensor, frame: Frame, label: str) -> Flattened:
    """Return ``y`` as rows and columns; ``label`` keys rows that no item owns (arrangement ``flat``)."""
    if kind == FLAT:
        height, width = _flat_shape(y)
        numbered = counter_keys(derive_key("flat", label, *frame.labels), torch.arange(height, device=y.device))
        real = numbered.new_ones((height, 1), dtype=torch.bool)
        return Flattened(y.reshape(height, width), Keys.of(numbered).view(-1, 1), real, height)
    assert frame.rows is not None
    if kind == HEADS:
        y = y.transpose(1, 2)
    rows = frame.rows if kind == FOLDED else frame.rows.last(y.shape[1])
    owners, real = rows.columns
    return Flattened(y.reshape(real.shape[0], -1), owners, real, rows.count, rows.places)


def unflatten(kind: str, flat: Tensor, like: Tensor) -> Tensor:
    """Return the inverse of :func:`flatten`, in the shape of ``like``."""
    if kind != HEADS:
        return flat.reshape(like.shape)
    batch, heads, tokens, width = like.shape
    return flat.view(batch, tokens, heads, width).transpose(1, 2)


def _flat_shape(y: Tensor) -> tuple[int, int]:
    if y.ndim == 0:
        return SCALAR_ROW
    return math.prod(y.shape[:-1]), y.shape[-1]
