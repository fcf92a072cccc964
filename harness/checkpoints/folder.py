"""A folder in Hugging Face format, read strictly: its weight files, its settings, and the fingerprints of both."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from pathlib import Path

from harness.checkpoints.tensors import StoredTensors, fingerprint_of
from harness.checkpoints.there import check_there
from harness.exceptions import CheckpointError
from harness.strict import read_object

SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
TOKENIZER = (
    *("tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "added_tokens.json", "tekken.json"),
    *("*.model", "*.spm", "*.tiktoken", "*_vocab.json", "word_*.json", "emoji.json", "byte_maps.json"),
    *("normalizer.json", "bpe.codes", "dict.txt", "prophetnet.tokenizer"),
)
"""Every file that a tokenizer of transformers reads."""

TEMPLATE_FOLDER = "additional_chat_templates"
CHAT_TEMPLATE = ("chat_template*", f"{TEMPLATE_FOLDER}/*.jinja")
GENERATION = ("generation_config.json",)
QUANTIZATION = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
SETTINGS = ("config.json", *GENERATION, *CHAT_TEMPLATE, *TOKENIZER, *QUANTIZATION)
"""Globs of the files beside the weights that change an output."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")
_NUMBERED = "model-*-of-*.safetensors"


def weight_files(path: Path) -> tuple[Path, ...]:
    """Return the safetensors files that are loaded from the checkpoint folder ``path``.

    Raises :class:`CheckpointError` naming what is wrong: also two layouts in one folder, of which programs load
    different ones, and shards that no index names.
    """
    _check_folder(path)
    single, shards = path / SINGLE_FILE, indexed(path)
    if shards is None:
        files: tuple[Path, ...] = (single,) if single.is_file() else ()
    else:
        files = tuple(path / name for name in sorted(set(shards.values())))
        if single.is_file() and files != (single,):
            raise CheckpointError(
                f"checkpoint {path}",
                f"it holds {SINGLE_FILE} and {INDEX_FILE}, two sets of weights",
                "remove the one that is not meant",
            )
    stray = sorted(file.name for file in path.glob(_NUMBERED) if file not in files)
    if stray:
        raise CheckpointError(
            f"checkpoint {path}",
            f"it holds the shard {stray[0]}, which {INDEX_FILE if shards is not None else 'no index'} names "
            f"({len(stray)} in all)" + ("" if shards is None and not files else ": two sets of weights"),
            f"copy its {INDEX_FILE}, or remove the shards that are not meant",
        )
    if not files:
        raise _no_weights(path)
    for file in files:
        if file.parent != path or not file.is_file():
            raise CheckpointError(f"checkpoint {path}", f"shard {file.name} is missing", "copy all its files")
    return files


def unread_weights(path: Path) -> tuple[str, ...]:
    """Return the names of safetensors files in ``path`` that are not loaded, such as ``consolidated.safetensors``."""
    loaded = weight_files(path)
    return tuple(sorted(file.name for file in path.glob("*.safetensors") if file not in loaded))


def indexed(path: Path) -> dict[str, str] | None:
    """Return the map of the index in ``path``, name of a tensor to name of its file; None where there is no index."""
    file = path / INDEX_FILE
    if not file.is_file():
        return None
    shards = read_object(file).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise CheckpointError(f"file {file}", "its weight_map is damaged", "copy it again")
    return shards


def stored_tensors(path: Path) -> StoredTensors:
    """Return the tensors that are loaded from the checkpoint folder ``path``; none is read.

    Raises :class:`CheckpointError`.
    """
    return StoredTensors(f"checkpoint {path}", weight_files(path), indexed(path))


def fingerprint_weights(path: Path) -> str:
    """Return SHA-256 over (name, dtype, shape, bytes) of every tensor in name order, whatever the sharding.

    Reads one tensor at a time and checks each for NaN and infinity on the way.
    """
    return fingerprint_of(f"checkpoint {path}", stored_tensors(path))


def fingerprint_settings(path: Path) -> str:
    """Return SHA-256 over the files beside the weights that change an output: configs, tokenizer, chat template."""
    digest = hashlib.sha256()
    for file in settings_files(path):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(path).as_posix()}|{len(content)}|".encode())
        digest.update(content)
    return digest.hexdigest()


def settings_files(path: Path, globs: Sequence[str] = SETTINGS) -> tuple[Path, ...]:
    """Return the files of the folder ``path`` that ``globs`` name, in the order of their names.

    Raises :class:`CheckpointError` for a link whose target is gone: programs take the file for absent.
    """
    there = [file for folder in (path, path / TEMPLATE_FOLDER) if folder.is_dir() for file in folder.iterdir()]
    names = {file.relative_to(path).as_posix(): file for file in there if file.suffix or not file.is_dir()}
    found = [names[name] for name in sorted(names) if any(fnmatch.fnmatchcase(name, pattern) for pattern in globs)]
    for file in found:
        check_link(file)
        if not file.is_file():
            raise CheckpointError(f"file {file}", "it is not a file: programs treat it as absent", "copy it again")
    return tuple(found)


def check_link(file: Path) -> None:
    """Raise :class:`CheckpointError` where ``file`` is a link whose target is gone."""
    if file.is_symlink() and not file.exists():
        raise CheckpointError(f"file {file}", "it is a link whose target is gone", "copy the checkpoint with its files")


def _check_folder(path: Path) -> None:
    check_there(path)
    if not path.is_dir():
        raise CheckpointError(f"checkpoint {path}", "this is a file, not a folder", "give the folder that holds it")
    for name in ("config.json", SINGLE_FILE, INDEX_FILE):
        check_link(path / name)
    if not (path / "config.json").is_file():
        raise CheckpointError(f"checkpoint {path}", "there is no config.json in it", "give a Hugging Face folder")


def _no_weights(path: Path) -> CheckpointError:
    pickles = sorted(found.name for pattern in PICKLES for found in path.glob(pattern))
    if pickles:
        return CheckpointError(
            f"checkpoint {path}",
            f"its weights are a pickle ({pickles[0]}), which is never loaded because it can run code",
            "convert it with save_pretrained(safe_serialization=True)",
        )
    others = sorted(found.name for found in path.glob("*.safetensors"))
    if others:
        return CheckpointError(
            f"checkpoint {path}",
            f"it holds {others[0]}, but neither {SINGLE_FILE} nor {INDEX_FILE}, which are what is loaded",
            "save it again with save_pretrained",
        )
    return CheckpointError(f"checkpoint {path}", "it has a config but no weights", f"add {SINGLE_FILE}")
