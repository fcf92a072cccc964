"""verl's FSDP checkpoints, looked at without opening what may run code: which shards there are, and their content.

A shard is a pickle inside a zip archive. Here its bytes are hashed and its archive is checked to be whole; only verl's
own merger opens it, in a process of its own (:mod:`harness.checkpoints.verl_merger`).
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.checkpoints.checking import check_settings
from harness.checkpoints.folder import settings_files
from harness.exceptions import CheckpointError
from harness.strict import read_object
from harness.training_record import ACTOR

FSDP_CONFIG, LORA_META, HF_FOLDER = "fsdp_config.json", "lora_train_meta.json", "huggingface"
LATEST = "latest_checkpointed_iteration.txt"
_SHARD = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt")
_COPY = "copy all its files again"


@dataclass(frozen=True)
class Shards:
    """The shards of a model in ``folder``, in the order of their ranks."""

    folder: Path
    world_size: int
    files: tuple[Path, ...]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the bytes of all shards, of verl's configs, and of everything in ``huggingface/``."""
        beside = [self.folder / name for name in (FSDP_CONFIG, LORA_META) if (self.folder / name).is_file()]
        digest = hashlib.sha256()
        for file in (*self.files, *beside, *settings_files(self.folder / HF_FOLDER)):
            digest.update(f"{file.name}|{file.stat().st_size}|".encode())
            with file.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
        return digest.hexdigest()


def find_shards(path: Path) -> Shards | None:
    """Return the shards in ``path``, or in the ``actor`` in it; None where there are none.

    Raises :class:`CheckpointError` where ranks are missing, a shard is cut short, or the world sizes contradict.
    """
    for folder in (path, path / ACTOR):
        if (folder / FSDP_CONFIG).is_file() or any(_SHARD.fullmatch(file.name) for file in folder.glob("model_*.pt")):
            return _read(folder)
    if (path / LATEST).is_file():
        steps = sorted(found.name for found in path.glob("global_step_*"))
        known = f", for example {steps[-1]}" if steps else ""
        raise CheckpointError(
            f"checkpoint {path}", "it holds the checkpoints of a training run", f"give one of them{known}"
        )
    return None


def _read(folder: Path) -> Shards:
    what = f"FSDP checkpoint {folder}"
    if not (folder / FSDP_CONFIG).is_file():
        raise CheckpointError(what, f"there is no {FSDP_CONFIG} in it, as verl writes it beside its shards", _COPY)
    size = read_object(folder / FSDP_CONFIG).get("world_size")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise CheckpointError(
            f"file {folder / FSDP_CONFIG}", f"world_size {size!r} is not a whole number of at least 1", _COPY
        )
    found = [match for file in sorted(folder.glob("model_*.pt")) if (match := _SHARD.fullmatch(file.name))]
    strangers = [match for match in found if int(match[1]) != size or int(match[2]) >= size]
    if strangers:
        raise CheckpointError(
            what, f"{strangers[0][0]} is of another world size than {FSDP_CONFIG} says ({size})", "keep one training's"
        )
    files = tuple(folder / f"model_world_size_{size}_rank_{rank}.pt" for rank in range(size))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(what, f"shard {missing[0]} is missing ({len(missing)} of {size})", _COPY)
    for file in files:
        if not zipfile.is_zipfile(file):
            raise CheckpointError(f"shard {file}", "it is cut short, or no file of torch.save", "copy it again")
    if not (folder / HF_FOLDER / "config.json").is_file():
        raise CheckpointError(what, f"there is no {HF_FOLDER}/config.json in it", _COPY)
    check_settings(folder / HF_FOLDER)  # verl's merger takes a damaged one for none
    return Shards(folder, size, files)
