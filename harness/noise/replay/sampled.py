"""What a sampled answer should have been, written out from ``docs/sampling.md``: numpy, one step at a time.

Shares no code with :mod:`harness.numerics.gumbel`: who stays in the nucleus is found by adding up the more probable
tokens of one candidate, not by sorting, and a choice is wrong by the least change of logits that would explain it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.noise.replay.draws import Side, counted, hashed, label_key
from harness.spec.sampling import Sampling

Row = NDArray[np.float64]
"""One number for each token of the vocabulary."""

_FINEST, _COARSEST = 1e-7, 1e3
"""Changes of logits between which a gap is looked for; above, it is infinite."""


@dataclass(frozen=True)
class Found:
    """What the draw of one step gives: the token it chooses, and how far from the stored one that is.

    ``gap`` is the least change of differences of logits with which the stored token could have been the choice, 0
    where it is; ``token`` the stored one (of several that end an answer the likeliest to have).
    """

    best: int
    token: int
    gap: float


def draws_of(item: str, draw: int, step: int, tokens: Side) -> Row:
    """Return the Gumbel draws of one step of an answer, one for each key of :func:`columns`.

    -log(E) of the exponential E = -log1p(-v), where v is the distance of the uniform number from 1.
    """
    row = Side.of(counted(label_key("sampled answer", draw, item), [step]), tokens.low.device).view(1, 1)
    unsigned = hashed(row, tokens)[0].cpu().numpy().astype(np.int64) + 2**31
    distance = (2**32 - 1 - unsigned + 0.5) / 2**32
    gumbel: Row = -np.log(-np.log1p(-distance))
    return gumbel


def columns(vocabulary: int) -> Side:
    """Return the column keys of the token ids 0 to ``vocabulary - 1``."""
    return Side.of(counted(label_key("sampled token"), np.arange(vocabulary, dtype=np.uint64))).view(1, -1)


class Step:
    """The draw of one step from its ``logits`` and the Gumbel ``draws`` (both one number for each token)."""

    def __init__(self, logits: Row, draws: Row, sampling: Sampling) -> None:
        self._logits, self._sampling = logits, sampling
        self._scores = logits + sampling.temperature * draws
        with np.errstate(invalid="ignore"):
            weights = np.exp((logits - logits.max()) / sampling.temperature)
            self._shares = weights / weights.sum()
        self.sound = bool(np.isfinite(self._shares).all())

    def choice(self) -> int:
        """Return the token with the largest score of those that stay."""
        for token in np.argsort(-self._scores, kind="stable"):
            if self._before(int(token)) < self._sampling.top_p:
                return int(token)
        raise AssertionError("the most probable token always stays")

    def _before(self, token: int) -> float:
        """The probability of everything that comes before ``token``."""
        own = self._logits[token]
        equal = np.flatnonzero(self._logits == own)
        return float(self._shares[self._logits > own].sum() + self._shares[equal[equal < token]].sum())

    def gap(self, token: int) -> float:
        """Return the least change of differences of logits with which ``token`` could be the choice; 0 if it is."""
        if token == self.choice():
            return 0.0
        if not self._explained(token, _COARSEST):
            return math.inf
        low, high = math.log(_FINEST), math.log(_COARSEST)
        while high - low > 1e-3:
            middle = (low + high) / 2
            low, high = (low, middle) if self._explained(token, math.exp(middle)) else (middle, high)
        return math.exp(high)

    def _explained(self, token: int, change: float) -> bool:
        """Whether ``token`` may stay, and nothing that surely stays beats it, where logits change by ``change``."""
        mine = self._logits[token]
        surely_before = self._logits > mine + change
        if not self._below(float(self._shares[surely_before].sum()), -change):
            return False
        better = np.flatnonzero(self._scores > self._scores[token] + change)
        if not len(better):
            return True
        strongest = better[np.argmax(self._logits[better])]  # none of the others stays more surely
        maybe_before = self._logits > self._logits[strongest] - change
        maybe_before[strongest] = False
        return not self._below(float(self._shares[maybe_before].sum()), change)

    def _below(self, share: float, change: float) -> bool:
        """Whether a ``share`` of the probability is below top_p when its odds change by exp(change / temperature)."""
        if self._sampling.top_p >= 1 or share <= 0:
            return True
        if share >= 1:
            return False
        return math.log(share) - math.log1p(-share) + change / self._sampling.temperature < _log_odds(
            self._sampling.top_p
        )


def _log_odds(share: float) -> float:
    return math.log(share) - math.log1p(-share)


def judged_step(logits: Row, draws: Row, sampling: Sampling, stored: Sequence[int]) -> Found:
    """Return what the draw gives beside the ``stored`` token, one of several where they end an answer.

    Logits that are not finite, as a flipped bit leaves them, have no distribution: the largest decides, NaN first.
    """
    step = Step(logits, draws, sampling)
    if not step.sound:
        best = int(np.argmax(logits))
        return Found(best, best, 0.0) if best in stored else Found(best, stored[0], math.inf)
    best = step.choice()
    if best in stored:
        return Found(best, best, 0.0)
    gaps = {token: step.gap(token) for token in stored}
    token = min(gaps, key=gaps.__getitem__)
    return Found(best, token, gaps[token])
