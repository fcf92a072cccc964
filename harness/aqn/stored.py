"""A checkpoint's weights read from its files: a holder of weights without a model in memory, and a perturbed copy."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from harness.aqn.config import AqnConfig
from harness.aqn.dose_file import CHECKSUM_FIELD, FILE, Written, write_beside
from harness.aqn.draws import Region
from harness.aqn.holder import ModuleHolder, Piece
from harness.aqn.session import Aqn, Dose
from harness.aqn.targets import Targets, layer_of
from harness.checkpoints.folder import (
    INDEX_FILE,
    fingerprint_weights,
    indexed,
    settings_files,
    stored_tensors,
    weight_files,
)
from harness.checkpoints.outline import build_outline
from harness.checkpoints.tensors import StoredTensors, opened
from harness.exceptions import CheckpointError, HarnessError


def layers_of(outline: nn.Module) -> int:
    """Return how many decoder layers a model has."""
    numbers = [layer for layer in (layer_of(name) for name, _ in outline.named_modules()) if layer is not None]
    return 1 + max(numbers, default=-1)


class StoredHolder:
    """The targets of a checkpoint folder; each is read when it is asked for and then kept, to be written elsewhere."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.outline: nn.Module = build_outline(path)
        self._tensors: StoredTensors = stored_tensors(path)
        self.read: dict[str, Tensor] = {}

    def pieces(self, targets: Targets) -> tuple[Piece, ...]:
        """Return the targets, whose tensors come from the files. Raises :class:`CheckpointError` for a missing one."""
        return tuple(self._stored(piece) for piece in ModuleHolder(self.outline).pieces(targets))

    def settle(self) -> None:
        """Do nothing: what is read from files is always ready."""

    def _stored(self, piece: Piece) -> Piece:
        name = self.stored_name(piece)
        shape = self._tensors.shapes[name]
        if shape != piece.region.whole:
            raise CheckpointError(
                f"tensor {name} of {self._path}", f"it is {shape}, the model has {piece.region.whole}", "copy it again"
            )

        def data() -> Tensor:
            if name not in self.read:
                self.read[name] = self._tensors.read(name).clone()
            return self.read[name]

        return replace(
            piece,
            data=data,
            gathered=data,
            owner=lambda: None,
            region=Region(shape, shape, (0,) * len(shape)),
            widen=None,
        )

    def stored_name(self, piece: Piece) -> str:
        """Return the name of the tensor in the files: the module's, with or without the prefix of the base model."""
        prefix = getattr(self.outline, "base_model_prefix", "")
        names = [f"{module}.weight" for module in (piece.name, *piece.tied)]
        for name in (*names, *(name.removeprefix(f"{prefix}.") for name in names)):
            if name in self._tensors.shapes:
                return name
        raise CheckpointError(
            f"weight of {piece.name}", f"no tensor of {self._path} is called so", "target what the files hold by itself"
        )


def perturbed_copy(path: Path, config: AqnConfig, step: int, out: Path) -> Written:
    """Write a copy of the checkpoint ``path`` with the noise of ``step`` to the new folder ``out``, its ledger beside.

    Raises :class:`HarnessError` where ``out`` exists, the checkpoint is itself such a copy, or the dose is not met.
    """
    if out.exists():
        raise HarnessError(f"--out {out}", "it exists already", "give a new folder")
    if (path / FILE).exists():
        raise HarnessError(f"checkpoint {path}", f"it is a perturbed copy itself ({FILE})", "perturb the clean one")
    base = fingerprint_weights(path)
    holder = StoredHolder(path)
    aqn = Aqn(holder, config)
    dose = aqn.apply(step)
    if not any(layer.asked for layer in dose.layers):
        raise HarnessError(f"step {step}", "sigma is 0 there, so that the copy would be clean", "give a later step")
    out.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        written = _write(path, making, holder, (config, dose, base))
        os.chmod(making, 0o755)
        os.rename(making, out)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return written


def _write(path: Path, out: Path, holder: StoredHolder, what: tuple[AqnConfig, Dose, str]) -> Written:
    for file in settings_files(path):
        (out / file.relative_to(path)).parent.mkdir(exist_ok=True)
        shutil.copyfile(file, out / file.relative_to(path))
    if indexed(path) is not None:
        shutil.copyfile(path / INDEX_FILE, out / INDEX_FILE)
    config, dose, base = what
    for file in weight_files(path):
        with opened(file) as handle:
            metadata = dict(handle.metadata() or {"format": "pt"})
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118 (no mapping)
        save_file(_replaced(tensors, holder.read), out / file.name, metadata | {CHECKSUM_FIELD: dose.effective})
    return write_beside(out, config, dose, base, fingerprint_weights(out))


def _replaced(tensors: Mapping[str, Tensor], noisy: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: noisy.get(name, tensor).contiguous() for name, tensor in tensors.items()}
