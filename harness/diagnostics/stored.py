"""Reads the tensors of a checkpoint folder one at a time, and fingerprints them on the way."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from harness.checkpoints.folder import weight_files
from harness.exceptions import CheckpointError

CHUNK = 1 << 22
"""Elements that are looked at together: temporaries stay small against any weight."""


class StoredTensors:
    """The tensors of the safetensors files in a folder, by name; none is kept.

    Raises :class:`CheckpointError` where files are missing, damaged or empty, or hold a name twice.
    """

    def __init__(self, path: Path, files: tuple[Path, ...] | None = None) -> None:
        self.path = path
        self._owner: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for file in weight_files(path) if files is None else files:
            with _opened(file) as handle:
                for name in handle.keys():  # noqa: SIM118 (no mapping)
                    if name in self._owner:
                        raise CheckpointError(
                            f"checkpoint {path}",
                            f"tensor {name} is in {self._owner[name].name} and in {file.name}",
                            "save the model again",
                        )
                    self._owner[name] = file
                    self.shapes[name] = tuple(handle.get_slice(name).get_shape())
        if not self._owner:
            raise CheckpointError(f"checkpoint {path}", "its weight files hold no tensor", "save the model again")

    @property
    def names(self) -> tuple[str, ...]:
        """All names in the order of the fingerprint."""
        return tuple(sorted(self._owner))

    def read(self, name: str) -> Tensor:
        """The tensor ``name``, mapped from its file: it is no longer in memory once dropped."""
        with _opened(self._owner[name]) as handle:
            tensor: Tensor = handle.get_tensor(name)
            return tensor


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[safe_open]:
    try:
        with safe_open(file, framework="pt") as handle:
            yield handle
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"weight file {file}", f"truncated or not safetensors ({error})", "copy or save it again"
        ) from None


class Fingerprint:
    """What :func:`harness.checkpoints.folder.fingerprint_weights` computes, tensor by tensor, NaN and all."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, name: str, tensor: Tensor) -> None:
        """The next tensor, in the order of names."""
        self._digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        self._digest.update(_bytes(tensor))

    def hexdigest(self) -> str:
        """64 hex digits."""
        return self._digest.hexdigest()


def tensor_digest(tensor: Tensor) -> str:
    """16 hex digits of SHA-256 over dtype, shape and bytes."""
    digest = hashlib.sha256(f"{tensor.dtype}|{tuple(tensor.shape)}|".encode())
    digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def header_digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """16 hex digits over names and shapes alone: known before a tensor is read."""
    text = "\n".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _bytes(tensor: Tensor) -> Any:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
