"""The CPU passes of AQN over a weight, in C: a copy with its moments, keyed absolute noise, what the noise changed.

Every pass takes a range of rows, so that a caller goes through a large weight piece by piece while it is in the cache.
Without a C compiler, or where the result differs from the eager code, the caller goes on eagerly.
"""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor

from harness.numerics.compiled_c import RowFunction, checked_functions, row_function
from harness.numerics.keyed_random import DrawKey, Keys, counter_keys, normals

NAME = "weights"
_LETTERS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
WORD = 8
"""Bytes of the words that the hash of a row is made of."""

PLACE = 0x9E3779B1
_MASK = 0xFFFFFFFF


class _Call(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("row_low", "row_high", "column_low", "column_high")),
        *((name, ctypes.c_void_p) for name in ("clean", "written", "sums")),
        *((name, ctypes.c_int64) for name in ("columns", "bytes")),
        ("asked", ctypes.c_float),
    )


def available(weight: Tensor) -> bool:
    """Return True where the passes can be used on ``weight``: contiguous, on a CPU, of a dtype that the kernel knows
    here."""
    return weight.device.type == "cpu" and weight.is_contiguous() and weight.dtype in _noises()


def counters(key: int, first: int, count: int) -> Keys | None:
    """Return ``Keys.of(counter_keys(key, first ... first + count - 1))``, int32 (count,); None without a compiler."""
    function = _plain("counter_halves")
    if function is None:
        return None
    both = torch.empty(2, count, dtype=torch.int32)
    held = ctypes.c_uint64(key & 0xFFFFFFFFFFFFFFFF)
    function(ctypes.byref(_Call()), ctypes.addressof(held), both.data_ptr(), first, first + count)
    return Keys(both[0], both[1])


def row_hashes(weight: Tensor) -> Tensor:
    """Return a hash of the bits of each row of a contiguous ``weight`` (rows, columns), int64 (rows,).

    The wrapping sum over the 64-bit words w of a row of (low half ^ p) * high half + w, where p is :data:`PLACE` * i
    modulo 2**32 for word i from 1: other bits, and the same bits in other places, have another hash but by a chance
    of about 2**-32. The same on every device.
    """
    rows, size = weight.shape[0], weight.shape[1] * weight.element_size()
    function = _plain("hash_rows") if weight.device.type == "cpu" else None
    if function is not None:
        found = torch.empty(rows, dtype=torch.int64)
        function(ctypes.byref(_Call(bytes=size)), weight.data_ptr(), found.data_ptr(), 0, rows)
        return found
    if weight.storage_offset() * weight.element_size() % WORD:
        weight = weight.clone()  # words begin at multiples of their size
    words = weight.view(torch.uint8).view(torch.int64)
    place = torch.arange(1, words.shape[1] + 1, dtype=torch.int64, device=weight.device)
    low, high = (words & _MASK) ^ (place * PLACE & _MASK), (words >> 32) & _MASK
    return (low * high + words).sum(1)


