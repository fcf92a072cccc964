"""What two ways of computing the same matrix products must agree upon, and how far they may lie apart.

Rows and elements are counted: they are equal. Whether an element *changed* hangs on its last bits: it did not where its
draw is exactly 0, which is the same everywhere, or where the product itself is 0 or so small that the error rounds
away. Two libraries, thread counts, CPU capabilities or batch shapes sum a product in another order, so one may cancel
to exactly 0 where the other leaves some 1e-9: of the order of 2^-24 (6e-8) of the elements. One element in 1,542,016
was measured between vLLM and transformers, none in most pairs.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.ledger import merge
from harness.record import SiteCount

APART = 1e-5
"""Share of a site's elements whose *changed* may differ: 170 times what is expected, and in every test here less than
the elements of a single token row, so that noise lost in one row of one site is still seen."""
ALLOWED = 2
"""Elements that may differ at a site of any size."""


def may_differ(elements: int) -> int:
    """How many of a site's ``elements`` may be changed in one way of computing and not in the other."""
    return ALLOWED + int(APART * elements)


def apart(found: Iterable[SiteCount], wanted: Iterable[SiteCount], changed: bool = True) -> list[str]:
    """Where two ledgers, each added up over batches and processes, disagree, in words; empty where they agree.

    ``changed=False`` for errors whose effect depends on the data (a grid, a threshold): then only what ran is compared.
    """
    ours, theirs = _by_site(found), _by_site(wanted)
    wrong = [f"{key}: only in one of them" for key in sorted(ours.keys() ^ theirs.keys(), key=str)]
    for key in ours.keys() & theirs.keys():
        one, other = ours[key], theirs[key]
        if (one.rows, one.elements) != (other.rows, other.elements):
            wrong.append(f"{key}: {one.rows} rows of {one.elements} elements, {other.rows} of {other.elements}")
        elif changed and abs(one.changed - other.changed) > may_differ(one.elements):
            wrong.append(f"{key}: changed {one.changed} and {other.changed} of {one.elements} elements")
    return wrong


def _by_site(counts: Iterable[SiteCount]) -> dict[tuple[float, str, str], SiteCount]:
    return {(count.level, count.label, count.op): count for count in merge(counts, across_processes=True)}
