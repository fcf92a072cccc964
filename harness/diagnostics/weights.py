"""Scans the weights of a checkpoint, one stored tensor at a time: the model itself is never loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.checkpoints.folder import fingerprint_settings, stored_tensors
from harness.checkpoints.lora import Update, adapter_tensors, fingerprint_adapter, read_config, read_updates
from harness.checkpoints.modes import MERGED
from harness.checkpoints.opening import Opened, open_checkpoint
from harness.checkpoints.outline import build_outline
from harness.checkpoints.tensors import Fingerprint, StoredTensors
from harness.diagnostics.gaussian import Yardstick
from harness.diagnostics.measuring import Measurement
from harness.diagnostics.scan_result import ModuleScan
from harness.diagnostics.scan_spec import WEIGHTS
from harness.diagnostics.skeleton import Match, match_names
from harness.diagnostics.stored import header_digest, tensor_digest
from harness.diagnostics.weight_roles import Place, find_places, matrices
from harness.exceptions import CheckpointError
from harness.spec.formats import Recipe

MEASURED = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
UNMATCHED = "no parameter of the model has this name"


@dataclass(frozen=True)
class Target:
    """A stored tensor that is scanned: its place in the model, how it is stored, and what an adapter adds to it."""

    stored: str
    place: Place
    transposed: bool
    module: str


@dataclass(frozen=True)
class Source:
    """A checkpoint opened for a scan: its files, its model without weights, and what of it is scanned.

    ``updates`` are what an adapter adds to the weights of its base, by the path of the module.
    """

    opened: Opened
    skeleton: nn.Module
    tensors: StoredTensors
    targets: Mapping[str, Target]
    excluded: Mapping[str, str]
    updates: Mapping[str, Update]

    @property
    def path(self) -> Path:
        """The folder with the weights: the base of an adapter."""
        return self.opened.folder

    @property
    def elements(self) -> int:
        """Elements of all that is scanned."""
        return sum(torch.Size(self.tensors.shapes[name]).numel() for name in self.targets)

    @property
    def beside(self) -> StoredTensors | None:
        """The tensors of an adapter that stays beside its base."""
        adapter = self.opened.adapter
        return None if adapter is None or self.opened.mode == MERGED else adapter_tensors(adapter)

    @property
    def settings(self) -> str:
        """SHA-256 of the settings of the model, with those of an adapter (64 hex digits)."""
        own = fingerprint_settings(self.path)
        adapter = self.opened.adapter
        if adapter is None:
            return own
        return hashlib.sha256(f"{own}|{fingerprint_settings(adapter)}".encode()).hexdigest()

    @property
    def identity(self) -> dict[str, Any]:
        """What is known before a weight is read: names and shapes of the tensors, settings, all of an adapter, and the
        commits of what came from a hub."""
        adapter, hub = self.opened.adapter, self.opened.pinned
        return {
            **({"hub": hub} if hub else {}),
            "tensors": header_digest(self.tensors.shapes),
            "config": self.settings,
            "adapter": None if adapter is None else fingerprint_adapter(adapter, self.updates),
        }

    def read(self, name: str) -> Tensor:
        """Return the stored tensor, with the adapter merged into it where that is asked for."""
        tensor = self.tensors.read(name)
        target = self.targets.get(name)
        if target is None or self.opened.mode != MERGED:
            return tensor
        update = self.updates.get(target.place.module)
        return tensor if update is None else update.merged(tensor, target.transposed)


def open_source(path: Path, include: Sequence[str] = (), adapter: str = MERGED, base: Path | None = None) -> Source:
    """Open the checkpoint ``path`` as every verb does (:func:`harness.checkpoints.opening.open_checkpoint`).

    Raises :class:`HarnessError`: :class:`CheckpointError` for what is missing or damaged, and where no weight of a
    linear is found; exit code 4 where an adapter records another base.
    """
    opened = open_checkpoint(path, base=base, adapter=adapter)
    tensors = stored_tensors(opened.folder)
    skeleton = build_outline(opened.folder)
    places = find_places(skeleton, include)
    targets, excluded = _targets(tensors, places, match_names(skeleton, tensors.shapes))
    updates = {} if opened.adapter is None else read_updates(opened.adapter, read_config(opened.adapter))
    _check_reached(opened, updates, places)
    if opened.adapter is not None and opened.mode != MERGED:
        excluded |= dict.fromkeys(adapter_tensors(opened.adapter).names, "LoRA adapter")
    if not targets:
        raise CheckpointError(
            f"checkpoint {opened.folder}",
            f"none of its {len(tensors.names)} tensors is the weight of a linear of {type(skeleton).__name__}"
            f"{_hint(skeleton, excluded)}",
            "bring others in with --include GLOB",
        )
    return Source(opened, skeleton, tensors, targets, excluded, updates)


def _check_reached(opened: Opened, updates: Mapping[str, Update], places: Mapping[str, Place]) -> None:
    """Every update must meet the linear that it is merged into."""
    linears = {place.module for place in places.values() if place.hooked}
    strangers = sorted(path for path in updates if path not in linears)
    if strangers:
        raise CheckpointError(
            f"adapter {opened.adapter}",
            f"{len(strangers)} of its updates fit no linear of the base {opened.folder}, the first is {strangers[0]}",
            "adapter and base must belong together; only linears are merged",
        )


def _targets(
    tensors: StoredTensors, places: Mapping[str, Place], matched: Mapping[str, Match]
) -> tuple[dict[str, Target], dict[str, str]]:
    targets: dict[str, Target] = {}
    excluded: dict[str, str] = {}
    for name in tensors.names:
        match = matched.get(name)
        place = places.get(match.parameter) if match is not None else None
        if match is None or place is None:
            excluded[name] = UNMATCHED if match is None else "buffer"
        elif place.reason is not None:
            excluded[name] = place.reason
        else:
            place = places[place.meant] if place.meant else place
            whole = place.transposed if match.whole else False
            known = place.module if place.field == "weight" else place.name
            module = known if match.whole else name.removesuffix(".weight")
            targets[name] = Target(name, place, whole != match.transposed, module)
    return targets, excluded


def _hint(skeleton: Any, excluded: Mapping[str, str]) -> str:
    packed = getattr(skeleton.config, "quantization_config", None)
    unmatched = [name for name, reason in excluded.items() if reason == UNMATCHED]
    text = "; its config says that it is quantized already" if packed else ""
    return text + (f"; {len(unmatched)} fit no parameter, the first is {unmatched[0]}" if unmatched else "")


@dataclass(frozen=True)
class Scanned:
    """One stored tensor after it was read: its digest, and its results if it is scanned and was not known."""

    name: str
    digest: str
    modules: tuple[ModuleScan, ...]


def scan_weights(
    source: Source,
    recipes: Sequence[Recipe],
    yardstick: Yardstick,
    fingerprint: Fingerprint,
    known: Mapping[str, str],
) -> Iterator[Scanned]:
    """Read every stored tensor once, in the order of the fingerprint, and measure those that are scanned.

    ``known`` maps names that were measured before to the digest they had: they are read for the fingerprint alone
    if it still fits, as all are without ``recipes``. Peak memory is that of the largest tensor; merging an adapter
    takes a few float32 copies of one linear besides.
    """
    for name in source.tensors.names:
        tensor = source.read(name)
        fingerprint.add(name, tensor)
        target = source.targets.get(name)
        if target is None:
            continue
        digest = tensor_digest(tensor)
        if not recipes or known.get(name) == digest:
            yield Scanned(name, digest, ())
        else:
            yield Scanned(name, digest, tuple(_measure(target, tensor, recipes, yardstick, digest)))
    beside = source.beside
    for name in beside.names if beside is not None else ():
        fingerprint.add(name, beside.read(name))  # type: ignore[union-attr]


def _measure(
    target: Target, tensor: Tensor, recipes: Sequence[Recipe], yardstick: Yardstick, digest: str
) -> Iterator[ModuleScan]:
    if tensor.dtype not in MEASURED:
        raise CheckpointError(
            f"tensor {target.stored}",
            f"it is stored as {tensor.dtype}, a quantized checkpoint whose scales lie elsewhere",
            "scan the checkpoint in bfloat16 that it was made from",
        )
    measurement = Measurement(recipes, per_row=False)
    for matrix in matrices(tensor, target.transposed):
        measurement.add(matrix)
    for recipe, error, expected in measurement.results(yardstick):
        yield ModuleScan(
            module=target.module,
            group=target.place.group,
            what=WEIGHTS,
            format=recipe.format.name,
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            digest=digest,
            nonfinite=measurement.scales.nonfinite,
            rms=measurement.scales.rms,
            error=error,
            expected=expected,
        )
