"""The exact distribution of a draw, and the bound on sums of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from harness.numerics.keyed_random import LARGEST_DRAW, normals, stream_keys
from harness.stats.draw_moments import FALSE_ALARM, draws, furthest, moments, share_beyond

pytestmark = pytest.mark.unit


def test_the_moments_are_those_of_the_formula() -> None:
    """Counted over all sums of four bytes; the figures of the engine's own page."""
    found = moments()
    assert found.second == pytest.approx(1, abs=1e-6)
    assert found.fourth == pytest.approx(3, abs=1e-5)
    assert found.largest == pytest.approx(LARGEST_DRAW, abs=1e-4)
    assert share_beyond(3) == pytest.approx(0.00240, abs=5e-6)
    assert share_beyond(2) == pytest.approx(0.04755, abs=5e-6)
    assert 1 - share_beyond(0) == pytest.approx(0.0026, abs=5e-6)
    assert draws()[1].sum() == pytest.approx(1, abs=1e-12)


def test_draws_of_the_engine_have_these_moments() -> None:
    rows, columns = (stream_keys(key, 1000, torch.device("cpu")) for key in (3, 4))
    z = normals(rows.view(-1, 1), columns.view(1, -1)).double()
    found, known = z.unique().numpy(), draws()[0]
    nearest = known[np.clip(np.searchsorted(known, found), 1, len(known) - 1)]
    before = known[np.clip(np.searchsorted(known, found), 1, len(known) - 1) - 1]
    assert np.minimum(abs(found - nearest), abs(found - before)).max() < 1e-6
    m = moments()
    assert abs(float(z.sum())) < furthest(z.numel(), m.second, m.largest)
    assert abs(float((z**2).sum()) - z.numel()) < furthest(z.numel(), m.fourth - 1, m.largest**2)
    assert abs(float((z**4).sum()) - 3 * z.numel()) < furthest(z.numel(), m.eighth - 9, m.largest**4)


def test_the_bound_is_bernsteins() -> None:
    """P(sum of n further than t) <= 2 exp(-t^2 / 2 / (n variance + largest t / 3)), solved for t."""
    for count, variance, largest in ((10, 1.0, 4.0), (10**6, 2.0, 16.0), (0, 1.0, 1.0)):
        t = furthest(count, variance, largest)
        assert 2 * math.exp(-(t**2) / 2 / (count * variance + largest * t / 3)) == pytest.approx(FALSE_ALARM, rel=1e-6)


def test_the_bound_holds_for_the_rarest_tail() -> None:
    """A share beyond 3 in few draws is far from normal: the exact binomial probability stays below the bound."""
    share = share_beyond(3)
    for count in (1, 10, 1000, 10**5):
        most = math.floor(count * share + furthest(count, share, 1))
        beyond = [
            math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in range(most + 1, count + 1)
        ]
        logs = np.array(beyond) + np.array(
            [k * math.log(share) + (count - k) * math.log1p(-share) for k in range(most + 1, count + 1)]
        )
        assert np.exp(logs).sum() < FALSE_ALARM
