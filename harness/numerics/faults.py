"""Formulas of the faults: what clips, cuts, hits single elements, or rounds to another format.

All have the signature ``(model, x, key, strength) -> Tensor`` of :func:`harness.numerics.error_models.perturb`, which
keeps non-finite elements and strength 0 out of the result and rounds it to the dtype of ``x``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.numerics.keyed_random import DrawKey, Keys, below, bits, normals
from harness.numerics.quantizer import quantized
from harness.numerics.row_statistics import largest_magnitude, widened
from harness.spec.errors import (
    AbsoluteSaturation,
    BitFlip,
    Deadzone,
    FakeQuant,
    Saturation,
    Spike,
    StuckAt,
    Truncation,
)
from harness.spec.faults import BURST, BitFlips, FaultMix, StuckLane

SPIKE_SALT = 1
"""Keeps the height of a spike independent of where it strikes."""

PLACE_SALT, LANE_SALT, SPECIAL_SALT, WHICH_SALT, SINGLE_SALT, SEVERAL_SALT = 2, 3, 4, 5, 6, 7
BIT_SALT = 16
"""Salts of what an event does, independent of where it strikes; bit i of an event has BIT_SALT + i."""

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def truncation(model: Truncation, x: Tensor, key: DrawKey, step: Tensor) -> Tensor:
    """Return the exact multiple of ``step`` next to y toward zero, rounded once; -0.0 keeps its sign."""
    y = widened(x)
    # there the multiple rounds to y itself, and vectorised fmod gives NaN for quotients that overflow
    far = y.abs() * (0.25 * torch.finfo(y.dtype).eps) > step
    # not trunc(y / step) * step: a quotient that rounds up to an integer would move y away from zero
    return torch.where(far, y, torch.copysign(y - torch.fmod(y, step), y))


def deadzone(model: Deadzone, x: Tensor, key: DrawKey, threshold: Tensor) -> Tensor:
    """Return 0 where |y| is less than the fraction ``threshold`` of the row's largest magnitude."""
    y = widened(x)
    return torch.where(y.abs() < threshold * largest_magnitude(y), 0.0, y)


def saturation(model: Saturation, x: Tensor, key: DrawKey, margin: Tensor) -> Tensor:
    """Return the tensor clamped to the fraction 1 - ``margin`` of the row's largest magnitude."""
    y = widened(x)
    limit = (1 - margin) * largest_magnitude(y)
    return y.clamp(-limit, limit)


def absolute_saturation(model: AbsoluteSaturation, x: Tensor, key: DrawKey, on: Tensor) -> Tensor:
    """Return the size clamped to the model's limit."""
    return widened(x).clamp(-model.limit, model.limit)


def spike(model: Spike, x: Tensor, key: DrawKey, rate: Tensor) -> Tensor:
    """Return magnitude * max|row| * z in the share ``rate`` of the elements, drawn apart from z."""
    y = widened(x)
    # the draw first: a product of magnitudes may overflow, and infinity times a draw of 0 would be NaN
    height = normals(key.rows, key.columns.salted(SPIKE_SALT)) * largest_magnitude(y) * model.magnitude
    return torch.where(below(*key, rate), height, y)


def stuck_at(model: StuckAt, x: Tensor, key: DrawKey, rate: Tensor) -> Tensor:
    """Return the model's value in the share ``rate`` of the features; only the column keys say in which."""
    unkeyed = Keys(*(torch.zeros_like(half) for half in key.columns))
    return torch.where(below(unkeyed, key.columns, rate), model.value, widened(x))


def bit_flip(model: BitFlip, x: Tensor, key: DrawKey, rate: Tensor) -> Tensor:
    """Return one bit of the pattern inverted in the share ``rate`` of the elements; in the dtype of ``x``.

    Raises ValueError for a bit that the dtype does not have.
    """
    integer = _INTEGERS[x.element_size()]
    top = 8 * x.element_size() - 1
    if model.bit > top:
        raise ValueError(f"bit {model.bit} of {model.name}; {x.dtype} has the bits 0 to {top}")
    # the sign bit as a signed integer is the most negative one
    mask = 1 << model.bit if model.bit < top else -(1 << top)
    pattern = x.view(integer)
    return torch.where(below(*key, rate), pattern ^ mask, pattern).view(x.dtype)


