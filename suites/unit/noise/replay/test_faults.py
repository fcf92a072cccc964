"""The faults computed twice: bit for bit equal in every dtype, and what they do is what they say."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.noise.replay import faults as second
from harness.noise.replay.draws import Side, columns_of, counted, label_key
from harness.noise.replay.errors import perturbed
from harness.numerics import faults as first
from harness.numerics.error_models import perturb
from harness.numerics.keyed_random import DrawKey, Keys
from harness.spec.errors import ErrorModel
from harness.spec.faults import BitFlips, FaultMix, StuckLane

pytestmark = pytest.mark.unit
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ROWS, COLUMNS = 200, 333
MODELS = (
    *(BitFlips(1.0, count) for count in (1, 2, 3, 16)),
    *(BitFlips(0.3, count, "burst") for count in (1, 2, 16)),
    *(StuckLane(0.4, period, 2.5) for period in (1, 7, 32, 400)),
    *(FaultMix(0.5), FaultMix(1.0, 0.0, 0.5, 16), FaultMix(1.0, 1.0, 0.0), FaultMix(0.2, 0.0, 0.0, 2)),
)


def both(model: ErrorModel, dtype: torch.dtype, site: str = "up") -> tuple[Tensor, Tensor, Tensor]:
    """Values, and what each implementation makes of them with the same keys."""
    x = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1)).to(dtype)
    rows = Side.of(counted(label_key("row", 0, "a"), range(ROWS))).view(-1, 1)
    columns = Side.of(columns_of(site, COLUMNS)).view(1, -1)
    key = DrawKey(Keys(rows.low, rows.high), Keys(columns.low, columns.high))
    level = model.level
    assert level is not None
    return x, perturb(model, x, key), perturbed(model, x, rows, columns, level)


def flips(x: Tensor, after: Tensor) -> Tensor:
    """How many bits differ, for each element."""
    kind, width = (torch.int32, 32) if x.dtype == torch.float32 else (torch.int16, 16)
    apart = x.view(kind) ^ after.view(kind)
    return torch.stack([(apart >> bit) & 1 for bit in range(width)]).sum(0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("model", MODELS, ids=str)
def test_both_implementations_give_the_same_bits(model: ErrorModel, dtype: torch.dtype) -> None:
    x, one, other = both(model, dtype)
    kind = torch.int32 if dtype == torch.float32 else torch.int16
    assert torch.equal(one.isnan(), other.isnan())
    plain = ~one.isnan()
    assert torch.equal(one.view(kind)[plain], other.view(kind)[plain])
    assert not torch.equal(one, x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("pattern", ["random", "burst"])
@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_as_many_distinct_bits_are_flipped_as_were_asked_for(count: int, pattern: str, dtype: torch.dtype) -> None:
    x, after, _ = both(BitFlips(1.0, count, pattern), dtype)
    assert set(flips(x, after).unique().tolist()) == {count}
    kind, width = (torch.int32, 32) if dtype == torch.float32 else (torch.int16, 16)
    masks = Counter((x.view(kind) ^ after.view(kind)).reshape(-1).tolist())
    if pattern == "burst":
        lowest = {mask & -mask for mask in masks}
        assert len(masks) == len(lowest) == width - count + 1
    elif count == 1:
        assert len(masks) == width
        assert max(masks.values()) < 1.2 * min(masks.values())
    elif count == 2 and width == 16:
        assert len(masks) == 120
        assert max(masks.values()) < 1.5 * min(masks.values()), "every pair is equally likely"


def test_events_strike_their_share_and_mix_as_published() -> None:
    x, after, _ = both(FaultMix(1.0), torch.bfloat16)
    odd = ~after.isfinite()
    bits = flips(x, after)
    single, several = (bits == 1) & ~odd, (bits > 1) & ~odd
    assert single.sum().item() / (single | several).sum().item() == pytest.approx(0.39, abs=0.01)
    exact = both(FaultMix(1.0, special=1.0), torch.bfloat16)[1]
    for part in (exact.isnan(), exact == torch.inf, exact == -torch.inf):
        assert part.float().mean().item() == pytest.approx(1 / 3, abs=0.01)
    x, after, _ = both(FaultMix(1.0, single=0.0, most=4), torch.float32)
    counts = Counter(flips(x, after)[after.isfinite()].tolist())
    assert all(counts[number] / after.numel() == pytest.approx(0.33, abs=0.02) for number in (2, 3, 4))
    shares = [both(FaultMix(1.0, special=share), torch.float32)[1] for share in (0.0, 0.0101, 0.1)]
    extra = [(~found.isfinite()).float().mean().item() for found in shares]
    assert extra[1] - extra[0] == pytest.approx(0.0101, abs=0.002)
    assert extra[2] - extra[0] == pytest.approx(0.1, abs=0.005)
    for model in (FaultMix(0.03), BitFlips(0.03)):
        x, after, _ = both(model, torch.float32)
        struck = ((x != after) | after.isnan()).float().mean().item()
        assert struck == pytest.approx(0.03, abs=0.003) and model.expected_share(0.03) == 0.03


def test_a_lane_is_the_same_in_every_row_and_belongs_to_the_site() -> None:
    lanes = set()
    for number in range(40):
        x, after, _ = both(StuckLane(0.5, 32, 0.0), torch.float32, f"site {number}")
        hit = (after == 0) & (x != 0)
        struck = hit.any(1)
        assert 0.3 < struck.float().mean().item() < 0.7
        where = hit[struck]
        assert (where == where[0]).all()
        places = where[0].nonzero()[:, 0].tolist()
        assert places == list(range(places[0], COLUMNS, 32))
        lanes.add(places[0])
    assert len(lanes) > 15


def shifted(*args: Any) -> Tensor:
    return UNDER(*args).add(1)


def repeating(rows: Side, columns: Side, size: Tensor, width: int, most: int) -> Tensor:
    return 1 << UNDER(rows, columns, 16, width).expand(size.shape)


UNDER = second._under


@pytest.mark.parametrize(("name", "mutant"), [("_under", shifted), ("_subset", repeating)])
def test_mutants_of_the_second_formulas_are_told(name: str, mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second, name, mutant)
    _, one, other = both(BitFlips(1.0, 2), torch.float32)
    assert not torch.equal(one.nan_to_num(), other.nan_to_num())


def test_a_first_formula_without_its_lane_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first, "LANE_SALT", 99)
    _, one, other = both(StuckLane(0.5), torch.float32)
    assert not torch.equal(one, other)
