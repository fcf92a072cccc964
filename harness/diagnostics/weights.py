"""Scans the weights of a checkpoint, one stored tensor at a time: the model itself is never loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.checkpoints.folder import stored_tensors
from harness.checkpoints.modes import MERGED, UNMERGED
from harness.checkpoints.tensors import Fingerprint, StoredTensors
from harness.diagnostics.adapter import Adapter, is_adapter, read_adapter
from harness.diagnostics.gaussian import Yardstick
from harness.diagnostics.measuring import Measurement
from harness.diagnostics.places import Place, find_places, matrices
from harness.diagnostics.scan_result import ModuleScan
from harness.diagnostics.scan_spec import WEIGHTS
from harness.diagnostics.skeleton import Match, build_skeleton, match_names
from harness.diagnostics.stored import header_digest, tensor_digest
from harness.exceptions import CheckpointError, HarnessError
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

    ``path`` is the folder with the weights (the base of an adapter), ``adapter`` what is merged into them or left
    beside them according to ``mode``.
    """

    path: Path
    skeleton: nn.Module
    tensors: StoredTensors
    targets: Mapping[str, Target]
    places: Mapping[str, Place]
    excluded: Mapping[str, str]
    adapter: Adapter | None = None
    mode: str = MERGED

    @property
    def elements(self) -> int:
        """Elements of all that is scanned."""
        return sum(torch.Size(self.tensors.shapes[name]).numel() for name in self.targets)

    @property
    def header(self) -> str:
        """16 hex digits over names and shapes of all files, the adapter's included."""
        shapes = dict(self.tensors.shapes)
        if self.adapter is not None:
            shapes |= {f"adapter {name}": shape for name, shape in self.adapter.stored.shapes.items()}
        return header_digest(shapes)

    def read(self, name: str) -> Tensor:
        """The stored tensor, with the adapter merged into it where that is asked for."""
        tensor = self.tensors.read(name)
        target = self.targets.get(name)
        if target is None or self.adapter is None or self.mode == UNMERGED:
            return tensor
        update = self.adapter.updates.get(target.place.module)
        return tensor if update is None else update.merged(tensor, target.transposed)


def open_source(path: Path, include: Sequence[str] = (), adapter: str = MERGED, base: Path | None = None) -> Source:
    """Opens the checkpoint in the folder ``path``, or the adapter there with its base. Reads no weight.

    Raises :class:`HarnessError`: :class:`CheckpointError` for what is missing or damaged, and where no weight of a
    linear is found.
    """
    lora = read_adapter(path, base) if is_adapter(path) else None
    if lora is None and (base is not None or adapter != MERGED):
        raise HarnessError(
            f"{'--base' if base is not None else '--adapter'} with {path}",
            "it is no adapter: there is no adapter_config.json in it",
            "drop the option",
        )
    folder = path if lora is None else lora.base
    tensors = stored_tensors(folder)
    skeleton = build_skeleton(folder)
    places = find_places(skeleton, include)
    if lora is not None:
        lora.check(places)
    targets, excluded = _targets(tensors, places, match_names(skeleton, tensors.shapes))
    if lora is not None and adapter == UNMERGED:
        excluded |= dict.fromkeys(lora.stored.names, "LoRA adapter")
    if not targets:
        raise CheckpointError(
            f"checkpoint {folder}",
            f"none of its {len(tensors.names)} tensors is the weight of a linear of {type(skeleton).__name__}"
            f"{_hint(skeleton, excluded)}",
            "bring others in with --include GLOB",
        )
    return Source(folder, skeleton, tensors, targets, places, excluded, lora, adapter)


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
    """Reads every stored tensor once, in the order of the fingerprint, and measures those that are scanned.

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
    if source.adapter is not None and source.mode == UNMERGED:
        for name in source.adapter.stored.names:
            fingerprint.add(name, source.adapter.stored.read(name))


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
