"""Which rows a selection of tokens takes, as an auditor reckons it: from the lengths of prompts and answers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from harness.spec.tokens import Span, in_spans


class Selected:
    """The rows that ``spans`` (:mod:`harness.spec.tokens`) select at ``sites``, forward by forward.

    ``rows`` counts those that were seen, by site, ``strays`` the elements of all other rows that came out changed.
    """

    def __init__(self, spans: Sequence[Span], sites: Iterable[str]) -> None:
        self.rows: Counter[str] = Counter()
        self.strays: Counter[str] = Counter()
        self._spans, self._sites = tuple(spans), frozenset(sites)
        self._last: Sequence[int] = ()

    def begin(self, last: Sequence[int]) -> None:
        """Start a forward whose last tokens have these steps, one for each sequence."""
        self._last = last

    def at(self, site: str, batch: int, tokens: int, device: torch.device) -> Tensor | None:
        """Return bool (batch, tokens), True in the selected rows of the last ``tokens`` of each sequence; None where
        ``site`` is not limited, or the tensor holds other rows."""
        if not self._spans or site not in self._sites or batch != len(self._last):
            return None
        wanted = [[in_spans(last - back, self._spans) for back in range(tokens - 1, -1, -1)] for last in self._last]
        return torch.tensor(wanted, dtype=torch.bool, device=device).reshape(batch, tokens)

    def book(self, site: str, rows: int, strays: int) -> None:
        """Count selected rows of ``site``, and changed elements of others."""
        self.rows[site] += rows
        self.strays[site] += strays

    def shown(self, site: str) -> bool:
        """Return False where ``site`` is limited and no selected row of it was seen, so that it need show no noise."""
        return not self._spans or site not in self._sites or self.rows[site] > 0