def _under(rows: Keys, columns: Keys, bound: Tensor | int) -> Tensor:
    """Uniform integers from 0 to ``bound`` - 1, int64, one for each pair of keys."""
    return ((bits(rows, columns).long() & 0xFFFFFFFF) * bound) >> 32


def _distinct_bits(key: DrawKey, count: Tensor | int, most: int, width: int) -> Tensor:
    """Masks (int64) of ``count`` distinct bits of ``width``, at most ``most``, every set equally likely.

    Source: R. W. Floyd's sampling without replacement (Bentley and Floyd 1987, CACM 30(9)): bit ``last`` takes the
    place of one that was drawn before.
    """
    mask: Tensor | int = 0
    for number in range(most):
        last = width - count + number
        drawn = _under(key.rows, key.columns.salted(BIT_SALT + number), last + 1)
        place = torch.where((mask >> drawn) & 1 == 1, last, drawn)
        one = torch.ones_like(place) << place
        mask = mask | torch.where(torch.as_tensor(count, device=one.device) > number, one, 0)
    assert isinstance(mask, Tensor)
    return mask


def _with_bits(x: Tensor, mask: Tensor) -> Tensor:
    """``x`` with the bits of ``mask`` (int64) inverted."""
    integer = _INTEGERS[x.element_size()]
    return (x.view(integer) ^ mask.to(integer)).view(x.dtype)


def bit_flips(model: BitFlips, x: Tensor, key: DrawKey, rate: Tensor) -> Tensor:
    """Return ``model.count`` bits of the pattern inverted in the share ``rate`` of the elements; in the dtype of
    ``x``."""
    width = 8 * x.element_size()
    if model.pattern == BURST:
        start = _under(key.rows, key.columns.salted(PLACE_SALT), width - model.count + 1)
        mask = torch.full_like(start, (1 << model.count) - 1) << start
    else:
        mask = _distinct_bits(key, model.count, model.count, width)
    return torch.where(below(*key, rate), _with_bits(x, mask), x)


def stuck_lane(model: StuckLane, x: Tensor, key: DrawKey, rate: Tensor) -> Tensor:
    """Return the model's value in every ``period``-th element of the share ``rate`` of the rows; the key of the first
    column, which is the site's, says in which lane."""
    site = Keys(*(half[..., :1] for half in key.columns)).salted(LANE_SALT)
    unkeyed = Keys(*(torch.zeros_like(half) for half in site))
    lane = _under(unkeyed, site, model.period)
    lanes = torch.arange(x.shape[-1], device=x.device) % model.period == lane
    return torch.where(below(key.rows, site, rate) & lanes, model.value, widened(x))


def fault_mix(model: FaultMix, x: Tensor, key: DrawKey, rate: Tensor) -> Tensor:
    """Return NaN, infinity or inverted bits, in the model's shares, in the share ``rate`` of the elements; in the dtype
    of ``x``."""
    rows, columns = key
    count = 2 + _under(rows, columns.salted(SEVERAL_SALT), model.most - 1)
    single, special = torch.tensor((model.single, model.special), dtype=torch.float32, device=x.device)
    count = torch.where(below(rows, columns.salted(SINGLE_SALT), single), 1, count)
    flipped = _with_bits(x, _distinct_bits(key, count, model.most, 8 * x.element_size()))
    which = _under(rows, columns.salted(WHICH_SALT), 3)
    odd = x.new_tensor((torch.nan, torch.inf, -torch.inf))[which]
    event = torch.where(below(rows, columns.salted(SPECIAL_SALT), special), odd, flipped)
    return torch.where(below(*key, rate), event, x)


def fake_quant(model: FakeQuant, x: Tensor, key: DrawKey, on: Tensor) -> Tensor:
    """Return the tensor rounded to the format, row by row: a tensor scale is that of the row.

    Raises ValueError for a format whose blocks span several rows.
    """
    recipe = model.recipe
    if recipe.rounding != "stochastic":
        return quantized(x, recipe, per_row=True)
    # keys of any number of dimensions, as one row key and one column key for each element
    halves = [half.expand(x.shape).reshape(-1, x.shape[-1]) for half in (*key.rows, *key.columns)]
    return quantized(x, recipe, DrawKey(Keys(*halves[:2]), Keys(*halves[2:])), per_row=True)
