"""A prediction of KL from sigma, fitted on half of the doses and held against the others (numpy)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WITHIN = 0.2
"""Largest relative error at a dose that was not fitted."""


@dataclass(frozen=True)
class Fit:
    """log KL as a polynomial of log sigma (``coefficients``, highest power first), fitted at ``fitted``.

    ``checked`` are (sigma, measured, predicted, relative error) of the other doses. Without coefficients there were too
    few doses with a KL above 0, and ``holds`` is False.
    """

    coefficients: tuple[float, ...]
    fitted: tuple[float, ...]
    checked: tuple[tuple[float, float, float, float], ...]

    @property
    def holds(self) -> bool:
        """Return whether every dose that was not fitted is met within :data:`WITHIN`."""
        return bool(self.checked) and all(abs(error) <= WITHIN for *_, error in self.checked)

    def predict(self, sigma: float) -> float:
        """Return the predicted KL in nats per token."""
        return math.exp(float(np.polyval(self.coefficients, math.log(sigma))))

    @property
    def sentence(self) -> str:
        """What is to be said of it."""
        if not self.coefficients:
            return "no prediction: fewer than two fitted doses have a KL above 0"
        worst = max((abs(error) for *_, error in self.checked), default=math.inf)
        power = "a power law" if len(self.coefficients) == 2 else "a parabola in the logarithms"
        verdict = "meets" if self.holds else "does NOT meet"
        return (
            f"{power} through {len(self.fitted)} doses {verdict} the other {len(self.checked)} within "
            f"{WITHIN:.0%} (worst {worst:.0%})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        names = ("sigma", "measured", "predicted", "error")
        return {
            "coefficients": list(self.coefficients),
            "fitted": list(self.fitted),
            "checked": [dict(zip(names, each, strict=True)) for each in self.checked],
            "holds": self.holds,
            "sentence": self.sentence,
        }


def fit_kl(sigmas: Sequence[float], measured: Sequence[float]) -> Fit:
    """Return the fit on every other dose, from the lowest on: a parabola in the logarithms of three doses and more, a
    power law of two."""
    pairs = [(s, kl) for s, kl in zip(sigmas, measured, strict=True) if math.isfinite(kl) and kl > 0]
    used, others = pairs[::2], pairs[1::2]
    if len(used) < 2:
        return Fit((), tuple(s for s, _ in used), ())
    degree = 2 if len(used) > 2 else 1
    found = np.polyfit([math.log(s) for s, _ in used], [math.log(kl) for _, kl in used], degree)
    fit = Fit(tuple(map(float, found)), tuple(s for s, _ in used), ())
    checked = tuple((s, kl, fit.predict(s), fit.predict(s) / kl - 1) for s, kl in others)
    return Fit(fit.coefficients, fit.fitted, checked)
