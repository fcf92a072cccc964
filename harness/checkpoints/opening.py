"""Opens a checkpoint without reading its weights: the one way in of every verb, with every check that can be made so.

:func:`open_checkpoint` tells what lies in a folder, reads all of its settings strictly, finds an adapter's base and
shows that it is the recorded one. :func:`harness.checkpoints.source.resolve` goes on from there to what an engine
loads; a scan reads the weights one tensor at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.checkpoints.base_record import BASE_FIELD, recorded_base
from harness.checkpoints.cache import cache_folder, content_key, kept
from harness.checkpoints.checking import check_settings
from harness.checkpoints.dequantized import dequantized_from
from harness.checkpoints.fitting import check_fit, linears_of
from harness.checkpoints.folder import INDEX_FILE, SINGLE_FILE, check_link, fingerprint_weights, unread_weights
from harness.checkpoints.hub import FIELD as HUB_FIELD
from harness.checkpoints.hub import hub_of, located, located_base, recorded_on_hub
from harness.checkpoints.lora import CONFIG_FILE, find_base, is_adapter, read_config, read_updates
from harness.checkpoints.modes import ADAPTER_MODES, MERGED
from harness.checkpoints.shards import Shards, find_shards
from harness.checkpoints.stored_quantization import FIELD, StoredQuantization, stored_quantization
from harness.checkpoints.verl_merger import LORA_FOLDER, convert
from harness.exceptions import CheckpointError, HarnessError, NotComparableError
from harness.runs.dequantized import FIELD as DEQUANTIZED_FIELD
from harness.text import nearest

log = logging.getLogger(__name__)

HF, LORA, FSDP = "hf", "lora", "fsdp"
NOT_RECORDED, IN_SHARDS = "base not recorded", "in the same shards"
REVISION = "2"
"""Part of every key of the cache: to be raised where what is made of the same content changes."""


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose files were checked.

    ``kind`` is ``hf``, ``lora`` or ``fsdp``; ``folder`` holds config and safetensors of the model, or of the base of
    the adapter in the folder ``adapter`` (None where there is none), which is seen as ``mode`` says. ``recorded`` is
    what is recorded of that base, ``weights`` the fingerprint of the weights in ``folder`` where it was needed already
    (64 hex digits, else None). ``details`` are JSON types for the manifest.
    """

    path: Path
    kind: str
    folder: Path
    adapter: Path | None = None
    mode: str = MERGED
    recorded: str = NOT_RECORDED
    weights: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pinned(self) -> dict[str, dict[str, str]]:
        """Name and commit of what came from a hub: the ``checkpoint`` itself, and the ``base`` of an adapter."""
        found = {"checkpoint": hub_of(self.path), "base": None if self.adapter is None else hub_of(self.folder)}
        return {name: hub for name, hub in found.items() if hub is not None}


def open_checkpoint(
    path: Path, *, base: Path | None = None, adapter: str = MERGED, cache: Path | None = None
) -> Opened:
    """Open ``path``: a Hugging Face folder, a peft LoRA adapter, or verl's FSDP shards.

    A name on a hub is taken from there, at its commit. The arguments are those of
    :func:`harness.checkpoints.source.resolve`, as are the errors. Weights are read only to compare an adapter's base
    with a recorded fingerprint, and to convert shards.
    """
    if adapter not in ADAPTER_MODES:
        known = ", ".join(ADAPTER_MODES)
        raise HarnessError(f"--adapter {adapter}", f"it is one of {known}", nearest(adapter, ADAPTER_MODES))
    path, base = located(path), located_base(base)
    check_link(path / CONFIG_FILE)
    if is_adapter(path):
        _check_one_kind(path)
        return _open_adapter(path, base, adapter)
    shards = find_shards(path)
    if shards is not None:
        return _open_shards(path, shards, base, adapter, cache if cache is not None else cache_folder())
    _check_no_option(path, base, adapter, "it is no adapter: there is no adapter_config.json in it")
    stored = _check_folder(path)
    config = {} if stored is None else {FIELD: dict(stored.config)}
    return Opened(path, HF, path, details={**config, **_origin(path, path)})


