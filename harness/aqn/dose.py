"""The dose that a layer got, measured: what was asked for, what its weights changed by, and whether that agrees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from harness.exceptions import EvidenceError, HarnessError

MANY, CLOSE = 100_000, 0.01
"""From this many elements on, the achieved deviation lies within this fraction of the request ..."""

Z = 5.0
"""... below that, within this many standard errors."""

LEAST_CHANGED = 0.5
"""Least share of elements that change; rounding to a coarse dtype swallows the others."""

WIDE = ("float32", "float64")

LARGEST_RATIO = 0.5
"""Largest sigma as a fraction of the spread of a layer's weights, unless it is forced."""


@dataclass(frozen=True)
class LayerDose:
    """What one weight got. ``asked`` is sigma times multiplier in units of the weight; ``spread`` is std(w) of a matrix
    and the root mean square of a gain. ``total`` and ``energy`` are the sums of dw and of its square.
    """

    name: str
    kind: str
    layer: int | None
    asked: float
    multiplier: float
    spread: float
    elements: int
    changed: int
    total: float
    energy: float
    dtype: str
    tied: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """The mean of dw."""
        return self.total / self.elements if self.elements else 0.0

    @property
    def achieved(self) -> float:
        """std(dw)."""
        return math.sqrt(max(0.0, self.energy / self.elements - self.mean**2)) if self.elements else 0.0

    @property
    def ratio(self) -> float:
        """Achieved over asked; 1 where nothing was asked and nothing happened."""
        if self.asked == 0:
            return 1.0 if self.changed == 0 else math.inf
        return self.achieved / self.asked

    @property
    def relative(self) -> float:
        """What was asked as a fraction of the spread of the weights."""
        return self.asked / self.spread if self.spread else (math.inf if self.asked else 0.0)

    @property
    def share(self) -> float:
        """The share of elements that changed."""
        return self.changed / self.elements if self.elements else 0.0

    def problem(self) -> str | None:
        """Return what is wrong with the dose, None where it is as asked."""
        if self.elements == 0:
            return None
        if self.asked == 0:
            return f"{self.changed} elements changed although sigma is 0" if self.changed else None
        if self.share < LEAST_CHANGED:
            return f"only {100 * self.share:.1f} % of its elements changed: {self.dtype} swallows sigma {self.asked:g}"
        bound = ratio_bound(self.elements)
        if not abs(self.ratio - 1) <= bound:
            return f"std(dw) is {self.ratio:.4f} of sigma {self.asked:g} in {self.dtype}; at most {bound:.2%} off"
        limit = Z * self.asked / math.sqrt(self.elements)
        if not abs(self.mean) <= limit:
            return f"the mean of dw is {self.mean:g}; at most {limit:g}"
        return None

    def to_json(self) -> dict[str, Any]:
        """Return the fields and what follows from them."""
        shown = {name: getattr(self, name) for name in ("achieved", "ratio", "mean", "share")}
        relative = self.relative if math.isfinite(self.relative) else None
        return asdict(self) | {"tied": list(self.tied), **shown, "relative": relative}


def ratio_bound(elements: int) -> float:
    """Return how far achieved / asked may be from 1: the deviation of ``elements`` draws has error 1 / sqrt(2 n)."""
    return CLOSE if elements >= MANY else max(CLOSE, Z / math.sqrt(2 * elements))


def spread_of(tensor: Tensor, kind_is_norm: bool) -> float:
    """Return std(w) of a matrix; of a norm's gain, which lies around 1, the root mean square."""
    wide = tensor.double()
    centre = 0.0 if kind_is_norm else float(wide.mean())
    return math.sqrt(float((wide - centre).square().mean())) if tensor.numel() else 0.0


def check_doses(doses: Sequence[LayerDose]) -> None:
    """Raise for the first layer that did not get its dose: :class:`EvidenceError`, or plain :class:`HarnessError` where
    its dtype is narrow, because the setting cannot be met."""
    for dose in doses:
        problem = dose.problem()
        if problem is not None:
            kind = EvidenceError if dose.dtype in WIDE else HarnessError
            raise kind(f"layer {dose.name}", problem, "use float32 weights, norm_dtype float32, or a larger sigma")


def check_relative(name: str, relative: float, forced: bool) -> None:
    """Raise :class:`HarnessError` for a sigma above :data:`LARGEST_RATIO` of the spread, unless it is ``forced``."""
    if relative > LARGEST_RATIO and not forced:
        raise HarnessError(
            f"sigma of layer {name}",
            f"it is {relative:.3g} of the spread of its weights, at most {LARGEST_RATIO:g}",
            "lower sigma, use relative mode, or force it",
        )


def merged(doses: Sequence[LayerDose]) -> LayerDose:
    """Return the dose of a weight out of those of its shards: sums add up."""
    first = doses[0]
    same = {(d.name, d.asked, d.multiplier, d.dtype) for d in doses}
    if len(same) != 1:
        raise EvidenceError(f"layer {first.name}", "its shards were asked for different doses", "give one setting")
    sums = {name: sum(getattr(d, name) for d in doses) for name in ("elements", "changed", "total", "energy")}
    return LayerDose(**(asdict(first) | sums | {"tied": first.tied}))
