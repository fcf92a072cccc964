"""Bits and rates under integer keys, and salted keys for a second draw."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode

from harness.numerics.keyed_random import DrawKey, Keys, below, bits, derive_key, mix64, normals, stream_keys

pytestmark = pytest.mark.unit
CPU = torch.device("cpu")
INT64 = st.integers(-(2**63), 2**63 - 1)
GOLDEN_BITS = [-452413974, -2062080671, 335081882, 2042621934]
GOLDEN_SALTED = [843888250, 224196597, -1557539483, -408228571]


def keys(rows, columns):
    return DrawKey(
        stream_keys(derive_key("row", 3, "abc"), rows, CPU).view(rows, 1),
        stream_keys(derive_key("site", "lm_head"), columns, CPU).view(1, columns),
    )


def signed32(value):
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def bits_in_python(row, column):
    """lowbias32 of the low halves, with the high ones added between its rounds, in unbounded integers."""
    low, high = (row ^ column) & 0xFFFFFFFF, ((row ^ column) >> 32) & 0xFFFFFFFF
    x = ((low ^ (low >> 16)) * 0x7FEB352D + high) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return signed32(x ^ (x >> 16))


@given(row=INT64, column=INT64)
def test_bits_are_what_their_definition_says(row, column):
    drawn = bits(Keys.of(torch.tensor([row])), Keys.of(torch.tensor([column])))
    assert drawn.dtype == torch.int32
    assert drawn.item() == bits_in_python(row, column)


@given(key=INT64, salt=INT64)
def test_salted_keys_are_mixed_keys(key, salt):
    salted = Keys.of(torch.tensor([key])).salted(salt)
    want = Keys.of(mix64(torch.tensor([key]) ^ salt))
    assert salted.low.dtype == salted.high.dtype == torch.int32
    assert (salted.low.item(), salted.high.item()) == (want.low.item(), want.high.item())


def test_golden_bits():
    """These numbers may never change: records of old runs would no longer be reproducible."""
    key = keys(1, 4)
    assert bits(*key)[0].tolist() == GOLDEN_BITS
    assert bits(key.rows, key.columns.salted(1))[0].tolist() == GOLDEN_SALTED


@given(row=INT64, column=INT64)
def test_the_threshold_is_exact(row, column):
    """True just above the rate of the draw itself, False at it."""
    key = Keys.of(torch.tensor([row])), Keys.of(torch.tensor([column]))
    rank = bits_in_python(row, column) + (1 << 31)
    assert not below(*key, rank / 2**32).item()
    assert below(*key, (rank + 1) / 2**32).item()
    exact = torch.tensor([rank, rank + 1], dtype=torch.float64) / 2**32
    assert below(*key, exact).tolist() == [False, True]


@given(rate=st.floats(0, 1, width=32))
def test_a_tensor_as_rate_is_the_same_as_a_number(rate):
    key = keys(20, 30)
    want = below(*key, rate)
    assert torch.equal(below(*key, torch.tensor(rate)), want)
    expected = bits(*key).long() + (1 << 31) < int(rate * 2**32)
    assert torch.equal(want, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, None], ids=str)
def test_never_and_always(dtype):
    key = keys(300, 300)
    for rate, always in ((0.0, False), (1.0, True), (-0.0, False), (-0.5, False), (1.5, True)):
        given_rate = rate if dtype is None else torch.tensor(rate, dtype=dtype)
        hit = below(*key, given_rate)
        assert hit.dtype == torch.bool
        assert (hit == always).all()


def test_the_extreme_draws_at_the_extreme_rates():
    """Lowest bits are True from 2**-32 on, highest only at 1."""
    lowest, highest = (find(value) for value in (-(1 << 31), (1 << 31) - 1))
    assert below(*lowest, 2**-32).item() and not below(*lowest, 2**-33).item() and not below(*lowest, 0).item()
    assert below(*highest, 1).item() and not below(*highest, 1 - 2**-32).item()


def find(value):
    """Keys whose bits are ``value``: the high half is added in the middle, so the second round is inverted."""
    x = value & 0xFFFFFFFF
    x ^= x >> 16
    x = (x * pow(0x846CA68B, -1, 1 << 32)) & 0xFFFFFFFF
    x = x ^ (x >> 15) ^ (x >> 30)
    column = torch.tensor([signed32(x) << 32])
    key = Keys.of(torch.tensor([0])), Keys.of(column)
    assert bits(*key).item() == value
    return key


def test_a_rate_of_its_own_for_every_row():
    key = keys(4, 50)
    rates = torch.tensor([[0.0], [0.2], [0.7], [1.0]])
    together = below(*key, rates)
    for row, rate in enumerate(rates):
        rows = Keys(*(half[row : row + 1] for half in key.rows))
        assert torch.equal(below(rows, key.columns, rate)[0], together[row])


def test_no_64_bit_temporary_of_the_size_of_the_result():
    class Widths(TorchFunctionMode):
        seen = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.numel() > 1:
                self.seen = max(self.seen, out.element_size())
            return out

    key = keys(20, 30)
    for rate in (0.3, torch.tensor(0.3), torch.tensor(0.3, dtype=torch.float64)):
        with Widths() as widths:
            below(*key, rate)
        assert widths.seen == 4


@pytest.mark.parametrize("label", [0, 1, 2, -1])
def test_salted_draws_are_independent_of_the_first(label):
    """Every bit against every bit: 1024 correlations, each within five standard errors (P of a false alarm: 6e-4)."""
    key = keys(500, 400)
    first = bits(*key).reshape(-1)
    for other in (bits(key.rows, key.columns.salted(label)), bits(key.rows.salted(label), key.columns)):
        signs = [
            torch.stack([(x >> place & 1).float() * 2 - 1 for place in range(32)]) for x in (first, other.reshape(-1))
        ]
        assert (signs[0] @ signs[1].T).abs().max() < 5 * first.numel() ** 0.5


def test_salting_both_halves_does_not_cancel():
    key = keys(50, 40)
    both = bits(key.rows.salted(1), key.columns.salted(1))
    assert (both != bits(*key)).float().mean() > 0.99


def test_labels_give_different_keys():
    key = keys(1, 1000).columns
    salted = [key.salted(label).low for label in (0, 1, 2, 1 << 40)] + [key.low]
    for i, a in enumerate(salted):
        for b in salted[i + 1 :]:
            assert (a != b).float().mean() > 0.99


def test_a_normal_is_made_of_its_bits():
    """The sum of their four bytes decides; the table of the cubic is tested with the normals."""
    key = keys(100, 100)
    pieces = bits(*key)
    total = sum((pieces >> shift) & 0xFF for shift in (0, 8, 16, 24)) - 510
    order = torch.argsort(total.reshape(-1), stable=True)
    drawn = normals(*key).reshape(-1)[order]
    assert (drawn.diff() >= 0).all()
    assert torch.equal(drawn.diff() == 0, total.reshape(-1)[order].diff() == 0)
