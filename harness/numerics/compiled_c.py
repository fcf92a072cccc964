"""Compiles the C kernels of this package once per machine and loads them.

A C compiler is optional: without one the callers go on eagerly. A library is kept in the user's cache, under a name
that holds its source, its flags and the processor.
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
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
HEADER = FOLDER / "keyed.h"
FLAGS = (
    *("-O3", "-march=native", "-shared", "-fPIC", "-std=gnu11"),
    # the bits of the eager code: no contraction; vectorised sums and comparisons that need not trap
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"),
)
PARALLEL_FROM = 1 << 19
"""Elements from which a call is split over torch's number of threads (starting one costs about 50 us)."""

WORDS = {"perturb": "kernel", "quantize": "quantizer", "weights": "noise on weights"}
"""What a library is called in messages."""

RowFunction = Callable[..., None]
"""``function(call, input, output, first row, last row)``."""


@functools.cache
def library(name: str) -> ctypes.CDLL | None:
    """Return the library of ``name.c`` beside this file, None where it cannot be made here."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        log.warning("no C compiler: %s runs eagerly, several times more slowly", name)
        return None
    try:
        return ctypes.CDLL(str(_built(compiler, FOLDER / f"{name}.c")))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("the C compiler failed (%s): %s runs eagerly, several times more slowly", error, name)
        return None


def row_function(name: str, symbol: str, call: type[ctypes.Structure]) -> RowFunction | None:
    """Return the function ``symbol`` of :func:`library` ``name``, which takes a pointer to ``call``; None without
    one."""
    function: RowFunction | None = getattr(library(name), symbol, None)
    if function is not None:
        function.argtypes = (  # type: ignore[attr-defined]
            *(ctypes.POINTER(call), ctypes.c_void_p, ctypes.c_void_p),
            *(ctypes.c_int64, ctypes.c_int64),
        )
        function.restype = None  # type: ignore[attr-defined]
    return function


def checked_functions(
    name: str,
    symbols: Mapping[torch.dtype, str],
    call: type[ctypes.Structure],
    same_bits: Callable[[RowFunction, torch.dtype], bool],
) -> dict[torch.dtype, RowFunction]:
    """Return dtype -> function of ``symbols`` in :func:`library` ``name``, for those whose ``same_bits`` is True."""
    found: dict[torch.dtype, RowFunction] = {}
    for dtype, symbol in symbols.items():
        function = row_function(name, symbol, call)
        if function is None:
            continue
        if same_bits(function, dtype):
            found[dtype] = function
        else:
            log.warning("the compiled %s differs from the eager one in %s and is not used", WORDS[name], dtype)
    return found


def split_rows(rows: int, elements: int, run: Callable[[int, int], None]) -> None:
    """Call ``run(first, last)`` over all rows, in as many threads as torch has where there are many elements."""
    count = min(torch.get_num_threads(), rows) if elements >= PARALLEL_FROM else 1
    if count == 1:
        run(0, rows)
        return
    bounds = [rows * part // count for part in range(count + 1)]
    threads = [threading.Thread(target=run, args=pair) for pair in itertools.pairwise(bounds[1:])]
    for thread in threads:
        thread.start()
    run(bounds[0], bounds[1])
    for thread in threads:
        thread.join()


def _built(compiler: str, file: Path) -> Path:
    """The compiled library, from the cache or made anew and moved there in one step."""
    source = file.read_bytes() + HEADER.read_bytes()
    identity = "|".join((compiler, *FLAGS, platform.machine(), _processor())).encode()
    name = f"{file.stem}-{hashlib.sha256(source + identity).hexdigest()[:16]}.so"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robustness-harness"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        cache = Path(tempfile.mkdtemp(prefix="robustness-harness-"))
    target = cache / name
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            made = Path(folder) / name
            command = [compiler, *FLAGS, "-o", str(made), str(file), "-lm"]
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