class Passes:
    """The passes over ``weight`` (rows, columns) and ``clean``, its copy; both :func:`available`, of one dtype.

    ``clean_hashes`` and ``written_hashes``, where they are asked for, are the :func:`row_hashes` of what was taken and
    of what was measured. ``known`` are those of what stands in ``clean`` already: equal rows are not copied again.
    """

    def __init__(self, weight: Tensor, clean: Tensor, hashes: bool, known: Tensor | None = None) -> None:
        rows, columns = weight.shape
        self._letter = _LETTERS[weight.dtype]
        self._held = weight, clean
        self._at = weight.data_ptr(), clean.data_ptr()
        self._numbers = (ctypes.c_double * 5)()
        self._call = _Call(columns=columns, bytes=columns * weight.element_size(), sums=ctypes.addressof(self._numbers))
        self.clean_hashes = self.written_hashes = None
        if hashes:
            self.clean_hashes = torch.empty(rows, dtype=torch.int64) if known is None else known
            self.written_hashes = torch.empty(rows, dtype=torch.int64)
            self._call.written = self.written_hashes.data_ptr()
            self._taking = _Call(bytes=self._call.bytes, clean=self.clean_hashes.data_ptr())
            if known is None:
                self._taking.sums = self._call.sums
        self._key: DrawKey | None = None

    @property
    def moments(self) -> tuple[float, float]:
        """Sum of the clean values that were measured, and of their squares."""
        return self._numbers[0], self._numbers[1]

    @property
    def change(self) -> tuple[int, float, float]:
        """(changed elements, sum of the changes, sum of their squares) of the rows that were measured."""
        return int(self._numbers[2]), self._numbers[3], self._numbers[4]

    def take(self, first: int, last: int) -> None:
        """Copy rows of the weight to ``clean``."""
        if self.clean_hashes is not None:
            _function("take_rows")(ctypes.byref(self._taking), *self._at, first, last)
            return
        (weight, clean), size = self._at, self._call.bytes
        ctypes.memmove(clean + first * size, weight + first * size, (last - first) * size)

    def noise(self, first: int, last: int, key: DrawKey, asked: float) -> None:
        """Write clean rows plus ``asked`` (rounded to float32) times their draws; rows (n, 1), columns (1, m) of keys.

        What is not finite does not become finite by it.
        """
        call = self._call
        if key is not self._key:
            self._key = key
            held = [half.data_ptr() for half in (*key.rows, *key.columns)]
            call.row_low, call.row_high, call.column_low, call.column_high = held
        call.asked = asked
        weight, clean = self._at
        _function(f"noise_{self._letter}")(ctypes.byref(call), clean, weight, first, last)

    def measure(self, first: int, last: int) -> None:
        """Compare rows of the weight with the clean ones, and hash those of the weight."""
        weight, clean = self._at
        _function(f"measure_{self._letter}")(ctypes.byref(self._call), clean, weight, first, last)


def restore_rows(clean: Tensor, weight: Tensor, written: Tensor) -> tuple[int, Tensor]:
    """Copy those rows of ``clean`` to ``weight`` that have the hashes ``written`` there; leave the others alone.

    Both contiguous (rows, columns) of a CPU. Returns (number of the others, hashes of what stands there now).
    """
    rows, columns = weight.shape
    numbers, hashes = (ctypes.c_double * 1)(), torch.empty(rows, dtype=torch.int64)
    call = _Call(columns=columns, bytes=columns * weight.element_size(), sums=ctypes.addressof(numbers))
    call.clean, call.written = hashes.data_ptr(), written.data_ptr()
    _function("restore_rows")(ctypes.byref(call), clean.data_ptr(), weight.data_ptr(), 0, rows)
    return int(numbers[0]), hashes


def _function(symbol: str) -> RowFunction:
    found = _plain(symbol)
    assert found is not None
    return found


@functools.cache
def _plain(symbol: str) -> RowFunction | None:
    return row_function(NAME, symbol, _Call)


@functools.cache
def _noises() -> dict[torch.dtype, RowFunction]:
    """dtype -> the kernel that adds noise, for those whose passes give what the eager code gives."""
    symbols = {dtype: f"noise_{letter}" for dtype, letter in _LETTERS.items()}
    return checked_functions(NAME, symbols, _Call, _same)


def _same(function: RowFunction, dtype: torch.dtype) -> bool:
    rows, columns = 3, 68
    clean = torch.linspace(-3, 3, rows * columns).reshape(rows, columns).to(dtype)
    clean[0, :4] = torch.tensor([float("inf"), -float("inf"), -0.0, 1e-30]).to(dtype)
    halves = [Keys.of(counter_keys(n, torch.arange(count))) for n, count in ((1, rows), (2, columns))]
    key = DrawKey(halves[0].view(-1, 1), halves[1].view(1, -1))
    weight = torch.empty_like(clean)
    call = _Call(*(half.data_ptr() for half in (*key.rows, *key.columns)), columns=columns, asked=0.05)
    function(ctypes.byref(call), clean.data_ptr(), weight.data_ptr(), 0, rows)
    wanted = (normals(*key) * 0.05 + clean).to(dtype)
    made = counters(1, 0, rows)
    same_keys = made is not None and torch.equal(made.low, halves[0].low) and torch.equal(made.high, halves[0].high)
    return same_keys and torch.equal(weight, wanted)
