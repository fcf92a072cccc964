"""Loads a Hugging Face checkpoint strictly: nothing is guessed, filled in, unpickled or run from the folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from harness.exceptions import CheckpointError

SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
SETTINGS = (
    *("config.json", "generation_config.json", "chat_template*", "tokenizer*", "vocab*", "merges*"),
    *("special_tokens_map.json", "added_tokens.json"),
)
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")
LONGEST_REASON = 160
SMALLEST_VOCABULARY_SHARE = 0.9
"""A tokenizer may have fewer tokens than the embedding has rows (padding to a multiple), but not far fewer."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: model in evaluation mode, tokenizer, and the SHA-256 (64 hex digits) of its weights and
    of its settings (:func:`fingerprint_settings`)."""

    path: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    settings: str

    @property
    def context(self) -> int | None:
        """The largest number of tokens of prompt and answer together, where the configuration states one."""
        return getattr(self.model.config, "max_position_embeddings", None)


def weight_files(path: Path) -> tuple[Path, ...]:
    """The safetensors files of the checkpoint folder ``path``. Raises :class:`CheckpointError` naming what is wrong."""
    if not path.exists():
        raise CheckpointError(f"checkpoint {path}", "no such folder", "give a folder in Hugging Face format")
    if not path.is_dir():
        raise CheckpointError(f"checkpoint {path}", "this is a file, not a folder", "give the folder that holds it")
    if not (path / "config.json").is_file():
        raise CheckpointError(f"checkpoint {path}", "there is no config.json in it", "give a Hugging Face folder")
    if (path / INDEX_FILE).is_file():
        shards = _read_json(path / INDEX_FILE).get("weight_map")
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
    digest = hashlib.sha256()
    for name, tensor in _tensors(path):
        bad = _not_finite(tensor)
        if bad:
            raise CheckpointError(
                f"checkpoint {path}",
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
    names = {file.name for pattern in SETTINGS for file in path.glob(pattern) if file.is_file()}
    for name in sorted(names):
        content = (path / name).read_bytes()
        digest.update(f"{name}|{len(content)}|".encode())
        digest.update(content)
    return digest.hexdigest()


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    owner: dict[str, Path] = {}
    for file in weight_files(path):
        with _opened(file) as handle:
            owner.update(dict.fromkeys(handle.keys(), file))
    if not owner:
        raise CheckpointError(f"checkpoint {path}", "its weight files hold no tensor", "save the model again")
    for name in sorted(owner):
        with _opened(owner[name]) as handle:
            yield name, handle.get_tensor(name)


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"weight file {file}", f"truncated or not safetensors ({error})", "copy or save it again"
        ) from None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"file {file}", f"unreadable JSON ({error})", "copy it again") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"file {file}", "a JSON object was expected", "copy it again")
    return data


def load_checkpoint(path: Path, dtype: str = "float32", attention: str = "sdpa", device: str = "cpu") -> Checkpoint:
    """Loads model and tokenizer; ``dtype`` and ``attention`` are torch's and transformers' names.

    Raises :class:`CheckpointError` for every kind of folder that is not a complete, finite causal language
    model with its own tokenizer and chat template.
    """
    fingerprint = fingerprint_weights(path)
    with _quiet():
        model = _load_model(path, dtype, attention)
        tokenizer = _load_tokenizer(path, model.config.get_text_config().vocab_size)
    model.eval()
    return Checkpoint(path, model.to(device), tokenizer, fingerprint, fingerprint_settings(path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers' tables and progress bars off standard error: what matters in them is raised here."""
    before = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _load_model(path: Path, dtype: str, attention: str) -> PreTrainedModel:
    _read_json(path / "config.json")
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        model, report = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=getattr(torch, dtype),
            attn_implementation=attention,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are named and refused below
            output_loading_info=True,
        )
    except Exception as error:  # a damaged config meets ZeroDivisionError, TypeError and validators of their own
        raise CheckpointError(
            f"checkpoint {path}",
            f"not a causal language model that transformers can load ({_brief(error)})",
            "check its config",
        ) from None
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(_entry(entry) for entry in report.get(kind, ()))
        if names:
            words = kind.replace("_keys", " weights")
            raise CheckpointError(
                f"checkpoint {path}",
                f"{len(names)} {words}, the first is {names[0]}",
                "config and weights must belong together",
            )
    return model


def _load_tokenizer(path: Path, vocabulary: int) -> PreTrainedTokenizerBase:
    if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise CheckpointError(f"checkpoint {path}", "it has no tokenizer", "save the tokenizer into the same folder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a corrupt file
        raise CheckpointError(
            f"checkpoint {path}", f"its tokenizer cannot be loaded ({_brief(error)})", "save it again"
        ) from None
    tokens = 1 + max(tokenizer.get_vocab().values(), default=-1)
    if not SMALLEST_VOCABULARY_SHARE * vocabulary <= tokens <= vocabulary:
        raise CheckpointError(
            f"checkpoint {path}",
            f"its tokenizer has {tokens} tokens and its embedding {vocabulary}: another vocabulary",
            "use the tokenizer the model was trained with",
        )
    if tokenizer.chat_template is None:
        raise CheckpointError(
            f"checkpoint {path}", "its tokenizer has no chat template", "add chat_template.jinja to the folder"
        )
    if tokenizer.eos_token_id is None:
        raise CheckpointError(f"checkpoint {path}", "its tokenizer has no end-of-sequence token", "set eos_token")
    return tokenizer


def _entry(entry: str | tuple[str, torch.Size, torch.Size]) -> str:
    """A weight of the loading report: its name, or its name with the shapes that differ."""
    if isinstance(entry, str):
        return entry
    name, stored, wanted = entry
    return f"{name} (shape {list(stored)}, the config says {list(wanted)})"


def _brief(error: Exception) -> str:
    """Kind and beginning of an error of transformers, which may list a hundred classes."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + ' ...'}"
