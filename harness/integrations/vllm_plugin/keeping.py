"""The distributions at places of a scored prompt, taken where vLLM computes its logits, in its own process.

vLLM hands log-probabilities of its own most probable tokens to its caller (``prompt_logprobs``, at most
``max_logprobs`` of them): neither those of tokens that a reference kept, nor the smallest, nor the mass of the rest to
more than rounding. The logits have all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.distributions import Distribution, Keep
from harness.numerics.keeping import distribution_of

FIELD = "kept"
"""Of a request's arguments: what is kept of it."""


@dataclass(frozen=True)
class Wanted:
    """What a request keeps: at the places of ``keep``, counted from token ``first`` of its prompt, which is scored."""

    first: int
    keep: Keep

    def to_json(self) -> dict[str, Any]:
        """Return the dictionary for the extra arguments of sampling parameters."""
        ids = None if self.keep.ids is None else self.keep.ids.tolist()
        return {"first": self.first, "places": list(self.keep.places), "ids": ids, "count": self.keep.count}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Wanted:
        """Return the inverse of :meth:`to_json`."""
        ids = None if data["ids"] is None else np.asarray(data["ids"], dtype=np.int32)
        return cls(int(data["first"]), Keep(tuple(data["places"]), ids, int(data["count"])))

    def within(self, start: int, count: int) -> tuple[list[int], list[int]]:
        """Return which of the places (by number) the rows ``start`` to ``start + count`` predict, and in which of these
        rows: a token is predicted one row before it stands."""
        rows = [self.first - 1 + place - start for place in self.keep.places]
        found = [(number, row) for number, row in enumerate(rows) if 0 <= row < count]
        return [number for number, _ in found], [row for _, row in found]


class Keeper:
    """Collects what requests keep, forward by forward: a prompt may be fed in parts, and fed again."""

    def __init__(self) -> None:
        self._found: dict[tuple[Any, ...], dict[int, Distribution]] = {}

    def take(self, name: tuple[Any, ...], wanted: Wanted, start: int, logits: Tensor) -> None:
        """Keep what ``logits`` (rows, vocabulary), of the rows of the prompt from ``start`` on, say of its places."""
        numbers, rows = wanted.within(start, len(logits))
        if not numbers:
            return
        keep = wanted.keep
        logprobs = torch.log_softmax(logits[rows].float(), -1)
        ids = None if keep.ids is None else keep.ids[numbers]
        found = distribution_of(logprobs, Keep(tuple(range(len(rows))), ids, keep.count))
        own = self._found.setdefault(name, {})
        for row, number in enumerate(numbers):
            own[keep.places[number]] = _one(found, row)

    def drain(self) -> list[tuple[list[Any], str]]:
        """Return (name, text of the distribution) of every request, and forget them."""
        found, self._found = self._found, {}
        return [(list(name), _joined(own).written()) for name, own in found.items()]


def _one(found: Distribution, row: int) -> Distribution:
    return Distribution(*(getattr(found, name)[row : row + 1] for name in _ARRAYS))


_ARRAYS = ("at", "ids", "logprobs", "rest", "least", "best")


def _joined(own: Mapping[int, Distribution]) -> Distribution:
    ordered = [own[place] for place in sorted(own)]
    joined = Distribution(*(np.concatenate([getattr(each, name) for each in ordered]) for name in _ARRAYS))
    return replace(joined, at=np.array(sorted(own), dtype=np.int32))


def merged(reports: Sequence[Sequence[Any]]) -> dict[tuple[Any, ...], Distribution]:
    """Return what every process kept, by the name of the request. Raises ValueError for what is no distribution."""
    return {tuple(name): Distribution.read(text) for report in reports for name, text in report}
