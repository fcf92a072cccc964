"""Where a model comes from: one function that turns what a user names into a folder that an engine can load."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from harness.checkpoints.base_record import BASE_FIELD, recorded_base
from harness.checkpoints.cache import cache_folder, content_key, kept
from harness.checkpoints.checking import check_settings
from harness.checkpoints.fitting import check_fit, linears_of
from harness.checkpoints.folder import (
    INDEX_FILE,
    SINGLE_FILE,
    check_link,
    fingerprint_settings,
    fingerprint_weights,
    unread_weights,
)
from harness.checkpoints.lora import CONFIG_FILE, find_base, fingerprint_adapter, is_adapter, read_config, read_updates
from harness.checkpoints.modes import ADAPTER_MODES, MERGED, UNMERGED
from harness.checkpoints.settings import compose_settings, own_settings
from harness.checkpoints.shards import Shards, find_shards
from harness.checkpoints.verl_merger import DTYPE_NOTE, LORA_FOLDER, convert
from harness.exceptions import CheckpointError, HarnessError, NotComparableError
from harness.spec.text import nearest

log = logging.getLogger(__name__)

HF, LORA, FSDP = "hf", "lora", "fsdp"
NOT_RECORDED = "base not recorded"
REVISION = "1"
"""Part of every key of the cache: to be raised where what is made of the same content changes."""


@dataclass(frozen=True)
class Source:
    """A checkpoint as it was named, and what to load for it.

    ``kind`` is ``hf``, ``lora`` or ``fsdp``. ``folder`` is a Hugging Face folder with config and safetensors;
    ``settings_folder`` one with the tokenizer, chat template and generation config in force (the same one, unless an
    unmerged adapter brings its own). ``adapter`` is the peft folder to run beside ``folder``; None where there is
    nothing to add. ``weights`` and ``settings`` are SHA-256 (64 hex digits) of content: of the weights in ``folder``
    (with the adapter's tensors and scalings, where one runs beside it) and of the files in ``settings_folder``.
    ``details`` are JSON types for the manifest.
    """

    path: Path
    kind: str
    folder: Path
    settings_folder: Path
    weights: str
    settings: str
    adapter: Path | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What the manifest says of the checkpoint."""
        return {"path": str(self.path), "weights": self.weights, "kind": self.kind, **self.details}


def resolve(path: Path, *, base: Path | None = None, adapter: str = MERGED, cache: Path | None = None) -> Source:
    """What to load for ``path``: a Hugging Face folder, a peft LoRA adapter, or verl's FSDP shards.

    ``base`` overrides where an adapter's base lies. ``adapter`` says whether it is merged into the base's weights
    or runs beside them. What has to be converted is made once and kept in ``cache``
    (:func:`harness.checkpoints.cache.cache_folder`). The file formats are told by what lies in the folder; a
    ``global_step_N`` of verl stands for the ``actor`` in it.

    Raises :class:`CheckpointError` for what is missing, damaged or of another kind, :class:`NotComparableError` (exit
    code 4) where the base is not the one that the adapter records, and :class:`HarnessError` for options that do not
    fit and for packages that are not installed.
    """
    if adapter not in ADAPTER_MODES:
        known = ", ".join(ADAPTER_MODES)
        raise HarnessError(f"--adapter {adapter}", f"it is one of {known}", nearest(adapter, ADAPTER_MODES))
    where = cache if cache is not None else cache_folder()
    check_link(path / CONFIG_FILE)
    if is_adapter(path):
        _check_one_kind(path)
        return _adapted(path, base, adapter, where)
    shards = find_shards(path)
    if shards is not None:
        return _from_shards(path, shards, base, adapter, where)
    _check_no_option(path, base, adapter, "it is no adapter: there is no adapter_config.json in it")
    _check_folder(path)
    return Source(path, HF, path, path, fingerprint_weights(path), fingerprint_settings(path))


@dataclass(frozen=True)
class Named:
    """A checkpoint as the command line names it, with the options of :func:`resolve`: nothing is read yet."""

    path: Path
    base: Path | None = None
    adapter: str = MERGED


AnyCheckpoint: TypeAlias = Path | Named | Source
"""A checkpoint named by its path alone, with options, or resolved."""


def path_of(checkpoint: AnyCheckpoint) -> Path:
    """The folder that was asked for."""
    return checkpoint if isinstance(checkpoint, Path) else checkpoint.path


def as_source(checkpoint: AnyCheckpoint) -> Source:
    """``checkpoint`` itself where it is resolved, else what :func:`resolve` makes of it."""
    if isinstance(checkpoint, Source):
        return checkpoint
    named = Named(checkpoint) if isinstance(checkpoint, Path) else checkpoint
    return resolve(named.path, base=named.base, adapter=named.adapter)


def resolve_again(stored: Mapping[str, Any], path: Path | None = None) -> Source:
    """The source that a manifest describes (its ``checkpoint``), from ``path`` if it has moved."""
    lora = stored.get("adapter")
    if lora is None:
        return resolve(path or Path(stored["path"]))
    base = Path(stored["base"]["path"])
    known = stored["kind"] == LORA and base.is_dir()
    return resolve(path or Path(stored["path"]), base=base if known else None, adapter=lora["mode"])


def _check_folder(path: Path) -> None:
    """A full model: its weight files and all of its settings."""
    others = unread_weights(path)
    if others:
        log.warning("checkpoint %s holds %s as well, which is not loaded", path, ", ".join(others))
    check_settings(path)


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


def _adapted(path: Path, base: Path | None, mode: str, cache: Path) -> Source:
    """An adapter and its base, merged or not."""
    config = read_config(path)
    folder = find_base(path, config, base)
    if is_adapter(folder):
        raise CheckpointError(f"adapter {path}", f"its base {folder} is an adapter too", "merge that one first")
    check_settings(path)
    _check_folder(folder)
    recorded = recorded_base(path)
    base_weights = fingerprint_weights(folder)
    if recorded is None:
        log.warning(
            "adapter %s records no %s, so nothing shows that %s is the base it was trained on", path, BASE_FIELD, folder
        )
    elif recorded != base_weights:
        raise NotComparableError(
            f"base {folder} of adapter {path}",
            f"its weights are {base_weights[:16]}..., the adapter records {recorded[:16]}... ({BASE_FIELD})",
            "give the base that it was trained on: --base FOLDER",
        )
    return _on_base(_Pair(path, folder, base_weights, recorded or NOT_RECORDED), mode, cache)


@dataclass(frozen=True)
class _Pair:
    """An adapter on its base, both by path, with the fingerprint of the base and what is recorded of it."""

    adapter: Path
    base: Path
    base_weights: str
    recorded: str


def _on_base(pair: _Pair, mode: str, cache: Path) -> Source:
    config = read_config(pair.adapter)
    updates = read_updates(pair.adapter, config)
    weights = fingerprint_adapter(pair.adapter, updates)
    linears = linears_of(pair.base)
    check_fit(pair.adapter, config, updates, linears)
    details = {
        "base": {"path": str(pair.base), "weights": pair.base_weights, "recorded": pair.recorded},
        "adapter": {"path": str(pair.adapter), "weights": weights, "mode": mode, "modules": len(updates)},
    }
    if mode == UNMERGED:
        folder = _settings(pair, cache)
        both = hashlib.sha256(f"{UNMERGED}|{pair.base_weights}|{weights}".encode()).hexdigest()
        settings = fingerprint_settings(folder)
        return Source(pair.adapter, LORA, pair.base, folder, both, settings, pair.adapter, details)
    if linears.tied and linears.head in updates:
        raise CheckpointError(
            f"adapter {pair.adapter}",
            f"{linears.head} is tied to the embedding, which a merge would change as well",
            "evaluate it with --adapter unmerged",
        )
    from harness.checkpoints.merging import merge_adapter

    name = f"{LORA}-{content_key(REVISION, pair.base_weights, weights, _settings_key(pair))}"
    folder, note = kept(cache, name, lambda into: {"merge": merge_adapter(pair.base, pair.adapter, into).to_json()})
    prints = note["fingerprints"]
    merged = {"folder": str(folder), **note["merge"]}
    return Source(
        pair.adapter, LORA, folder, folder, prints["weights"], prints["settings"], details={**details, "merge": merged}
    )


def _settings_key(pair: _Pair) -> str:
    return f"{fingerprint_settings(pair.base)}|{fingerprint_settings(pair.adapter)}"


def _settings(pair: _Pair, cache: Path) -> Path:
    """The folder with the settings in force: the base itself, unless the adapter brings any."""
    if not own_settings(pair.adapter):
        return pair.base

    def make(into: Path) -> dict[str, Any]:
        compose_settings(pair.base, pair.adapter, into)
        return {"adapter": str(pair.adapter), "base": str(pair.base)}

    return kept(cache, f"settings-{content_key(REVISION, _settings_key(pair))}", make, weights=False)[0]


def _from_shards(path: Path, shards: Shards, base: Path | None, mode: str, cache: Path) -> Source:
    """What verl's own merger makes of the shards; their LoRA, if they hold one, is an adapter on the rest of them."""
    name = f"{FSDP}-{content_key(REVISION, shards.fingerprint)}"
    folder, note = kept(cache, name, lambda into: convert(shards, into))
    prints = note["fingerprints"]
    details: dict[str, Any] = {
        "shards": {
            "folder": str(shards.folder),
            "world_size": shards.world_size,
            "sha256": shards.fingerprint,
            "converted": str(folder),
            "merger": note["merger"],
            "dtype": DTYPE_NOTE,
        }
    }
    log.info("%s: converted by %s; %s", path, note["merger"], DTYPE_NOTE)
    if not is_adapter(folder / LORA_FOLDER):
        _check_no_option(path, base, mode, "its shards hold no LoRA adapter")
        return Source(path, FSDP, folder, folder, prints["weights"], prints["settings"], details=details)
    if base is not None:
        _check_no_option(path, base, mode, "its shards hold the base themselves")
    found = _on_base(_Pair(folder / LORA_FOLDER, folder, prints["weights"], "in the same shards"), mode, cache)
    return replace(found, path=path, kind=FSDP, details={**found.details, **details})