def _open_adapter(path: Path, base: Path | None, mode: str) -> Opened:
    """An adapter and its base, which must be the one that it records."""
    config = read_config(path)
    if base is None:
        base = recorded_on_hub(path, str(config.get("base_model_name_or_path") or ""), config.get("revision"))
    folder = find_base(path, config, base)
    if is_adapter(folder):
        raise CheckpointError(f"adapter {path}", f"its base {folder} is an adapter too", "merge that one first")
    check_settings(path)
    _check_folder(folder)
    recorded = recorded_base(path)
    if recorded is None:
        log.warning(
            "adapter %s records no %s, so nothing shows that %s is the base it was trained on", path, BASE_FIELD, folder
        )
    weights = None if recorded is None else fingerprint_weights(folder)
    if recorded != weights:
        raise NotComparableError(
            f"base {folder} of adapter {path}",
            f"its weights are {weights!s:.16}..., the adapter records {recorded!s:.16}... ({BASE_FIELD})",
            "give the base that it was trained on: --base FOLDER",
        )
    _check_on_base(path, folder, mode)
    return Opened(path, LORA, folder, path, mode, recorded or NOT_RECORDED, weights, _origin(path, folder))


def _origin(path: Path, folder: Path) -> dict[str, Any]:
    """From where the checkpoint at ``path`` is, and from what the weights in ``folder``, where that is known."""
    hub, found = hub_of(path), dequantized_from(folder)
    named = {} if hub is None else {HUB_FIELD: hub}
    return named if found is None else {**named, DEQUANTIZED_FIELD: found.to_json()}


def _check_on_base(adapter: Path, base: Path, mode: str) -> None:
    config = read_config(adapter)
    updates = read_updates(adapter, config)
    linears = linears_of(base)
    check_fit(adapter, config, updates, linears)
    if mode == MERGED and linears.tied and linears.head in updates:
        raise CheckpointError(
            f"adapter {adapter}",
            f"{linears.head} is tied to the embedding, which a merge would change as well",
            "evaluate it with --adapter unmerged",
        )


def _open_shards(path: Path, shards: Shards, base: Path | None, mode: str, cache: Path) -> Opened:
    """What verl's own merger makes of the shards; their LoRA, if they hold one, is an adapter on the rest of them."""
    name = f"{FSDP}-{content_key(REVISION, shards.fingerprint)}"
    folder, note = kept(cache, name, lambda into: convert(shards, into))
    details: dict[str, Any] = {
        "shards": {
            "folder": str(shards.folder),
            "world_size": shards.world_size,
            "sha256": shards.fingerprint,
            "converted": str(folder),
            "merger": note["merger"],
        }
    }
    log.info("%s: converted by %s", path, note["merger"])
    weights = note["fingerprints"]["weights"]
    _check_folder(folder)
    if not is_adapter(folder / LORA_FOLDER):
        _check_no_option(path, base, mode, "its shards hold no LoRA adapter")
        return Opened(path, FSDP, folder, weights=weights, details=details)
    if base is not None:
        _check_no_option(path, base, mode, "its shards hold the base themselves")
    _check_on_base(folder / LORA_FOLDER, folder, mode)
    return Opened(path, FSDP, folder, folder / LORA_FOLDER, mode, IN_SHARDS, weights, details)


def _check_folder(path: Path) -> StoredQuantization | None:
    """A full model: its weight files and all of its settings; returns how its weights are quantized, if they are."""
    others = unread_weights(path)
    if others:
        log.warning("checkpoint %s holds %s as well, which is not loaded", path, ", ".join(others))
    check_settings(path)
    return stored_quantization(path)


def _check_one_kind(path: Path) -> None:
    full = next((name for name in (SINGLE_FILE, INDEX_FILE) if (path / name).is_file()), None)
    if full is not None:
        raise CheckpointError(
            f"checkpoint {path}",
            f"it holds both {full} and adapter_config.json: a whole model, or an adapter",
            "keep them in two folders",
        )


def _check_no_option(path: Path, base: Path | None, adapter: str, why: str) -> None:
    if base is not None or adapter != MERGED:
        option = f"--base {base}" if base is not None else f"--adapter {adapter}"
        raise HarnessError(f"{option} with {path}", why, "drop the option")
