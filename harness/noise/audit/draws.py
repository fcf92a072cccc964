"""Looks at the draws behind the noise: their moments, their independence, and whether they are those of their keys.

A draw is recovered as z = (used - result) / (scale * result), or without the last factor where the error is absolute.
What it should be is computed again from item, seed, position and site by the second implementation of the draw
(:mod:`harness.noise.replay.draws`), for some rows of every audited forward; moments and correlations are taken over
more of them and held against what :mod:`harness.stats.draw_moments` gives.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from harness.noise.replay.draws import Side, columns_of, counted, row_stream
from harness.noise.replay.errors import perturbed
from harness.spec.error_base import RELATIVE, ErrorModel
from harness.stats.draw_moments import FALSE_ALARM, share_beyond

SEQUENCES, TOKENS, COLUMNS = 16, 16, 2048
"""How many sequences of a forward, last tokens of them and columns the moments are taken over."""

EXACT_ROWS = 8
"""Rows of a forward whose draws are computed again."""

RARE, STRUCK_ROWS = 1e-3, 32
"""Of an error model that changes at most this share of elements, so many further rows that did change are computed
again: those of any choice hold next to no event."""

SITES, KIN, SEEDS, ROWS, POSITIONS, FEATURES = (
    "the site before it",
    "the site of its name in the layer before",
    "another seed of its item",
    "another item",
    "the token before it",
    "the column before it",
)
"""What the draws of a site are correlated with."""

MOST_SLACK = 0.5
"""Error of a recovered draw from which on nothing can be said about its distribution: the dtype swallows it."""

ABSOLUTE_SLACK = 0.01
"""Error of a recovered draw that rounding may leave under an absolute error; larger results are left out."""


Owner = tuple[str, int]
"""The item and the noise seed of a row."""


@dataclass
class Sums:
    """Over the recovered draws of a site: their number, sums of powers, those in the tails, and products with others.

    ``products`` and ``pairs`` hold, for each kind of neighbour, the sum of z * z' and the number of pairs.
    """

    count: float = 0.0
    first: float = 0.0
    second: float = 0.0
    fourth: float = 0.0
    beyond: float = 0.0
    products: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)

    def add(self, other: Sums) -> None:
        """Add the sums of another site, or of another forward."""
        for name in ("count", "first", "second", "fourth", "beyond"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in ((self.products, other.products), (self.pairs, other.pairs)):
            for kind, number in theirs.items():
                mine[kind] += number


class Draws:
    """Collects what audited forwards show of the draws of ``error`` at ``level``, at the ``sites`` that are perturbed.

    ``shared`` is True under ``key:shared``; ``lot`` seeds the choice of rows. ``sums`` is by site, ``wrong`` counts the
    elements that are not those of their key, ``checked`` those looked at, ``still`` rows that nothing changed although
    they have elements enough; ``slack`` is what rounding may do to a recovered draw.
    """

    def __init__(
        self,
        error: ErrorModel,
        level: float,
        sites: Iterable[str],
        shared: bool = False,
        lot: int = 0,
    ) -> None:
        self.error, self.level = error, level
        self._sites = frozenset(sites)
        self.sums: dict[str, Sums] = {}
        self.wrong: Counter[str] = Counter()
        self.checked: Counter[str] = Counter()
        self.still: Counter[str] = Counter()
        self.slack = 0.0
        self._shared, self._lot = shared, lot
        self._relative = error.gaussian == RELATIVE
        self._gaussian = bool(level) and bool(error.gaussian)
        self._keyed = bool(level) and error.random and not error.fresh and bool(error.replayed_by)
        share = error.expected_share(level) if self._keyed else None
        self._rare = share is not None and share <= RARE
        self._columns: dict[tuple[str, int, torch.device], Side] = {}
        self._forget()

    def _forget(self) -> None:
        self._before: Tensor | None = None
        self._kin: dict[str, Tensor] = {}
        self._rows: Sequence[Owner] = ()
        self._lengths: Sequence[int] = ()

    def begin(self, step: int, owners: Sequence[Owner], lengths: Sequence[int]) -> None:
        """Start a forward, number ``step`` of its batch, over rows of these ``owners``, each of which has had this many
        tokens of ``lengths``, this forward's included."""
        self._forget()
        self._rows, self._lengths, self._step = owners, lengths, step
        generator = random.Random(f"{self._lot} {step}")
        self._start = generator.randrange(max(1, len(owners) - SEQUENCES + 1))
        if self._shared:  # rows of other items have the same draws
            item = self._rows[self._start][0]
            self._start = next(place for place, (other, _) in enumerate(self._rows) if other == item)
        self._exact = [
            (row, generator.random()) for row in generator.sample(range(len(owners)), min(EXACT_ROWS, len(owners)))
        ]
        self._streams: dict[int, int] = {}

    def look(
        self,
        site: str,
        exact: Tensor,
        used: Tensor,
        real: Tensor,
        chosen: Tensor | None = None,
        picked: Tensor | None = None,
    ) -> None:
        """Take in one result of ``site`` (batch, tokens, columns): what it was, what it became; ``real`` (batch,
        tokens) is False at padding, which stands on the left. With ``chosen`` (batch, tokens, experts chosen) a token
        has a row for each of its experts, one after the other. ``picked`` bool (as ``real``) are the rows to
        which the noise is limited, None where it is not; others show no draws."""
        if site not in self._sites or len(self._rows) != len(exact) or exact.dtype == torch.float64:
            return
        noisy = real if picked is None else picked & real
        if self._keyed:
            self._compare(site, exact, used, noisy, chosen)
        if self._gaussian:
            self._sum(site, exact, used, noisy)
            self._still(site, exact, used, noisy)

    def _compare(self, site: str, exact: Tensor, used: Tensor, noisy: Tensor, chosen: Tensor | None) -> None:
        """Computes some ``noisy`` rows again. The head sees only the last tokens: positions count from the last one
        back."""
        each = 1 if chosen is None else chosen.shape[2]
        tokens = exact.shape[1] // each
        batch: list[int] = []
        places: list[int] = []
        keys: list[int] = []
        wanted = []
        for row, fraction in self._exact:
            there = noisy[row, ::each].nonzero()[:, 0]
            if len(there):
                wanted.append((row, int(there[int(fraction * len(there))])))
        if self._rare:
            wanted += self._struck(site, exact, used, noisy, each)
        for row, token in dict.fromkeys(wanted):
            key = int(counted(self._stream(row), [self._lengths[row] - (tokens - token)])[0])
            batch += [row] * each
            places += range(token * each, (token + 1) * each)
            keys += [key] if chosen is None else counted(key, chosen[row, token].tolist()).tolist()
        if not keys:
            return
        rows = Side.of(np.array(keys, dtype=np.uint64), exact.device).view(-1, 1)
        before, after = exact[batch, places], used[batch, places]
        expected = perturbed(
            self.error, before, rows, self._columns_of(site, exact.shape[-1], exact.device), self.level
        )
        differ = (after != expected) & ~(after.isnan() & expected.isnan())
        self.wrong[site] += int(differ.sum())
        self.checked[site] += differ.numel()

    def _struck(self, site: str, exact: Tensor, used: Tensor, noisy: Tensor, each: int) -> list[tuple[int, int]]:
        """(row, token) of tokens of which something changed; a choice of them where they are many."""
        changed = noisy & ((used != exact) & ~(used.isnan() & exact.isnan())).any(-1)
        found: list[tuple[int, int]] = [(row, place // each) for row, place in changed.nonzero().tolist()]
        if len(found) <= STRUCK_ROWS:
            return found
        return random.Random(f"{self._lot} {self._step} {site}").sample(found, STRUCK_ROWS)

    def _stream(self, row: int) -> int:
        if row not in self._streams:
            self._streams[row] = row_stream(*self._rows[row], "shared" if self._shared else "item")
        return self._streams[row]

    def _columns_of(self, site: str, width: int, device: torch.device) -> Side:
        known = site, width, device
        if known not in self._columns:
            self._columns[known] = Side.of(columns_of(site, width), device).view(1, -1)
        return self._columns[known]

    def _sum(self, site: str, exact: Tensor, used: Tensor, real: Tensor) -> None:
        rows = slice(self._start, self._stop())
        x, y = (each[rows, -TOKENS:, :COLUMNS].float() for each in (exact, used))
        kept = real[rows, -TOKENS:, None] & x.isfinite() & y.isfinite()
        rounding = torch.finfo(exact.dtype).eps / 2 + 3 * torch.finfo(torch.float32).eps / 2
        if self._relative:
            kept &= x.abs() >= 4 * torch.finfo(exact.dtype).tiny / min(self.level, 1.0)
            self.slack = rounding * (1 + 4.1 * self.level) / self.level
            z = torch.where(kept, (y - x) / (self.level * x), 0.0)
        else:
            self.slack = ABSOLUTE_SLACK + 4.1 * rounding
            kept &= x.abs() * rounding <= ABSOLUTE_SLACK * self.level
            z = torch.where(kept, (y - x) / self.level, 0.0)
        self.sums.setdefault(site, Sums()).add(self._summed(site, z, kept))
        self._before = self._kin[site.rpartition(".")[2]] = torch.where(kept, z, torch.nan)

    def _still(self, site: str, exact: Tensor, used: Tensor, real: Tensor) -> None:
        """Counts rows without any noise, where draws so small that rounding swallows them cannot explain it."""
        if self._relative and self.slack < MOST_SLACK:
            least = math.log(FALSE_ALARM) / math.log(1 - share_beyond(self.slack))
            same = ((used == exact) | (exact == 0)).all(-1)
            self.still[site] += int((same & real & ((exact != 0).sum(-1) >= least)).sum())

    def _stop(self) -> int:
        stop = self._start + SEQUENCES
        if self._shared:
            item = self._rows[self._start][0]
            stop = self._start + sum(other == item for other, _ in self._rows[self._start : stop])
        return stop

    def _summed(self, site: str, z: Tensor, kept: Tensor) -> Sums:
        square = z * z
        powers = [kept, z, square, square * square, z.abs() > 3]
        known = torch.where(kept, z, torch.nan)
        pairs = {kind: product for kind, product in self._pairs(site, known) if product.numel()}
        numbers = [each.sum(dtype=torch.float64) for each in powers]
        for product in pairs.values():
            there = ~product.isnan()
            numbers += [product.nansum(dtype=torch.float64), there.sum(dtype=torch.float64)]
        count, first, second, fourth, beyond, *rest = torch.stack(numbers).tolist()
        found = Sums(count, first, second, fourth, beyond)
        for kind, total, number in zip(pairs, rest[::2], rest[1::2], strict=True):
            found.products[kind], found.pairs[kind] = total, number
        return found

    def _pairs(self, site: str, z: Tensor) -> list[tuple[str, Tensor]]:
        """Products of draws with those beside them; no draw stands in two products of one kind, so that they are
        independent of each other."""
        found = []
        for kind, other in ((SITES, self._before), (KIN, self._kin.get(site.rpartition(".")[2]))):
            if other is not None and len(other) == len(z):
                tokens, columns = min(z.shape[1], other.shape[1]), min(z.shape[2], other.shape[2])
                found.append((kind, z[:, -tokens:, :columns] * other[:, -tokens:, :columns]))
        owners = self._rows[self._start : self._stop()]
        for kind in (SEEDS, ROWS, POSITIONS):
            pairs = _pairs_of(owners, kind)
            found.append((kind, z[[one for one, _ in pairs]] * z[[other for _, other in pairs]]))
        if z.shape[1] > 1:  # else rows of one owner are its tokens
            even = z.shape[1] // 2 * 2
            found.append((POSITIONS, z[:, 0:even:2] * z[:, 1:even:2]))
        even = z.shape[2] // 2 * 2
        found.append((FEATURES, z[..., 0:even:2] * z[..., 1:even:2]))
        return found


def _pairs_of(owners: Sequence[Owner], kind: str) -> list[tuple[int, int]]:
    """Rows that stand in this relation to each other, as near as there are; no row stands in two pairs."""
    found: list[tuple[int, int]] = []
    free = list(range(len(owners)))
    while free:
        row = free.pop(0)
        other = next((each for each in free if _relation(owners[row], owners[each]) == kind), None)
        if other is not None:
            free.remove(other)
            found.append((row, other))
    return found


def _relation(one: Owner, other: Owner) -> str:
    """What only one of item, seed and position tells apart; empty where item and seed both do."""
    if one[0] != other[0]:
        return ROWS if one[1] == other[1] else ""
    return SEEDS if one[1] != other[1] else POSITIONS
