"""Where a model runs, and what goes wrong there as one clear line: no such device, out of memory."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import torch

from harness.exceptions import HarnessError

_WORDS = re.compile("out of memory|can't allocate memory|not enough memory|alloc_cpu", re.IGNORECASE)


def best_device() -> str:
    """Return the accelerator, where there is one, else ``cpu``."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return "cpu" if found is None else str(found)


def check_device(name: str) -> str:
    """Return ``name``, a device that can hold tensors here; :class:`HarnessError` for any other."""
    if not name:
        raise HarnessError("--device ''", "it names a device", "leave it out, or cpu")
    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).partition("\n")[0]
        raise HarnessError(f"--device {name}", f"no such device here ({why:.160})", "leave it out, or cpu") from None
    return name


def device_name(device: torch.device) -> str:
    """Return ``cpu``, or the accelerator's kind and its own name."""
    return f"{device.type}: {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


@contextlib.contextmanager
def out_of_memory_as(value: str, way_out: str) -> Iterator[None]:
    """Raise :class:`HarnessError` with ``value`` and ``way_out`` where the block runs out of memory.

    On the CPU torch says so with a plain ``RuntimeError``; every other error goes through unchanged.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not _WORDS.search(str(error)):
            raise
        why = str(error).partition("\n")[0]
        raise HarnessError(value, f"out of memory ({why:.160})" if why else "out of memory", way_out) from None
