"""The Triton source of :mod:`harness.numerics.triton_kernel`, which says what it does; importing it needs triton.

Launch it with ``triton_kernel.OPTIONS``, without contraction: ``wide + wide * scaled`` in one rounding would differ
from the CPU in the last bit. The explicit ``fma`` are harmless: ``total * total + CUBIC`` is an integer below 2**24 and
exact either way, and the sums are not promised to the bit.
"""

from __future__ import annotations

import triton
import triton.language as tl

from harness.numerics import keyed_random

INTERPRETED = bool(triton.knobs.runtime.interpret)
"""Whether the functions below run in Triton's interpreter, decided like their decorator decides it: at the import."""

_M1 = tl.constexpr(keyed_random._M1)
_M2 = tl.constexpr(keyed_random._M2 & 0xFFFFFFFF)
_MEAN_SUM = tl.constexpr(keyed_random._MEAN_SUM)
_CUBIC = tl.constexpr(float(keyed_random.CUBIC))
_UNIT = tl.constexpr(keyed_random.UNIT)


@triton.jit
def draw(rows_low: tl.tensor, rows_high: tl.tensor, low: tl.tensor, high: tl.tensor, DOT: tl.constexpr) -> tl.tensor:
    """Return ``keyed_random.normals`` of uint32 keys (whose shifts are logical), float32.

    ``DOT`` adds up the bytes with NVIDIA's dot product of bytes: the same integer in one instruction instead of eight.
    """
    x = rows_low ^ low
    x = (x ^ (x >> 16)) * _M1
    x = x + (rows_high ^ high)
    x = (x ^ (x >> 15)) * _M2
    x = x ^ (x >> 16)
    if DOT:
        centred = tl.inline_asm_elementwise(
            "dp4a.u32.u32 $0, $1, 0x01010101, 0xFFFFFE02;",  # the last is -_MEAN_SUM
            "=r,r",
            [x],
            dtype=tl.int32,
            is_pure=True,
            pack=1,
        )
    else:
        pairs = (x & 0x00FF00FF) + ((x >> 8) & 0x00FF00FF)
        centred = ((pairs & 0xFFFF) + (pairs >> 16)).to(tl.int32) - _MEAN_SUM
    total = centred.to(tl.float32)
    return total * tl.fma(total, total, _CUBIC) * _UNIT


@triton.jit(do_not_specialize=["steps"])
def perturb_tiles(  # noqa: PLR0913, PLR0917
    y: tl.tensor,
    after: tl.tensor,
    sums: tl.tensor,
    row_low: tl.tensor,
    row_high: tl.tensor,
    column_low: tl.tensor,
    column_high: tl.tensor,
    scale: tl.tensor,
    real: tl.tensor,
    columns: tl.int32,
    steps: tl.int32,
    TILE: tl.constexpr,
    DOT: tl.constexpr,
) -> None:
    """Perturb in program (r, b) the b-th ``steps`` tiles of row r and store their six sums at ``sums[r, b]``."""
    row, block = tl.program_id(0), tl.program_id(1)
    start_of_row = row.to(tl.int64) * columns
    rows_low = tl.load(row_low + row).to(tl.uint32, bitcast=True)
    rows_high = tl.load(row_high + row).to(tl.uint32, bitcast=True)
    strength = tl.load(scale)
    # one sum per lane, added up over the lanes once, after the loop
    changed = tl.zeros([TILE], tl.float32)
    nonzero = tl.zeros([TILE], tl.float32)
    nonfinite = tl.zeros([TILE], tl.float32)
    signal = tl.zeros([TILE], tl.float32)
    noise = tl.zeros([TILE], tl.float32)
    relative = tl.zeros([TILE], tl.float32)
    first = block * steps * TILE
    for start in range(first, tl.minimum(first + steps * TILE, columns), TILE):
        column = start + tl.arange(0, TILE)
        inside = column < columns
        # beyond the row, before is 0 and stays 0: it adds nothing to any sum
        before = tl.load(y + start_of_row + column, mask=inside, other=0.0)
        low = tl.load(column_low + column, mask=inside, other=0).to(tl.uint32, bitcast=True)
        high = tl.load(column_high + column, mask=inside, other=0).to(tl.uint32, bitcast=True)
        wide = before.to(tl.float32)
        scaled = strength * draw(rows_low, rows_high, low, high, DOT)
        step = wide * scaled
        touched = (step != 0) & (tl.abs(wide) < float("inf"))
        result = tl.where(touched, (wide + step).to(before.dtype), before)
        tl.store(after + start_of_row + column, result, mask=inside)
        # the error of what was rounded to the dtype of y: that is what goes on
        error = result.to(tl.float32) - wide
        differs = wide != 0
        ratio = error / tl.where(differs, wide, 1.0)
        changed += tl.where(error != 0, 1.0, 0.0)
        nonzero += tl.where(differs, 1.0, 0.0)
        nonfinite += tl.where(tl.abs(error) < float("inf"), 0.0, 1.0)  # NaN is not less
        signal = tl.fma(wide, wide, signal)
        noise = tl.fma(error, error, noise)
        relative = tl.fma(ratio, ratio, relative)
    kept = tl.load(real + row) != 0
    place = sums + (row.to(tl.int64) * tl.num_programs(1) + block) * 6
    tl.store(place, tl.where(kept, tl.sum(changed), 0.0))
    tl.store(place + 1, tl.where(kept, tl.sum(nonzero), 0.0))
    tl.store(place + 2, tl.where(kept, tl.sum(nonfinite), 0.0))
    tl.store(place + 3, tl.where(kept, tl.sum(signal), 0.0))
    tl.store(place + 4, tl.where(kept, tl.sum(noise), 0.0))
    tl.store(place + 5, tl.where(kept, tl.sum(relative), 0.0))
