"""Next-token distributions of a fixed text, compactly: the most probable tokens of each place and the mass of the rest.

Two of them over the same tokens give the divergence that a change of the model's arithmetic makes (numpy only).
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ids = NDArray[np.int32]

TOP = 32
"""Tokens of each place whose log-probabilities are kept."""

_SINGLE: np.dtype[np.float32] = np.dtype("<f4")
_INTEGER: np.dtype[np.int32] = np.dtype("<i4")
_ROUNDING = 1e-4
"""By how much the kept mass of a place may pass 1: float32 log-probabilities of a large vocabulary."""


@dataclass(frozen=True, eq=False)
class Keep:
    """What is kept of a scored text: the distribution at ``places`` (T numbers of its tokens, from 0), of the ``count``
    most probable tokens there, or of ``ids`` int32 (T, k) where they are given."""

    places: tuple[int, ...]
    ids: Ids | None = None
    count: int = TOP


@dataclass(frozen=True, eq=False)
class Distribution:
    """What a model expects at each of T places of a text, given what stands before them.

    ``at`` int32 (T,) are the numbers of the tokens that stand there, from 0; ``ids`` int32 (T, k) are k different
    tokens, ``logprobs`` float32 (T, k) their log-probabilities (nats), ``rest`` float32 (T,) the log of the mass of all
    other tokens together, ``least`` float32 (T,) the smallest log-probability of any token, ``best`` int32 (T,) the
    most probable token.
    """

    at: Ids
    ids: Ids
    logprobs: NDArray[np.float32]
    rest: NDArray[np.float32]
    least: NDArray[np.float32]
    best: Ids

    @property
    def places(self) -> int:
        """How many places it tells of."""
        return len(self.best)

    def written(self) -> str:
        """Return it as ASCII text: zlib over little-endian arrays behind (T, k), in base64."""
        head = np.array(self.ids.shape, dtype=_INTEGER)
        arrays = (head, self.at, self.ids, self.best, self.logprobs, self.rest, self.least)
        kinds = (_INTEGER,) * 4 + (_SINGLE,) * 3
        content = b"".join(np.asarray(each, dtype=kind).tobytes() for each, kind in zip(arrays, kinds, strict=True))
        return base64.b64encode(zlib.compress(content, 9)).decode("ascii")

    @classmethod
    def read(cls, text: str) -> Distribution:
        """Return the inverse of :meth:`written`. Raises ValueError for a text that is none, or that no model gave."""
        try:
            content = zlib.decompress(base64.b64decode(text, validate=True))
            places, kept = (int(number) for number in np.frombuffer(content, _INTEGER, 2))
            sizes = (places, places * kept, places, places * kept, places, places)
            if min(places, kept) < 1 or len(content) != 4 * (2 + sum(sizes)):
                raise ValueError("its length is not that of its places")
        except (binascii.Error, zlib.error, ValueError) as error:
            raise ValueError(f"no distribution of tokens: {error}") from None
        whole, single = np.frombuffer(content, _INTEGER), np.frombuffer(content, _SINGLE)
        at, ids, best, logprobs, rest, least = np.cumsum((2, *sizes))[:-1]
        made = cls(
            whole[at:ids],
            whole[ids:best].reshape(places, kept),
            single[logprobs:rest].reshape(places, kept),
            single[rest:least],
            single[least:],
            whole[best:logprobs],
        )
        made.check()
        return made

    @property
    def keeps_most_probable(self) -> bool:
        """Whether the kept tokens are, as far as they show it, the most probable ones: in falling order, the most
        probable one among them, where any is left out. Those that another run kept of itself are not, unless both are
        alike."""
        falling = (np.diff(self.logprobs, axis=1) <= _ROUNDING).all(1)
        holding = (self.ids == self.best[:, None]).any(1)
        return bool((falling & holding | np.isneginf(self.rest)).all())

    def check(self) -> None:
        """Raise ValueError unless each place holds different tokens whose mass, with the rest, is 1, and none of them
        is less probable than the least probable of all."""
        with np.errstate(over="ignore"):
            mass = np.exp(self.logprobs.astype(np.float64)).sum(1) + np.exp(self.rest.astype(np.float64))
        ordered = np.sort(self.ids, axis=1)
        if (np.diff(self.at, prepend=-1) <= 0).any():
            raise ValueError("no distribution of tokens: its places do not ascend")
        if (ordered[:, 1:] == ordered[:, :-1]).any() or (self.ids < 0).any():
            raise ValueError("no distribution of tokens: a place holds a token twice")
        if not np.isfinite(self.logprobs).all() or not (np.abs(mass - 1) <= _ROUNDING).all():
            raise ValueError("no distribution of tokens: the masses of a place are not 1 together")
        if not (self.least <= self.logprobs.min(1)).all():
            raise ValueError("no distribution of tokens: its least probability is above one that it keeps")


@dataclass(frozen=True, eq=False)
class Divergence:
    """How far a candidate lies from a reference at each of T places.

    ``kl`` (T,) is the Kullback-Leibler divergence (nats) of reference from candidate over the kept tokens and the rest
    as one; ``short`` (T,) bounds from above what that leaves out; ``same`` (T,) says whether both find the same token
    most probable; ``rest`` (T,) is the reference's mass (fraction) outside the kept tokens.
    """

    kl: Floats
    short: Floats
    same: NDArray[np.bool_]
    rest: Floats


def divergence(reference: Distribution, candidate: Distribution) -> Divergence:
    """Return how far ``candidate`` lies from ``reference``; the first is P, the second Q in KL(P || Q).

    Taking the rest as one token can only lower the divergence (log-sum inequality; Cover and Thomas 2006, Elements of
    Information Theory, theorem 2.7.1). With P_r and Q_r the mass of the rest, p the least kept probability of the
    reference and q the candidate's least of all, at most P_r (log(p / P_r) + log(Q_r / q)) is lost: no token of the
    rest has more than p, which holds where the kept ones are the reference's most probable.

    Raises ValueError where the two do not tell of the same tokens, and where the reference's are not its own most
    probable ones: what they leave out would have no bound.
    """
    if not reference.keeps_most_probable:
        raise ValueError("the reference keeps the most probable tokens of another run, not its own: record one of it")
    for name in ("at", "ids"):
        if not np.array_equal(getattr(reference, name), getattr(candidate, name)):
            raise ValueError("the two distributions keep different tokens")
    ours, theirs = (each.logprobs.astype(np.float64) for each in (reference, candidate))
    ours_rest, theirs_rest = (each.rest.astype(np.float64) for each in (reference, candidate))
    mass = np.exp(ours_rest)
    # a rest of nothing adds nothing; one that the candidate rules out is infinitely far away
    beyond = np.where(mass > 0, mass * _difference(ours_rest, theirs_rest), 0.0)
    kl = (np.exp(ours) * (ours - theirs)).sum(1) + beyond
    with np.errstate(invalid="ignore"):  # where nothing is left of the reference
        spread = _difference(ours.min(1), ours_rest) + _difference(theirs_rest, candidate.least.astype(np.float64))
        short = np.where(mass > 0, mass * np.maximum(spread, 0.0), 0.0)
    return Divergence(np.maximum(kl, 0.0), short, reference.best == candidate.best, mass)


def _difference(first: Floats, second: Floats) -> Floats:
    """first - second, where both may be minus infinity (then 0)."""
    with np.errstate(invalid="ignore"):
        found: Floats = np.where(first == second, 0.0, first - second)
    return found
