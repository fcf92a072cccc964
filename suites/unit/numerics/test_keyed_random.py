"""Draws are a pure function of integer keys, with the moments of a normal and no visible structure."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.numerics import keyed_random
from harness.numerics.keyed_random import (
    LANES,
    TABLE_SHA256,
    column_keys,
    counter_keys,
    derive_key,
    mix64,
    normals,
    quantile_table,
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


def rows(count: int, seed: int = 0) -> torch.Tensor:
    return counter_keys(derive_key("rows", seed), torch.arange(count))


@given(INT64)
def test_mix_is_staffords_variant_13(x):
    assert mix64(torch.tensor([x])).item() == signed(mix_in_python(x))


def test_mix_leaves_its_argument_alone():
    x = torch.arange(5)
    mix64(x)
    assert torch.equal(x, torch.arange(5))


@given(row=INT64, columns=st.integers(1, 9), stream=st.text(max_size=5))
def test_a_draw_is_the_lane_of_a_hash_looked_up_in_the_table(row, columns, stream):
    keys = column_keys(derive_key(stream), columns, CPU)
    drawn = normals(torch.tensor([row]), keys)
    for column in range(columns):
        bits = mix_in_python(row ^ keys[column // LANES].item())
        lane = (bits >> (16 * (column % LANES))) & 0xFFFF
        assert drawn[0, column].item() == quantile_table()[lane]


def test_golden_draws():
    """These numbers may never change: records of old runs would no longer be reproducible."""
    drawn = normals(torch.tensor([derive_key("row", 3, "abc")]), column_keys(derive_key("site", "lm_head"), 4, CPU))
    assert derive_key("row", 3, "abc") == GOLDEN_KEY
    assert drawn[0].tolist() == GOLDEN_DRAWS


GOLDEN_KEY = -8105372260838563841
GOLDEN_DRAWS = [-0.197540283203125, 1.6890869140625, -0.0684967041015625, -0.7791900634765625]


def test_labels_do_not_run_together():
    assert derive_key("ab", "c") != derive_key("a", "bc")
    assert derive_key("1", 1) == derive_key(1, "1")


def test_table_is_pinned_symmetric_and_normal():
    table = quantile_table().astype(np.float64)
    assert hashlib.sha256(quantile_table().tobytes()).hexdigest() == TABLE_SHA256
    assert np.array_equal(table, -table[::-1])
    assert table.var() == pytest.approx(0.99998, abs=1e-5)
    assert (table**4).mean() / table.var() ** 2 == pytest.approx(2.9992, abs=1e-4)
    assert table.max() == pytest.approx(4.325, abs=1e-3)


def test_a_changed_table_is_refused(monkeypatch):
    monkeypatch.setattr(keyed_random, "TABLE_SHA256", "0" * 64)
    with pytest.raises(RuntimeError, match="draws would differ"):
        quantile_table.__wrapped__()


def test_moments_and_tails():
    drawn = normals(rows(2000), column_keys(derive_key("site"), 1000, CPU)).double()
    n = drawn.numel()
    assert abs(drawn.mean()) < 5 / n**0.5
    assert abs(drawn.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((drawn**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs((drawn**4).mean() - 2.9992) < 5 * (96 / n) ** 0.5
    beyond = (drawn.abs() > 3).double().mean()
    assert abs(beyond - 0.0026998) < 5 * (0.0027 / n) ** 0.5


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (1, 1), (0, LANES), (3, 2)])
def test_no_correlation_between_neighbours(shift):
    drawn = normals(rows(600), column_keys(derive_key("site"), 600, CPU)).double()
    down, right = shift
    a = drawn[: 600 - down, : 600 - right]
    b = drawn[down:, right:]
    assert abs((a * b).mean()) < 5 / a.numel() ** 0.5
    assert abs((a.square() * b.square()).mean() - 1) < 5 * 3 / a.numel() ** 0.5


@pytest.mark.parametrize("label", ["seed", "site"])
def test_no_correlation_between_seeds_and_sites(label):
    site = column_keys(derive_key("site", "a"), 500, CPU)
    first = normals(rows(500), site)
    other = (
        normals(rows(500, seed=1), site)
        if label == "seed"
        else normals(rows(500), column_keys(derive_key("site", "b"), 500, CPU))
    )
    assert abs((first.double() * other.double()).mean()) < 5 / first.numel() ** 0.5


def test_every_key_of_a_run_is_its_own():
    keys = counter_keys(derive_key("x"), torch.arange(1_000_000))
    assert keys.unique().numel() == keys.numel()


def test_the_global_generator_is_untouched():
    before = torch.get_rng_state()
    normals(rows(10), column_keys(0, 10, CPU))
    assert torch.equal(before, torch.get_rng_state())
