"""The tensors of safetensors files, read one at a time, and the fingerprint of their content."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harness.exceptions import CheckpointError


class StoredTensors:
    """The tensors of the safetensors ``files`` by name; none is kept in memory.

    ``what`` is what errors call them; ``index`` maps every name to the name of its file, where an index says so.
    Raises :class:`CheckpointError` where a file is damaged, none holds a tensor, two hold the same name, or the index
    does not say what they hold.
    """

    def __init__(self, what: str, files: Sequence[Path], index: Mapping[str, str] | None = None) -> None:
        self.files = tuple(files)
        self._owner: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for file in files:
            with opened(file) as handle:
                for name in handle.keys():  # noqa: SIM118 (no mapping)
                    if name in self._owner:
                        raise CheckpointError(
                            what,
                            f"tensor {name} is in {self._owner[name].name} and in {file.name}",
                            "save the model again",
                        )
                    self._owner[name] = file
                    self.shapes[name] = tuple(handle.get_slice(name).get_shape())
        if not self._owner:
            raise CheckpointError(what, "its weight files hold no tensor", "save the model again")
        if index is not None:
            self._check(what, index)

    def _check(self, what: str, index: Mapping[str, str]) -> None:
        for name in sorted({*index, *self._owner}):
            there = self._owner[name].name if name in self._owner else "no shard"
            said = index.get(name, "no shard")
            if there != said:
                raise CheckpointError(
                    what, f"its index says that tensor {name} is in {said}, it is in {there}", "copy all its files"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """All names in the order of the fingerprint."""
        return tuple(sorted(self._owner))

    def read(self, name: str) -> Tensor:
        """Return the tensor ``name``, mapped from its file: it is no longer in memory once dropped."""
        with opened(self._owner[name]) as handle:
            tensor: Tensor = handle.get_tensor(name)
            return tensor


class Fingerprint:
    """SHA-256 over (name, dtype, shape, bytes) of tensors in the order of their names."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, name: str, tensor: Tensor) -> None:
        """Add the next tensor, in the order of names."""
        self._digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        self._digest.update(content(tensor))

    def hexdigest(self) -> str:
        """Return 64 hex digits."""
        return self._digest.hexdigest()


def fingerprint_of(what: str, tensors: StoredTensors) -> str:
    """Return the :class:`Fingerprint` of ``tensors``. Raises :class:`CheckpointError` for NaN and infinite values."""
    fingerprint = Fingerprint()
    for name in tensors.names:
        tensor = tensors.read(name)
        bad = not_finite(tensor)
        if bad:
            raise CheckpointError(
                what,
                f"tensor {name} holds {bad} NaN or infinite values of {tensor.numel()}",
                "evaluate a checkpoint that trained without overflow",
            )
        fingerprint.add(name, tensor)
    return fingerprint.hexdigest()


def not_finite(tensor: Tensor) -> int:
    """Return how many elements are NaN or infinite."""
    if not tensor.is_floating_point():
        return 0
    wide = tensor.float() if tensor.element_size() == 1 else tensor  # isfinite does not know the 8-bit formats
    return int(tensor.numel() - torch.isfinite(wide).sum())


def content(tensor: Tensor) -> Any:
    """Return the bytes of ``tensor`` as a buffer."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


@contextlib.contextmanager
def opened(file: Path) -> Iterator[Any]:
    """Open the safetensors file. Raises :class:`CheckpointError` where it is damaged."""
    try:
        with safe_open(file, framework="pt") as handle:
            yield handle
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"weight file {file}", f"truncated or not safetensors ({error})", "copy or save it again"
        ) from None
