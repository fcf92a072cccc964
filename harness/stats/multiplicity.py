"""Several hypotheses held together: which family they form, and which of them stand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from harness.stats.checks import ScoreError

ALL_MUST_PASS, HOLM, BENJAMINI_HOCHBERG, FIXED_SEQUENCE = (
    "all-must-pass",
    "holm",
    "benjamini-hochberg",
    "fixed-sequence",
)
FAMILIES = {
    ALL_MUST_PASS: "all must pass (intersection-union test): no correction is needed",
    HOLM: "Holm: the chance of any false rejection stays at alpha",
    BENJAMINI_HOCHBERG: "Benjamini-Hochberg: the expected share of false rejections stays at alpha",
    FIXED_SEQUENCE: "fixed sequence: each is tested at alpha after all before it were rejected",
}
"""Name of each family -> what it holds, for reports."""


@dataclass(frozen=True)
class Family:
    """Hypotheses judged together. ``p_values``, ``adjusted`` and ``rejected`` are by name, in the order given.

    Adjusted p-values are compared with ``alpha`` directly.
    """

    kind: str
    alpha: float
    p_values: Mapping[str, float]
    adjusted: Mapping[str, float]
    rejected: Mapping[str, bool]

    @property
    def label(self) -> str:
        """The family in words, for outputs."""
        return f"{FAMILIES[self.kind]} ({len(self.p_values)} hypotheses, alpha {self.alpha:g})"

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON; ``family`` names it."""
        rows = {
            name: {"p": p, "adjusted": self.adjusted[name], "rejected": self.rejected[name]}
            for name, p in self.p_values.items()
        }
        return {"family": self.label, "kind": self.kind, "alpha": self.alpha, "hypotheses": rows}


def judge_family(kind: str, p_values: Mapping[str, float], alpha: float = 0.05) -> Family:
    """Judge ``p_values`` (name -> p) as one of :data:`FAMILIES`. For a fixed sequence their order is the sequence.

    All-must-pass: the adjusted p of each is the largest of all, because only all together are claimed. No hypothesis
    gives an empty family. Raises :class:`ScoreError` on an unknown kind, an alpha outside (0, 1), or a p outside
    [0, 1]. Sources: Berger (1982), Technometrics 24, 295-300; Holm (1979), Scandinavian Journal of Statistics 6,
    65-70; Benjamini and Hochberg (1995), JRSS B 57, 289-300. Holm is that of statsmodels' ``multipletests``.
    """
    if kind not in FAMILIES:
        raise ScoreError(f"family {kind!r}", f"it is one of {', '.join(FAMILIES)}", "name one of them")
    if not 0 < alpha < 1:
        raise ScoreError(f"alpha {alpha!r}", "it lies between 0 and 1", "use 0.05")
    for name, p in p_values.items():
        if math.isnan(p) or not 0 <= p <= 1:
            raise ScoreError(f"p-value {p!r} of {name}", "a p-value lies in [0, 1]", "leave out what was not tested")
    adjusted = dict(zip(p_values, _adjusted(kind, np.array(list(p_values.values()))), strict=True))
    rejected = {name: p <= alpha for name, p in adjusted.items()}
    return Family(kind, alpha, dict(p_values), adjusted, rejected)


def _adjusted(kind: str, values: np.ndarray) -> list[float]:
    if not len(values):
        return []
    if kind == ALL_MUST_PASS:
        return [float(values.max())] * len(values)
    if kind == FIXED_SEQUENCE:
        return [float(p) for p in np.maximum.accumulate(values)]
    if kind == BENJAMINI_HOCHBERG:
        return [float(p) for p in stats.false_discovery_control(values)]
    # by hand: multipletests collects garbage in every call, which takes longer than a whole gate
    order = np.argsort(values)
    found = np.empty(len(values))
    found[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return [float(p) for p in found]
