"""Says what is wrong with the draws of audited forwards: :class:`harness.noise.audit.draws.Draws` against expectation.

Every limit holds for each number of draws (Bernstein), so that draws as they should be raise an alarm in one test of
10^13; a run makes up to 10^6 tests. What rounding may do to a recovered draw is added to the limits in full.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.noise.audit.draws import MOST_SLACK, Draws, Sums
from harness.stats.draw_moments import BEYOND, furthest, moments, share_beyond

EVERYWHERE = "all sites together"


def check_draws(draws: Draws) -> list[str]:
    """Return what speaks against the draws, one line for each kind, naming the first site and how many there are."""
    wrong = {site: count for site, count in draws.wrong.items() if count}
    found = []
    if wrong:
        site, count = next(iter(wrong.items()))
        words = f"{site} gave {count} of {draws.checked[site]} elements that the draws of their keys do not give"
        found.append(words + _more(len(wrong)))
    still = {site: count for site, count in draws.still.items() if count}
    if still:
        site, count = next(iter(still.items()))
        found.append(f"{site} left {count} rows as they were{_more(len(still))}")
    return found + _moments(draws.sums, draws.slack)


def _moments(sums: Mapping[str, Sums], slack: float) -> list[str]:
    if slack > MOST_SLACK:
        return []
    whole = Sums()
    for each in sums.values():
        whole.add(each)
    said: dict[str, list[str]] = {}
    for site, each in (*sums.items(), (EVERYWHERE, whole)):
        for kind, words in _wrong(each, slack):
            said.setdefault(kind, []).append(f"{site} {words}")
    return [lines[0] + _more(len(lines)) for lines in said.values()]


def _wrong(sums: Sums, slack: float) -> Iterable[tuple[str, str]]:
    """(kind, words) of everything in ``sums`` that draws as they should be do not show."""
    m, n = moments(), sums.count
    second = 2 * slack + slack**2  # E |z| is below 1
    fourth = 8 * slack + 6 * slack**2 + 4 * slack**3 + slack**4  # E |z|^3 is below 2
    for name, total, expected, variance, largest, off in (
        ("mean", sums.first, 0.0, m.second, m.largest, slack),
        ("variance", sums.second, m.second, m.fourth - m.second**2, m.largest**2, second),
        ("fourth moment", sums.fourth, m.fourth, m.eighth - m.fourth**2, m.largest**4, fourth),
    ):
        if abs(total - n * expected) > furthest(int(n), variance, largest) + n * off:
            yield name, f"has draws with {name} {total / n:.3g}, {expected:.3g} was expected of {n:.0f}"
    low, high = share_beyond(BEYOND + slack), share_beyond(BEYOND - slack)
    share = share_beyond(BEYOND)
    if not -furthest(int(n), low, 1) <= sums.beyond - n * low or sums.beyond - n * high > furthest(int(n), high, 1):
        yield "tails", f"has {sums.beyond / n:.3g} of {n:.0f} draws beyond {BEYOND:g}, {share:.3g} was expected"
    for kind, count in sums.pairs.items():
        if abs(sums.products[kind]) > furthest(int(count), m.second**2, m.largest**2) + count * second:
            yield kind, f"has draws that go with those of {kind}: correlation {sums.products[kind] / count:.3g}"


def _more(count: int) -> str:
    return f" (and {count - 1} more sites)" if count > 1 else ""
