"""The CPU kernel: relative noise and its measurement in one pass, in C, compiled once per machine.

A C compiler is optional: without one, or where its result does not give the bits of the eager code, the caller goes
on eagerly. The library is kept in the user's cache, under a name that holds its source, its flags and the processor.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from harness.numerics.error_models import relative_gaussian
from harness.numerics.keyed_random import DrawKey, Keys, counter_keys, normals, stream_keys

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("perturb.c")
FLAGS = (
    *("-O3", "-march=native", "-shared", "-fPIC", "-std=gnu11"),
    # the bits of the eager code: no contraction; vectorised sums and comparisons that need not trap
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"),
)
FUNCTIONS = {torch.float32: "perturb_f32", torch.bfloat16: "perturb_bf16", torch.float16: "perturb_f16"}
PARALLEL_FROM = 1 << 19
"""Elements from which a call is split over torch's number of threads (starting one costs about 50 us)."""

MEASURES = 6


class _Call(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("row_low", "row_high", "column_low", "column_high", "real", "sums")),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_int64) for name in ("heads", "tokens", "columns")),
        *((name, ctypes.c_int32) for name in ("shared_columns", "masked")),
    )


def available(dtype: torch.dtype) -> bool:
    """True where the kernel can be compiled here and gives the bits of the eager code for ``dtype``."""
    return dtype in _functions()


def perturb(y: Tensor, key: DrawKey, scale: float, real: Tensor, in_place: bool = False) -> tuple[Tensor, Tensor]:
    """``(y', sums)`` of :class:`harness.noise.kernel.Kernel` for a CPU tensor ``y`` whose dtype is :func:`available`.

    ``y`` is (rows, columns) with row keys (rows, 1), column keys (1, columns) and ``real`` (rows, 1), or attention
    scores (batch, heads, tokens, keys) with row keys (batch, 1, tokens, 1), column keys (batch, heads, 1, keys) and
    ``real`` (batch, 1, tokens, keys); see :func:`fits`. ``scale`` is rounded to float32. With ``in_place`` a contiguous
    ``y`` is overwritten and returned. No temporary is larger than ``y``.
    """
    y = y.contiguous()
    after = y if in_place else torch.empty_like(y)
    sums = torch.empty((*y.shape[:-1], MEASURES), dtype=torch.float32)
    held = [half.contiguous() for half in (*key.rows, *key.columns, real)]
    scores = y.ndim == 4
    call = _Call(
        *(half.data_ptr() for half in held),
        sums.data_ptr(),
        scale,
        y.shape[1] if scores else 1,
        y.shape[-2],
        y.shape[-1],
        not scores,
        scores,
    )
    function = _functions()[y.dtype]
    rows = y.numel() // max(1, y.shape[-1])
    _split(rows, y.numel(), lambda first, last: function(call, y.data_ptr(), after.data_ptr(), first, last))
    return after, sums


def fits(y: Tensor, key: DrawKey, real: Tensor) -> bool:
    """True for the two arrangements that :func:`perturb` knows."""
    rows, columns, seen = key.rows.low.shape, key.columns.low.shape, real.shape
    if y.ndim == 2:
        height, width = y.shape
        return rows == seen == (height, 1) and columns == (1, width)
    if y.ndim == 4:
        batch, heads, tokens, keys = y.shape
        return rows == (batch, 1, tokens, 1) and columns == (batch, heads, 1, keys) and seen == (batch, 1, tokens, keys)
    return False


def _split(rows: int, elements: int, run: Callable[[int, int], None]) -> None:
    count = min(torch.get_num_threads(), rows) if elements >= PARALLEL_FROM else 1
    bounds = [rows * part // count for part in range(count + 1)]
    threads = [threading.Thread(target=run, args=pair) for pair in itertools.pairwise(bounds[1:])]
    for thread in threads:
        thread.start()
    run(bounds[0], bounds[1])
    for thread in threads:
        thread.join()


@functools.cache
def _functions() -> dict[torch.dtype, Callable[..., None]]:
    """dtype -> compiled function, for those that pass the comparison with the eager code."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        log.warning("no C compiler: noise is drawn eagerly, several times more slowly")
        return {}
    try:
        library = ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("the C compiler failed (%s): noise is drawn eagerly, several times more slowly", error)
        return {}
    found: dict[torch.dtype, Callable[..., None]] = {}
    for dtype, name in FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            continue
        function.argtypes = (ctypes.POINTER(_Call), ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        function.restype = None
        if _same_bits(function, dtype):
            found[dtype] = function
        else:
            log.warning("the compiled kernel differs from the eager one in %s and is not used", dtype)
    return found


def _built(compiler: str) -> Path:
    """The compiled library, from the cache or made anew and moved there in one step."""
    source = SOURCE.read_bytes()
    identity = "|".join((compiler, *FLAGS, platform.machine(), _processor())).encode()
    name = f"perturb-{hashlib.sha256(source + identity).hexdigest()[:16]}.so"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robustness-harness"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        cache = Path(tempfile.mkdtemp(prefix="robustness-harness-"))
    target = cache / name
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            made = Path(folder) / name
            command = [compiler, *FLAGS, "-o", str(made), str(SOURCE), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            made.replace(target)
    return target


def _processor() -> str:
    """What ``-march=native`` depends on: the flags of this processor, where the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _same_bits(function: Callable[..., None], dtype: torch.dtype) -> bool:
    """Compares the compiled function with the eager code on ordinary and special values."""
    rows, columns = 3, 67
    y = torch.linspace(-3, 3, rows * columns).reshape(rows, columns).to(dtype)
    y[0, :5] = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e-30]).to(dtype)
    key = DrawKey(
        Keys.of(counter_keys(1, torch.arange(rows))).view(-1, 1), stream_keys(2, columns, y.device).view(1, -1)
    )
    scale, real = torch.tensor(0.05), torch.ones(rows, 1, dtype=torch.bool)
    after, sums = torch.empty_like(y), torch.empty(rows, MEASURES)
    held = [half.contiguous() for half in (*key.rows, *key.columns, real)]
    call = _Call(*(half.data_ptr() for half in held), sums.data_ptr(), 0.05, 1, rows, columns, True, False)
    function(call, y.data_ptr(), after.data_ptr(), 0, rows)
    wanted = relative_gaussian(y, scale * normals(*key))
    return torch.equal(after.nan_to_num(7.0), wanted.nan_to_num(7.0)) and torch.equal(after.isnan(), wanted.isnan())
