"""Where a model comes from: one function that turns what a user names into a folder that an engine can load."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from harness.checkpoints.cache import cache_folder, content_key, kept
from harness.checkpoints.dequantized import Dequantized
from harness.checkpoints.folder import fingerprint_settings, fingerprint_weights
from harness.checkpoints.hub import FIELD as HUB_FIELD
from harness.checkpoints.hub import hub_of, located
from harness.checkpoints.lora import fingerprint_adapter, read_config, read_updates
from harness.checkpoints.modes import MERGED, UNMERGED
from harness.checkpoints.opening import LORA, NOT_RECORDED, REVISION, Opened, open_checkpoint
from harness.checkpoints.settings import compose_settings, own_settings
from harness.checkpoints.stored_quantization import FIELD, StoredQuantization
from harness.runs.dequantized import FIELD as DEQUANTIZED_FIELD

__all__ = ["NOT_RECORDED", "AnyCheckpoint", "CheckpointRef", "Opened", "Source", "as_source", "path_of", "resolve"]
__all__ += ["here", "resolve_again"]
_WAS = tuple(each.name for each in fields(Dequantized))


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
        """Return what the manifest says of the checkpoint."""
        return {"path": str(self.path), "weights": self.weights, "kind": self.kind, **self.details}

    @property
    def quantization(self) -> StoredQuantization | None:
        """How the weights are stored quantized; None where they are not."""
        config = self.details.get(FIELD)
        return None if config is None else StoredQuantization(config["quant_method"], config)

    @property
    def pinned(self) -> dict[str, dict[str, str]]:
        """Name and commit of what came from a hub: of the ``checkpoint`` itself, and of the ``base`` of an adapter."""
        places = {"checkpoint": self.details, "base": self.details.get("base") or {}}
        return {name: dict(place[HUB_FIELD]) for name, place in places.items() if HUB_FIELD in place}

    @property
    def name(self) -> str:
        """What folders made for the checkpoint are named after: its own folder, or its name on a hub."""
        hub = self.details.get(HUB_FIELD)
        return self.path.resolve().name if hub is None else str(hub["id"]).rpartition("/")[2]

    @property
    def stored_text(self) -> str | None:
        """What measurement keys say of the file's quantization, also of one that was undone before; None: none."""
        if self.quantization is not None:
            return self.quantization.text
        was = self.details.get(DEQUANTIZED_FIELD)
        return None if was is None else Dequantized(**{name: was[name] for name in _WAS}).text


def resolve(path: Path, *, base: Path | None = None, adapter: str = MERGED, cache: Path | None = None) -> Source:
    """Return what to load for ``path``: a Hugging Face folder, a peft LoRA adapter, or verl's FSDP shards.

    ``base`` overrides where an adapter's base lies. ``adapter`` says whether it is merged into the base's weights
    or runs beside them. What has to be converted is made once and kept in ``cache``
    (:func:`harness.checkpoints.cache.cache_folder`). The file formats are told by what lies in the folder; a
    ``global_step_N`` of verl stands for the ``actor`` in it.

    Raises :class:`CheckpointError` for what is missing, damaged or of another kind, :class:`NotComparableError` (exit
    code 4) where the base is not the one that the adapter records, and :class:`HarnessError` for options that do not
    fit and for packages that are not installed.
    """
    return _resolved(open_checkpoint(path, base=base, adapter=adapter, cache=cache), cache)


def _resolved(opened: Opened, cache: Path | None = None) -> Source:
    """What to load for a checkpoint that is open."""
    if opened.adapter is not None:
        return _on_base(opened, opened.adapter, cache if cache is not None else cache_folder())
    folder, weights = opened.folder, opened.weights or fingerprint_weights(opened.folder)
    settings = fingerprint_settings(folder)
    details = _compared(opened.details, weights)
    return Source(opened.path, opened.kind, folder, folder, weights, settings, details=details)


def _hub(folder: Path) -> dict[str, Any]:
    found = hub_of(folder)
    return {} if found is None else {HUB_FIELD: found}


def here(checkpoint: AnyCheckpoint) -> AnyCheckpoint:
    """Return ``checkpoint``, with its folder where it was named as on a hub (:mod:`harness.checkpoints.hub`)."""
    if isinstance(checkpoint, Path):
        return located(checkpoint)
    if isinstance(checkpoint, CheckpointRef):
        return replace(checkpoint, path=located(checkpoint.path))
    return checkpoint


