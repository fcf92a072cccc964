"""The quantiles that all intervals share, and the width that zero discordance leaves open."""

from __future__ import annotations

from functools import lru_cache

from scipy import special


def check_alpha(alpha: float) -> float:
    """Return ``alpha`` (one-sided level, fraction); raise ``ValueError`` unless 0 < alpha < 0.5."""
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha={alpha!r}; the one-sided level must lie between 0 and 0.5; use 0.05")
    return alpha


@lru_cache(maxsize=64)
def z_quantile(alpha: float) -> float:
    """Return the upper ``alpha`` quantile of the normal distribution (1.645 for 0.05)."""
    return float(-special.ndtri(check_alpha(alpha)))


@lru_cache(maxsize=1024)
def t_quantile(alpha: float, freedom: float) -> float:
    """Return the upper ``alpha`` quantile of Student's t with ``freedom`` >= 1 degrees of freedom (need not be
    whole)."""
    return float(-special.stdtrit(freedom, check_alpha(alpha)))


def zero_discordance(n: float, alpha: float = 0.05) -> float:
    """Return the half-width z^2/(n + z^2) (fraction) of Tango's interval where no pair of ``n`` is discordant.

    A sample in which nothing changed still leaves this much open; no interval here is narrower. 1 for n = 0.
    """
    square = z_quantile(alpha) ** 2
    return square / (n + square)
