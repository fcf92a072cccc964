"""Apply, re-apply and restore: noise that never adds up, is measured, and is taken back bit for bit.

Clean copies of the targets are kept while noise is on. What was written is remembered by its digest, so that a weight
that somebody else wrote in between is found: its new value stays, and the report names it.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.aqn.config import NORM_DTYPES, RELATIVE, AqnConfig
from harness.aqn.digest import digest
from harness.aqn.dose import LayerDose, check_doses, check_relative, spread_of
from harness.aqn.draws import draw_keys
from harness.aqn.holder import Piece, WeightHolder, settings_hash
from harness.aqn.passes import Spare, Work, spread, work_on
from harness.exceptions import EvidenceError, HarnessError
from harness.numerics.keyed_random import DrawKey

log = logging.getLogger(__name__)
MARK = "_harness_aqn"


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


class Mark:
    """What a weight carries while noise is on it, one object for each AQN: two at once could not take theirs back."""


@dataclass
class _Kept:
    """A target whose clean bits are kept; ``written`` is None until all of its noise is."""

    piece: Piece
    clean: Tensor
    work: Work
    undo: Callable[[], None] | None = None
    clean_digest: str = ""
    written: str | None = None


class Aqn:
    """AQN on one holder of weights. Not thread-safe; a second one on the same weights is refused.

    The memory of the clean copies is kept from one apply to the next. Raises :class:`HarnessError` at once where the
    settings match nothing or can never do anything.
    """

    def __init__(self, holder: WeightHolder, config: AqnConfig) -> None:
        self.config = config
        self._holder = holder
        self._kept: list[_Kept] = []
        self._dose: Dose | None = None
        self._mark = Mark()
        self._spare: dict[str, Spare] = {}
        self._inside = False
        holder.settle()
        self.effective = settings_hash(config, holder.pieces(config.targets))

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

        A weight that does not hold what was written has been updated: it is named, and what was written anew stays (in
        a large one, rows that still hold what was written get their clean bits). Raises
        :class:`EvidenceError` where a restored weight does not have its clean bits.
        """
        restored: list[str] = []
        updated: list[str] = []
        wrong: list[str] = []
        kept, self._kept, self._dose = self._kept, [], None
        self._holder.settle()
        for each in reversed(kept):
            found = self._put_back(each)
            (updated if found is None else restored if found == each.clean_digest else wrong).append(each.piece.name)
            self._spare[each.piece.name] = each.work.spare()
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
        if self._inside:
            raise HarnessError(
                f"AQN of step {step} inside a block that has noise on",
                "the end of the inner block would leave the outer one clean",
                "apply one after the other",
            )
        dose = self.apply(step)
        self._inside = True
        try:
            yield dose
        finally:
            self._inside = False
            self.restore()

    def _perturb(self, piece: Piece, sigma: float, step: int) -> LayerDose:
        factor = self.config.multiplier(piece.layer, step)
        known = self._spread(piece)
        asked = sigma * factor * (known if self.config.mode == RELATIVE and known is not None else 1.0)
        if self.config.mode == RELATIVE and sigma * factor and not known:
            raise HarnessError(f"weight {piece.name}", "it is constant, so that relative sigma is 0", "use absolute")
        target = self._keep(piece, wide=bool(asked))
        kept = self._kept[-1]
        work = kept.work
        key = None
        if asked and target.numel():
            key = draw_keys(self.config.seed, step, piece.name, piece.region, target.device)
        for first, last in work.pieces():
            work.take(first, last)
            if key is not None:
                add_noise(work, first, last, key, asked)
            work.measure(first, last)
        if not target.is_inference():
            torch.autograd.graph.increment_version(target)
        kept.clean_digest = digest(kept.clean) if kept.undo else work.clean_digest()
        kept.written = work.written_digest()
        changed, total, energy = work.change()
        if not math.isfinite(energy):
            raise HarnessError(
                f"weight {piece.name}", "it holds, or got, a value that is not finite", "load it again, or lower sigma"
            )
        found = spread(work, kept.clean, piece.is_norm) if known is None else known
        if asked:
            check_relative(piece.name, asked / found if found else math.inf, self.config.force)
        return LayerDose(
            *(piece.name, piece.kind, piece.layer, asked, factor, found),
            *(target.numel(), changed, total, energy, str(target.dtype).removeprefix("torch."), piece.tied),
        )

    def _spread(self, piece: Piece) -> float | None:
        """The spread of the whole weight, None where one pass over what this process has will tell."""
        now, whole = piece.data(), piece.gathered()
        if now.is_meta:
            raise HarnessError(f"weight {piece.name}", "it is on the device meta and has no values", "load the weights")
        if self.config.mode != RELATIVE:
            return None if whole.data_ptr() == now.data_ptr() else spread_of(whole, piece.is_norm)
        if tuple(whole.shape) != piece.region.whole:
            raise HarnessError(
                f"relative sigma of {piece.name}",
                "this process has a part of it, whose spread is not that of the whole",
                "use absolute sigma, or one tensor-parallel rank",
            )
        return spread_of(whole, piece.is_norm)

    def _keep(self, piece: Piece, wide: bool) -> Tensor:
        """Makes place for the clean bits of ``piece`` and returns the tensor to write."""
        owner = piece.owner()
        mark = getattr(owner, MARK, None)
        if mark is not None and mark is not self._mark:
            raise HarnessError(f"weight {piece.name}", "another AQN has its noise on it", "restore that one first")
        now = piece.data()
        spare = self._spare.pop(piece.name, None)
        if spare is None or _form(spare.clean) != _form(now):
            spare = Spare(torch.empty_like(now))
        target, undo = now, None
        if wide and piece.is_norm and self.config.norm_dtype != NORM_DTYPES[0] and now.element_size() < 4:
            if piece.widen is None:
                raise HarnessError(
                    f"norm_dtype {self.config.norm_dtype} for {piece.name}",
                    "only whole RMSNorm gains of a module can be replaced",
                    "drop norm_dtype, or keep these weights in float32",
                )
            target, undo = piece.widen()
        self._kept.append(_Kept(piece, spare.clean, work_on(target, now, spare), undo))
        if owner is not None:
            setattr(owner, MARK, self._mark)
        return target

    def _put_back(self, each: _Kept) -> str | None:
        """Take the noise of a target back; return the digest of what stands there, None where it was updated."""
        owner = each.piece.owner()
        if getattr(owner, MARK, None) is self._mark:
            delattr(owner, MARK)
        if each.undo is not None:
            return None if self._unwiden(each, each.undo) else digest(each.piece.data())
        now = each.piece.data()
        if each.written is None:
            each.work.undo(now)
            whole, each.clean_digest = True, digest(now)
            found = each.clean_digest
        else:
            whole, found = each.work.restore(now)
        if not now.is_inference():
            torch.autograd.graph.increment_version(now)
        return found if whole else None

    def _unwiden(self, each: _Kept, undo: Callable[[], None]) -> bool:
        """Takes a float32 gain out again; True where it was updated, with its new value in the narrow one."""
        wide = each.piece.data()
        changed = each.written is not None and (wide.dtype == each.clean.dtype or digest(wide) != each.written)
        undo()
        if each.written is None:
            each.clean_digest = digest(each.piece.data())
        if changed and each.piece.data().data_ptr() != wide.data_ptr():
            each.piece.data().copy_(wide)
        return changed


def _form(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.device


def add_noise(work: Work, first: int, last: int, key: DrawKey, asked: float) -> None:
    """Write clean rows plus ``asked`` times their draws."""
    work.noise(first, last, key, asked)
