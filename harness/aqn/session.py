"""Apply, re-apply and restore: noise that never adds up, is measured, and is taken back bit for bit.

Clean copies of the targets are kept while noise is on. What was written is remembered by its digest, so that a weight
that somebody else wrote in between is found: its new value stays, and the report names it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from harness.aqn.config import NORM_DTYPES, RELATIVE, AqnConfig
from harness.aqn.digest import digest
from harness.aqn.dose import LayerDose, check_doses, check_relative, measure, spread_of
from harness.aqn.draws import draws
from harness.aqn.holder import Piece, WeightHolder
from harness.exceptions import EvidenceError, HarnessError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dose:
    """What a step applied: sigma of the schedule, the hash of the settings, and what every layer got."""

    step: int
    sigma: float
    effective: str
    layers: tuple[LayerDose, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        layers = [layer.to_json() for layer in self.layers]
        return {"step": self.step, "sigma": self.sigma, "effective": self.effective, "layers": layers}


@dataclass(frozen=True)
class Restored:
    """What a restore did: ``restored`` weights have their clean bits; ``updated`` ones were written by somebody else
    while the noise was on, and keep that value."""

    restored: tuple[str, ...]
    updated: tuple[str, ...]


@dataclass
class _Kept:
    piece: Piece
    clean: Tensor
    clean_digest: str
    written: str
    undo: Callable[[], None] | None = None


class Aqn:
    """AQN on one holder of weights. Not thread-safe; one at a time on a holder.

    Raises :class:`HarnessError` at once where the settings match nothing or can never do anything.
    """

    def __init__(self, holder: WeightHolder, config: AqnConfig) -> None:
        self.config = config
        self._holder = holder
        self._kept: list[_Kept] = []
        self._dose: Dose | None = None
        holder.settle()
        self.effective = self._effective(holder.pieces(config.targets))

    @property
    def dose(self) -> Dose | None:
        """The dose that is on, None while the weights are clean."""
        return self._dose

    def apply(self, step: int) -> Dose:
        """Write clean weights plus the noise of ``step``; what an earlier step wrote is taken back first.

        On any error the weights are as before the noise. Raises :class:`HarnessError` for a sigma that is too large for
        a weight, :class:`EvidenceError` where the achieved dose is not the one asked for.
        """
        sigma = self.config.schedule.sigma(step)
        self.restore()
        layers = []
        try:
            for piece in self._holder.pieces(self.config.targets):
                layers.append(self._perturb(piece, sigma, step))
            check_doses(layers)
        except BaseException:
            self.restore()
            raise
        self._dose = Dose(step, sigma, self.effective, tuple(layers))
        return self._dose

    def restore(self) -> Restored:
        """Write the clean weights back, bit for bit, and check them; do nothing where no noise is on.

        A weight that does not hold what was written has been updated: it is left as it is and named. Raises
        :class:`EvidenceError` where a restored weight does not have its clean bits.
        """
        restored, updated, wrong = [], [], []
        kept, self._kept, self._dose = self._kept, [], None
        self._holder.settle()
        for each in reversed(kept):
            name = each.piece.name
            if each.undo is not None:
                changed = self._unwiden(each)
            else:
                now = each.piece.data()
                changed = digest(now) != each.written
                if not changed:
                    now.copy_(each.clean)
            if changed:
                updated.append(name)
            elif digest(each.piece.data()) == each.clean_digest:
                restored.append(name)
            else:
                wrong.append(name)
        if updated:
            log.warning(
                "AQN: %d weights were updated while noise was on, and keep their new value (%s)",
                len(updated),
                updated[-1],
            )
        if wrong:
            raise EvidenceError(f"layer {wrong[0]}", "after the restore it has not its clean bits", "load it again")
        return Restored(tuple(reversed(restored)), tuple(reversed(updated)))

    @contextlib.contextmanager
    def applied(self, step: int) -> Iterator[Dose]:
        """Apply ``step`` inside the block and restore at its end, whatever happens in it."""
        dose = self.apply(step)
        try:
            yield dose
        finally:
            self.restore()

    def _effective(self, pieces: tuple[Piece, ...]) -> str:
        return self.config.effective_hash([(piece.name, piece.kind, piece.layer) for piece in pieces])

    def _perturb(self, piece: Piece, sigma: float, step: int) -> LayerDose:
        factor = self.config.multiplier(piece.layer, step)
        spread = spread_of(piece.gathered(), piece.is_norm)
        relative = self.config.mode == RELATIVE
        asked = sigma * factor * (spread if relative else 1.0)
        if relative and sigma * factor and not spread:
            raise HarnessError(f"weight {piece.name}", "it is constant, so that relative sigma is 0", "use absolute")
        if asked:
            check_relative(piece.name, asked / spread if spread else float("inf"), self.config.force)
        target = self._keep(piece, wide=bool(asked))
        clean = self._kept[-1].clean
        if asked:
            add_noise(piece, clean, target, asked, (self.config.seed, step))
        self._kept[-1].written = digest(target)
        changed, total, energy = measure(clean, target)
        return LayerDose(
            *(piece.name, piece.kind, piece.layer, asked, factor, spread),
            *(target.numel(), changed, total, energy, str(target.dtype).removeprefix("torch."), piece.tied),
        )

    def _keep(self, piece: Piece, wide: bool) -> Tensor:
        """Keeps the clean bits of ``piece`` and returns the tensor to write."""
        now = piece.data()
        clean = now.clone()
        undo = None
        if wide and piece.is_norm and self.config.norm_dtype != NORM_DTYPES[0] and now.element_size() < 4:
            if piece.widen is None:
                raise HarnessError(
                    f"norm_dtype {self.config.norm_dtype} for {piece.name}",
                    "only whole RMSNorm gains of a module can be replaced",
                    "drop norm_dtype, or keep these weights in float32",
                )
            now, undo = piece.widen()
        self._kept.append(_Kept(piece, clean, digest(clean), digest(now), undo))
        return now

    def _unwiden(self, each: _Kept) -> bool:
        """Takes a float32 gain out again; True where it was updated, with its new value in the narrow one."""
        assert each.undo is not None
        wide = each.piece.data()
        changed = wide.dtype == each.clean.dtype or digest(wide) != each.written
        each.undo()
        if changed and each.piece.data().data_ptr() != wide.data_ptr():
            each.piece.data().copy_(wide)
        return changed


def add_noise(piece: Piece, clean: Tensor, target: Tensor, asked: float, key: tuple[int, int]) -> None:
    """Write ``clean`` + ``asked`` times the draws of (seed, step) to ``target``, both of the region of ``piece``.

    Drawn and added in float32, cast once.
    """
    width = piece.region.shape[-1]
    if target.numel() == 0:
        return
    before = clean.reshape(-1, width)
    for rows, drawn in draws(*key, piece.name, piece.region, target.device):
        part = drawn.mul_(asked).add_(before[rows])
        _rows(target, width)[rows] = part.to(target.dtype)


def _rows(tensor: Tensor, width: int) -> Tensor:
    """``tensor`` as a matrix that shares its memory."""
    return tensor.view(-1, width)
