"""How much of a model the noise reaches, as data and as one line (standard library only)."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Coverage:
    """How much of the model the noise reaches: part of what was measured.

    ``share`` is the fraction of the floating-point operations of all matrix products, in a forward over one token,
    whose result is perturbed; ``share_longest`` the same over ``longest`` tokens, where attention weighs more (it is
    shown, and no part of the measurement: it depends on the items). ``left_out`` maps every module that runs a product
    which is not perturbed to the reason. ``digest`` is over the names of the sites and of what was left out;
    ``named`` says that the specification itself names what it leaves out.
    """

    sites: int
    share: float
    left_out: Mapping[str, str]
    digest: str
    named: bool
    longest: int = 1
    share_longest: float = 0.0

    @property
    def text(self) -> str:
        """One line for the measurement key: equal exactly where the coverage is."""
        out = ", ".join(numbered(self.left_out)) or "nothing"
        return f"{self.sites} sites, {share_text(self.share)} % of product FLOPs, left out: {out} [{self.digest}]"

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Coverage:
        """Return the inverse of :meth:`to_json`. Raises TypeError for what is damaged."""
        return cls(**data)


def coverage_digest(sites: Iterable[str], left_out: Iterable[str]) -> str:
    """Return 8 hex digits over the names of sites and of the modules that were left out."""
    return hashlib.sha256("\n".join([*sorted(sites), "", *sorted(left_out)]).encode()).hexdigest()[:8]


NAMED_GROUPS = 4
"""Groups of modules that the line of a coverage names; the digest covers all of them."""


def share_text(share: float) -> str:
    """Return a fraction in percent, rounded down to a tenth: only all of it shows as 100."""
    return f"{math.floor(1000 * share + 1e-9) / 10:g}"


def numbered(names: Iterable[str]) -> list[str]:
    """Return the names of modules with those that differ in their first number joined, ``model.layers.0-3.self_attn``;
    at most :data:`NAMED_GROUPS` of them and the number of the others."""
    groups: dict[tuple[str, str], list[int]] = {}
    for name in names:
        found = re.fullmatch(r"(|.*?\.)(\d+)(\..*|)", name)
        key = (found[1], found[3]) if found else (name, "")
        groups.setdefault(key, []).extend([int(found[2])] if found else [])
    shown = [f"{head}{_ranges(numbers)}{tail}" for (head, tail), numbers in sorted(groups.items())]
    more = len(shown) - NAMED_GROUPS
    return shown if more <= 1 else [*shown[:NAMED_GROUPS], f"{more} more"]


def _ranges(numbers: Iterable[int]) -> str:
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in parts)
