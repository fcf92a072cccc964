"""The one home of the limits that decide whether an injection was effective."""

from __future__ import annotations

EFFECT_LOW, EFFECT_HIGH = 0.9, 1.15
"""The achieved relative error (RMS of dy/y) must lie within these factors of the request ..."""

EFFECT_MIN_ELEMENTS = 1000
"""... from this many non-zero elements on; with fewer, within :data:`EFFECT_Z` standard errors."""

EFFECT_Z = 5.0

LEAST_CHANGED = {"float32": 0.99}
"""Least share of non-zero elements that noise must change, by dtype (a draw is exactly 0 with probability 0.0026).
Lower precisions swallow small noise by rounding; for them the achieved error alone decides."""

LEAST_RELATIVE = {"bfloat16": 3e-3, "float16": 4e-4}
"""Relative error (RMS, fraction) below which rounding swallows much of the noise, by dtype: about 0.8 of the largest
spacing of neighbouring numbers."""

CONTROL_SCALE = 1.0
"""Scale of the positive control (fraction): known to destroy every model."""

CONTROL_ITEMS = 16

REPLAY_LEAST = 8
"""Records of a level that a second implementation replays at least, and clean items that the engine generates twice."""

REPLAY_SHARE = 0.06
"""Share of a level's records that is replayed (fraction)."""

REPLAY_BOUNDS = {"float32": (2e-3, 2e-3), "float16": (0.1, 0.1), "bfloat16": (0.5, 0.5)}
"""(gap of a tie, distance of a logit computed twice), by dtype: see docs/draws.md for what was measured."""

REPLAY_ROUGH = {"float32": (0.5, 0.5), "float16": (1.0, 1.0), "bfloat16": (2.0, 2.0)}
"""The same where values are rounded to a grid on the way."""

ALPHA = 0.05
"""One-sided level of intervals and tests where no policy says another."""

FLOOR = 0.10
"""A clean accuracy whose Wilson lower bound is below this fraction has nothing to lose, so it proves nothing."""

LEARNED_NATS = 0.5
"""What a model that has learned anything gains for each token of a text over all tokens being alike, at least."""

MARGIN = 0.06
"""The accepted drop (fraction) where nobody chose one: the narrowest whole point at which what lost nothing
PASSes the shipped baseline with a probability of at least 0.8 over all its levels (docs/gate.md)."""

LEAST_SHARE = 0.5
"""Share of the floating-point operations of all matrix products (forward over one token) below which noise that was
asked for everywhere is not everywhere."""

TIE_SHARE = {"float32": 0.005, "float16": 0.1, "bfloat16": 0.5}
"""Share of records (fraction) in which near ties of two logits may give other tokens where everything is equal but
the last bits of products (batch shape, machine, library), by dtype. In float32 logits move by at most 5e-5 and no
record of 256 differed; bfloat16 has exact ties."""

TIE_ALPHA = 1e-3
"""A number of differing records that near ties reach with less than this probability is no accident."""


def effect_bounds(nonzero: int) -> tuple[float, float]:
    """Return the allowed factors achieved / requested for ``nonzero`` elements.

    The mean of n squared standard normal draws has standard deviation sqrt(2 / n), so its root has about
    1 / sqrt(2 n); with few elements the bound is :data:`EFFECT_Z` of those, never narrower than with many.
    """
    if nonzero >= EFFECT_MIN_ELEMENTS:
        return EFFECT_LOW, EFFECT_HIGH
    half = EFFECT_Z / (2 * max(nonzero, 1)) ** 0.5
    return min(EFFECT_LOW, 1 - half), max(EFFECT_HIGH, 1 + half)
