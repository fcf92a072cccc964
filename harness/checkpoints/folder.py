"""A folder in Hugging Face format, read strictly: its weight files, its settings, and the fingerprints of both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from harness.exceptions import CheckpointError

SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
TOKENIZER = ("tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "added_tokens.json")
CHAT_TEMPLATE, GENERATION = ("chat_template*",), ("generation_config.json",)
SETTINGS = ("config.json", *GENERATION, *CHAT_TEMPLATE, *TOKENIZER)
"""Globs of the files beside the weights that change an output."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")


def weight_files(path: Path) -> tuple[Path, ...]:
    """The safetensors files of the checkpoint folder ``path``. Raises :class:`CheckpointError` naming what is wrong."""
    if not path.exists():
        raise CheckpointError(f"checkpoint {path}", "no such folder", "give a folder in Hugging Face format")
    if not path.is_dir():
        raise CheckpointError(f"checkpoint {path}", "this is a file, not a folder", "give the folder that holds it")
    if not (path / "config.json").is_file():
        raise CheckpointError(f"checkpoint {path}", "there is no config.json in it", "give a Hugging Face folder")
    if (path / INDEX_FILE).is_file():
        shards = read_json(path / INDEX_FILE).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise CheckpointError(f"file {path / INDEX_FILE}", "its weight_map is damaged", "copy it again")
        files = tuple(path / name for name in sorted(set(shards.values())))
    elif (path / SINGLE_FILE).is_file():
        files = (path / SINGLE_FILE,)
    else:
        pickles = sorted(found.name for pattern in PICKLES for found in path.glob(pattern))
        if pickles:
            raise CheckpointError(
                f"checkpoint {path}",
                f"its weights are a pickle ({pickles[0]}), which is never loaded because it can run code",
                "convert it with save_pretrained(safe_serialization=True)",
            )
        raise CheckpointError(f"checkpoint {path}", "it has a config but no weights", f"add {SINGLE_FILE}")
    for file in files:
        if file.parent != path or not file.is_file():
            raise CheckpointError(f"checkpoint {path}", f"shard {file.name} is missing", "copy all its files")
    return files


def fingerprint_weights(path: Path) -> str:
    """SHA-256 over (name, dtype, shape, bytes) of every tensor in name order, whatever the sharding.

    Reads one tensor at a time and checks each for NaN and infinity on the way.
    """
    return fingerprint_tensors(f"checkpoint {path}", weight_files(path))


def fingerprint_tensors(what: str, files: Sequence[Path]) -> str:
    """:func:`fingerprint_weights` of the safetensors ``files``, which errors call ``what``."""
    digest = hashlib.sha256()
    for name, tensor in _tensors(what, files):
        bad = _not_finite(tensor)
        if bad:
            raise CheckpointError(
                what,
                f"tensor {name} holds {bad} NaN or infinite values of {tensor.numel()}",
                "evaluate a checkpoint that trained without overflow",
            )
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _not_finite(tensor: torch.Tensor) -> int:
    """How many elements are NaN or infinite."""
    if not tensor.is_floating_point():
        return 0
    wide = tensor.float() if tensor.element_size() == 1 else tensor  # isfinite does not know the 8-bit formats
    return int(tensor.numel() - torch.isfinite(wide).sum())


def fingerprint_settings(path: Path) -> str:
    """SHA-256 over the files beside the weights that change an output: configs, tokenizer, chat template."""
    digest = hashlib.sha256()
    for file in settings_files(path):
        content = file.read_bytes()
        digest.update(f"{file.name}|{len(content)}|".encode())
        digest.update(content)
    return digest.hexdigest()


def settings_files(path: Path, globs: Sequence[str] = SETTINGS) -> tuple[Path, ...]:
    """The files of the folder ``path`` that ``globs`` name, in the order of their names."""
    return tuple(sorted({file for pattern in globs for file in path.glob(pattern) if file.is_file()}))


def _tensors(what: str, files: Sequence[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    owner: dict[str, Path] = {}
    for file in files:
        with opened(file) as handle:
            owner.update(dict.fromkeys(handle.keys(), file))
    if not owner:
        raise CheckpointError(what, "its weight files hold no tensor", "save the model again")
    for name in sorted(owner):
        with opened(owner[name]) as handle:
            yield name, handle.get_tensor(name)


def opened(file: Path) -> Any:
    """The safetensors file, opened. Raises :class:`CheckpointError` where it is damaged."""
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"weight file {file}", f"truncated or not safetensors ({error})", "copy or save it again"
        ) from None


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in ``file``. Raises :class:`CheckpointError`."""
    try:
        data = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"file {file}", f"unreadable JSON ({error})", "copy it again") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"file {file}", "a JSON object was expected", "copy it again")
    return data
