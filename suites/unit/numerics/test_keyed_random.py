"""Draws are a pure function of integer keys, with the moments of a normal and no visible structure."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.numerics.keyed_random import (
    CUBIC,
    LARGEST_DRAW,
    UNIT,
    Keys,
    counter_keys,
    derive_key,
    mix64,
    normals,
    stream_keys,
)

pytestmark = pytest.mark.unit
CPU = torch.device("cpu")
MASK = (1 << 64) - 1
INT64 = st.integers(-(2**63), 2**63 - 1)


def signed(value: int) -> int:
    value &= MASK
    return value - (1 << 64) if value >> 63 else value


def mix_in_python(x: int) -> int:
    """Stafford's variant 13, written from its definition with unbounded integers."""
    x &= MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def rows(count: int, seed: int = 0) -> Keys:
    return stream_keys(derive_key("rows", seed), count, CPU).view(count, 1)


def columns(count: int, *labels: str) -> Keys:
    return stream_keys(derive_key("site", *labels), count, CPU).view(1, count)


def float32(value: float) -> float:
    return torch.tensor(value, dtype=torch.float64).float().item()


def draw_in_python(row: int, column: int) -> float:
    """The definition, in unbounded integers, with one rounding to float32 before and one after the unit."""
    mask = 0xFFFFFFFF
    low, high = (row ^ column) & mask, ((row ^ column) >> 32) & mask
    x = ((low ^ (low >> 16)) * 0x7FEB352D) & mask
    x = (x + high) & mask
    x = ((x ^ (x >> 15)) * 0x846CA68B) & mask
    x ^= x >> 16
    total = sum(x.to_bytes(4, "little")) - 510
    return float32(float32(total * (CUBIC + total * total)) * UNIT)


@given(INT64)
def test_mix_is_staffords_variant_13(x):
    assert mix64(torch.tensor([x])).item() == signed(mix_in_python(x))


def test_mix_leaves_its_argument_alone():
    x = torch.arange(5)
    mix64(x)
    assert torch.equal(x, torch.arange(5))


@given(row=INT64, column=INT64)
def test_a_draw_is_what_its_definition_says(row, column):
    drawn = normals(Keys.of(torch.tensor([row])), Keys.of(torch.tensor([column])))
    assert drawn.item() == draw_in_python(row, column)


def test_golden_draws():
    """These numbers may never change: records of old runs would no longer be reproducible."""
    drawn = normals(Keys.of(torch.tensor([[derive_key("row", 3, "abc")]])), columns(4, "lm_head"))
    assert derive_key("row", 3, "abc") == GOLDEN_KEY
    assert drawn[0].tolist() == GOLDEN_DRAWS


GOLDEN_KEY = -8105372260838563841
GOLDEN_DRAWS = [2.730116128921509, -2.3681225776672363, 0.13489533960819244, -0.7339088320732117]


def test_labels_do_not_run_together():
    assert derive_key("ab", "c") != derive_key("a", "bc")
    assert derive_key("1", 1) == derive_key(1, "1")


def test_the_distribution_is_the_documented_one():
    """Exact, over all sums of four bytes."""
    ways = [1]
    for _ in range(4):
        ways = [sum(ways[max(0, k - 255) : k + 1]) for k in range(len(ways) + 255)]
    values = [(s - 510) * (CUBIC + (s - 510) ** 2) * UNIT for s in range(len(ways))]
    moments = {p: sum(w * v**p for w, v in zip(ways, values, strict=True)) / 256**4 for p in (1, 2, 4, 6)}
    assert moments[1] == pytest.approx(0, abs=1e-12)
    assert moments[2] == pytest.approx(1, abs=1e-6)
    assert moments[4] == pytest.approx(3, abs=1e-5)
    assert moments[6] == pytest.approx(14.46, abs=0.01)
    assert max(values) == pytest.approx(LARGEST_DRAW, abs=1e-4)
    beyond = sum(w for w, v in zip(ways, values, strict=True) if abs(v) > 3) / 256**4
    assert beyond == pytest.approx(0.00240, abs=1e-5)


def test_moments_and_tails():
    drawn = normals(rows(2000), columns(1000)).double()
    n = drawn.numel()
    assert abs(drawn.mean()) < 5 / n**0.5
    assert abs(drawn.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((drawn**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs((drawn**4).mean() - 3) < 5 * (96 / n) ** 0.5
    beyond = (drawn.abs() > 3).double().mean()
    assert abs(beyond - 0.0024031) < 5 * (0.0027 / n) ** 0.5


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (1, 1), (0, 4), (3, 2)])
def test_no_correlation_between_neighbours(shift):
    drawn = normals(rows(600), columns(600)).double()
    down, right = shift
    a = drawn[: 600 - down, : 600 - right]
    b = drawn[down:, right:]
    assert abs((a * b).mean()) < 5 / a.numel() ** 0.5
    assert abs((a.square() * b.square()).mean() - 1) < 5 * 3 / a.numel() ** 0.5


@pytest.mark.parametrize("label", ["seed", "site"])
def test_no_correlation_between_seeds_and_sites(label):
    first = normals(rows(500), columns(500, "a"))
    other = normals(rows(500, seed=1), columns(500, "a")) if label == "seed" else normals(rows(500), columns(500, "b"))
    assert abs((first.double() * other.double()).mean()) < 5 / first.numel() ** 0.5


def test_every_key_of_a_run_is_its_own():
    keys = counter_keys(derive_key("x"), torch.arange(1_000_000))
    assert keys.unique().numel() == keys.numel()


def test_every_bit_of_every_key_matters():
    """Flipping any bit of the row or column key changes the draws of nearly every other key."""
    others = torch.arange(2000) * 0x9E3779B97F4A7C
    for bit, side in itertools.product(range(64), ("row", "column")):
        fixed, flipped = (torch.tensor([k]) for k in (0, 1 << bit if bit < 63 else -(2**63)))
        pairs = [(Keys.of(k), Keys.of(others)) for k in (fixed, flipped)]
        first, second = (normals(*(pair if side == "row" else pair[::-1])) for pair in pairs)
        assert (first != second).float().mean() > 0.95


def test_the_global_generator_is_untouched():
    before = torch.get_rng_state()
    normals(rows(10), columns(10))
    assert torch.equal(before, torch.get_rng_state())