def _compared(details: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """The details, which say also whether ``weights`` are those that were dequantized."""
    was = details.get(DEQUANTIZED_FIELD)
    if was is None:
        return dict(details)
    return {**details, DEQUANTIZED_FIELD: Dequantized(**was).to_json(weights)}


@dataclass(frozen=True)
class CheckpointRef:
    """A checkpoint as the command line names it, with the options of :func:`resolve`: nothing is read yet."""

    path: Path
    base: Path | None = None
    adapter: str = MERGED


AnyCheckpoint: TypeAlias = Path | CheckpointRef | Opened | Source
"""A checkpoint named by its path alone, with options, opened, or resolved."""


def path_of(checkpoint: AnyCheckpoint) -> Path:
    """Return the folder that was asked for."""
    return checkpoint if isinstance(checkpoint, Path) else checkpoint.path


def as_source(checkpoint: AnyCheckpoint) -> Source:
    """Return ``checkpoint`` itself where it is resolved, else what :func:`resolve` makes of it."""
    if isinstance(checkpoint, Source):
        return checkpoint
    if isinstance(checkpoint, Opened):
        return _resolved(checkpoint)
    named = CheckpointRef(checkpoint) if isinstance(checkpoint, Path) else checkpoint
    return resolve(named.path, base=named.base, adapter=named.adapter)


def resolve_again(stored: Mapping[str, Any], path: Path | None = None) -> Source:
    """Return the source that a manifest describes (its ``checkpoint``), from ``path`` if it has moved; what came from a
    hub and is no longer in its cache is taken from there again, at the same commit."""
    path = path or _pinned(stored)
    lora = stored.get("adapter")
    if lora is None:
        return resolve(path or Path(stored["path"]))
    base = _pinned(stored["base"]) or Path(stored["base"]["path"])
    known = stored["kind"] == LORA and base.is_dir()
    return resolve(path or Path(stored["path"]), base=base if known else None, adapter=lora["mode"])


def _pinned(stored: Mapping[str, Any]) -> Path | None:
    """The name on a hub, with its commit, of a folder that is no longer there; None for others."""
    hub = stored.get(HUB_FIELD)
    if hub is None or Path(stored["path"]).is_dir():
        return None
    return located(Path(f"{hub['id']}@{hub['revision']}"))


def _on_base(opened: Opened, adapter: Path, cache: Path) -> Source:
    """The adapter on its base: merged into a folder of its own, or to be run beside it."""
    updates = read_updates(adapter, read_config(adapter))
    weights = fingerprint_adapter(adapter, updates)
    base = opened.weights or fingerprint_weights(opened.folder)
    details = {
        "base": {"path": str(opened.folder), "weights": base, "recorded": opened.recorded, **_hub(opened.folder)},
        "adapter": {"path": str(adapter), "weights": weights, "mode": opened.mode, "modules": len(updates)},
        **_compared(opened.details, base),
    }
    keys = f"{fingerprint_settings(opened.folder)}|{fingerprint_settings(adapter)}"
    if opened.mode == UNMERGED:
        folder = _settings(adapter, opened.folder, keys, cache)
        both = hashlib.sha256(f"{UNMERGED}|{base}|{weights}".encode()).hexdigest()
        settings = fingerprint_settings(folder)
        return Source(opened.path, opened.kind, opened.folder, folder, both, settings, adapter, details)
    from harness.checkpoints.merging import merge_adapter

    name = f"{LORA}-{content_key(REVISION, base, weights, keys)}"
    folder, note = kept(cache, name, lambda into: {"merge": merge_adapter(opened.folder, adapter, into).to_json()})
    details["merge"] = {"folder": str(folder), **note["merge"]}
    prints = note["fingerprints"]
    return Source(opened.path, opened.kind, folder, folder, prints["weights"], prints["settings"], details=details)


def _settings(adapter: Path, base: Path, keys: str, cache: Path) -> Path:
    """The folder with the settings in force: the base itself, unless the adapter brings any."""
    if not own_settings(adapter):
        return base

    def make(into: Path) -> dict[str, Any]:
        compose_settings(base, adapter, into)
        return {"adapter": str(adapter), "base": str(base)}

    return kept(cache, f"settings-{content_key(REVISION, keys)}", make, weights=False)[0]
