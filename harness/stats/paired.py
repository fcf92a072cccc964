"""Score intervals for paired binary outcomes: their difference and their ratio.

Both invert the score statistic T = numerator / sqrt(n * variance), where the variance per pair is taken at the
maximum-likelihood estimate under the tested value. That estimate is the larger root of a quadratic, here written
directly for the variance, which avoids the cancellation of the usual form.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.optimize import brentq

from harness.stats.interval import Interval
from harness.stats.quantiles import z_quantile, zero_discordance


def _larger_root(a: float, b: float, c: float) -> float:
    """The larger root of a x^2 + b x + c with a > 0, without cancellation; never negative."""
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    if b <= 0:
        return max(0.0, (root - b) / (2 * a))
    return max(0.0, -2 * c / (b + root))


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    return float(brentq(function, low, high, xtol=1e-14, rtol=1e-14, maxiter=500))


def difference_variance(lost: float, gained: float, delta: float) -> float:
    """Return the variance of one pair's difference if the true difference is ``delta`` (Tango 1998).

    ``lost`` and ``gained`` are fractions of all pairs; ``delta`` (fraction) lies in [-1, 1].
    """
    observed = gained - lost
    b = -(lost + gained) - observed * delta + 2 * delta * delta
    return _larger_root(1.0, b, delta * (1 - delta * delta) * (observed - delta))


def ratio_variance(both: float, gained: float, lost: float, ratio: float) -> float:
    """Return the variance of one pair's ``noisy - ratio * clean`` if ``ratio`` is true (Nam and Blackwelder 2002).

    ``both``, ``gained`` and ``lost`` are fractions of all pairs (or counts: the result then scales alike).
    """
    noisy, clean, some = both + gained, both + lost, both + gained + lost
    b = 2 * some * (1 - ratio) - clean * (1 - ratio * ratio) - gained - lost
    return some * _larger_root(some, b, -ratio * (1 - ratio) * (noisy - ratio * clean))


def checked_counts(**counts: float) -> list[float]:
    """Return the counts as plain floats. Raises ``ValueError`` unless each is finite and at least 0."""
    for name, count in counts.items():
        if not 0 <= count < math.inf:
            raise ValueError(f"{name}={count!r}; a count must be finite and at least 0")
    return [float(count) for count in counts.values()]


def _tango_low(lost: float, gained: float, n: float, z: float) -> float:
    """The lower bound; the upper one follows by exchanging ``lost`` and ``gained``."""
    p, q = lost / n, gained / n
    estimate = q - p
    # The closed forms are the tables in which the variance vanishes at the estimate.
    if lost == gained == 0:
        return -z * z / (n + z * z)
    if gained == n:
        return (n - z * z) / (n + z * z)
    if lost == n:
        return -1.0
    scale = z / math.sqrt(n)
    return _root(lambda d: estimate - d - scale * math.sqrt(difference_variance(p, q, d)), -1.0, estimate)


def tango(lost: float, gained: float, n: float, alpha: float = 0.05) -> Interval:
    """Score interval of the paired difference ``(gained - lost) / n`` (fraction), one-sided ``alpha`` per bound.

    ``lost`` pairs are right in the reference only, ``gained`` in the judged arm only; ``n`` counts all pairs.
    Counts may be fractional (scaled tables). ``n`` = 0 gives the estimate NaN and the bounds -1 and 1; without
    discordant pairs the half-width is z^2/(n + z^2). Raises ``ValueError`` on counts that do not fit.
    Source: Tango (1998), Statistics in Medicine 17, 891-908.
    """
    z = z_quantile(alpha)
    lost, gained, n = checked_counts(lost=lost, gained=gained, n=n)
    if lost + gained > n * (1 + 1e-12):
        raise ValueError(f"{lost!r} lost and {gained!r} gained pairs of {n!r}; they must not exceed n")
    if n == 0:
        return Interval(math.nan, -1.0, 1.0)
    if lost == gained == 0:
        width = zero_discordance(n, alpha)
        return Interval(0.0, -width, width)
    return Interval((gained - lost) / n, _tango_low(lost, gained, n, z), -_tango_low(gained, lost, n, z))


def ratio_score(n11: float, n10: float, n01: float, n00: float, alpha: float = 0.05) -> Interval | None:
    """Score interval of the paired ratio p(noisy) / p(clean), one-sided ``alpha`` per bound.

    The first index is the noisy outcome, the second the clean one: ``n10`` pairs are right under noise only
    (gained), ``n01`` clean only (lost). The ratio is a plain number (1.0: nothing lost); ``n00`` carries no
    information about it. Returns ``None`` where it is undefined: no pair is right without noise.
    Raises ``ValueError`` on negative counts.
    Source: Tang, Tang and Chan (2003), Nam and Blackwelder (2002), both in Statistics in Medicine.
    """
    z = z_quantile(alpha)
    n11, n10, n01, n00 = checked_counts(n11=n11, n10=n10, n01=n01, n00=n00)
    noisy, clean, some = n11 + n10, n11 + n01, n11 + n10 + n01
    if clean == 0:
        return None
    if n10 == n01 == 0:
        return Interval(1.0, some / (some + z * z), (some + z * z) / some)
    if noisy == 0:
        return Interval(0.0, 0.0, z * z / some)
    estimate = noisy / clean

    def excess(ratio: float, sign: float) -> float:
        return noisy - ratio * clean - sign * z * math.sqrt(ratio_variance(n11, n10, n01, ratio))

    # The variance is at most some * ratio, so these values enclose the bounds.
    spread, middle = z * math.sqrt(some), math.sqrt(z * z * some + 4 * clean * noisy)
    outer_low = (2 * noisy / (spread + middle)) ** 2 * (1 - 1e-9)
    outer_high = ((spread + middle) / (2 * clean)) ** 2 * (1 + 1e-9)
    low = _root(lambda ratio: excess(ratio, 1.0), outer_low, estimate)
    high = _root(lambda ratio: excess(ratio, -1.0), estimate, outer_high)
    return Interval(estimate, low, high)
