"""The variance of a mean under the hypothesis that is tested, for any scores within a range.

Student's t takes the variance of the sample. Where few items are lost whole, a sample that happens to hold few of
them has a small mean loss and a small variance, so that it passes far too often (14.5 % at nominal 5 %). A score test
takes the variance under the hypothesis instead: of all distributions on the observed scores and on both ends of their
range whose mean is the tested one, the one that makes the sample most likely. Its weights are
``p = w / (1 + tilt * y)`` for the distance ``y`` of a score from the tested mean, and with a tilt that would take
``1 + tilt * y`` below 0 at an end, that end has a share of its own. For scores of -1, 0 and 1 this is Tango's test.

Two facts make it cheap: with ``gap`` the mean of ``y``, the variance is ``gap / tilt`` (also with mass at an end), so
that whether a value is accepted needs no search for its tilt (:func:`beyond_null`), and the tilt grows as the tested
mean leaves the sample's, so that what is accepted is an interval.
Sources: Tango (1998), Statistics in Medicine 17, 891-908; Owen (2001), Empirical Likelihood, section 2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from harness.stats.checks import Floats

_HALVINGS = 52
"""Steps of a bisection: all that a double holds."""

_LEAST = 1e-300
_CLOSE = 1e-13


def null_variance(distances: Floats, weights: Floats, low: ArrayLike, high: ArrayLike) -> Floats:
    """Return the variance of one score if the mean distance were 0.

    ``distances`` (..., k) of the observed scores from the tested mean, ``weights`` (..., k) their shares, which add up
    to 1; ``low`` < 0 < ``high`` (...) the distances of the ends of the range. Where the mean distance is 0 it is the
    sample's own (with n). All of the leading shape are computed at once.
    """
    gap = (weights * distances).sum(axis=-1)
    upward = np.where(gap < 0, -1.0, 1.0)
    own = (weights * distances * distances).sum(axis=-1)
    end = np.maximum(np.where(gap < 0, np.asarray(high), -np.asarray(low)), _LEAST)
    tilt = _tilt(distances * upward[..., None], weights, np.abs(gap) / np.maximum(own, _LEAST), 1 / end)
    found: Floats = np.where(np.abs(gap) < 1e-15, own, np.abs(gap) / np.maximum(tilt, _LEAST))
    return found


def beyond_null(distances: Floats, weights: Floats, low: ArrayLike, high: ArrayLike, accepted: float) -> Floats:
    """Return a number that is above 0 exactly where the squared gap exceeds ``accepted`` times :func:`null_variance`,
    for a quantile z of n items z^2 / n; shapes as there.

    The gap is that large where ``gap * tilt`` exceeds ``accepted``, so that it is enough to see on which side of the
    tilt ``accepted / gap`` lies.
    """
    gap = (weights * distances).sum(axis=-1)
    upward = np.where(gap < 0, -1.0, 1.0)
    gap = np.maximum(np.abs(gap), _LEAST)
    most = 1 / np.maximum(np.where(upward < 0, np.asarray(high), -np.asarray(low)), _LEAST)
    tilt = np.minimum(accepted / gap, most)
    y = distances * upward[..., None]
    tilted = (weights * y / np.maximum(1 + tilt[..., None] * y, _CLOSE)).sum(axis=-1)
    # where even the largest tilt is accepted it is below 0, and meets the other branch: 0 is a bound, for a search
    within = np.minimum(gap * most - accepted, 0.0) + np.minimum(tilted, 0.0)
    found: Floats = np.where(accepted / gap < most, tilted, within)
    return found


def _tilt(distances: Floats, weights: Floats, start: Floats, most: Floats) -> Floats:
    """The tilt at which the mean distance under the tilted weights is 0, at most ``most``: Newton's steps, and halving
    where one would leave what is known to hold the tilt."""

    def tilted(at: Floats) -> tuple[Floats, Floats]:
        parts = distances / np.maximum(1 + at[..., None] * distances, _CLOSE)
        weighted = weights * parts
        return weighted.sum(axis=-1), (weighted * parts).sum(axis=-1)

    held = tilted(most)[0] >= 0  # an end of the range has a share of its own: nothing to search for
    below, above = np.zeros_like(most), np.array(most)
    tilt = np.where(held, most, np.minimum(start, above / 2))
    for _ in range(2 * _HALVINGS):
        mean, slope = tilted(tilt)
        below, above = np.where(mean > 0, tilt, below), np.where(mean > 0, above, tilt)
        newton = tilt + mean / np.maximum(slope, _LEAST)
        middle = (below + above) / 2
        following = np.where((newton >= below) & (newton <= above), newton, middle)
        following = np.where(held, most, following)
        if bool((np.abs(following - tilt) <= _CLOSE * most).all()):
            return following
        tilt = following
    return tilt


def outermost(distance: Callable[[float], float], inside: float, outside: float) -> float:
    """Return the value between ``inside``, whose ``distance`` is at most 0, and ``outside`` where it becomes more than
    0; ``outside`` where it does not."""
    if distance(outside) <= 0:
        return outside
    if distance(inside) >= 0 or inside == outside:
        return inside
    return float(brentq(distance, inside, outside, xtol=1e-14, rtol=1e-14, maxiter=500))
