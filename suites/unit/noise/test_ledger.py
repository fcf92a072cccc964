"""What a ledger counts apart, and that energies of other forwards do not hide it."""

from __future__ import annotations

import math

import pytest
import torch

from harness.noise.ledger import Entry, Ledger
from harness.noise.sites import Site

pytestmark = pytest.mark.unit


@pytest.fixture
def entry() -> Entry:
    return Entry(Site("up", "linear", "up", None), "forward", "", "")


def note(ledger: Ledger, entry: Entry, energy: float) -> None:
    ledger.note(entry, 1, 8, torch.tensor([[2.0, 8.0, 1.0, 4.0, energy, 0.5]]))


@pytest.mark.parametrize("before", [math.nan, math.inf, 1e30])
def test_what_is_counted_inside_is_given_alone(entry: Entry, before: float) -> None:
    ledger = Ledger()
    note(ledger, entry, before)
    with ledger.apart():
        note(ledger, entry, 0.25)
        inside = ledger.counts(0.1)["up"]
    assert (inside.calls, inside.rows, inside.elements, inside.changed, inside.nonfinite) == (1, 1, 8, 2, 1)
    assert inside.error == 0.25
    whole = ledger.counts(0.1)["up"]
    assert (whole.calls, whole.rows, whole.elements, whole.changed, whole.nonfinite) == (2, 2, 16, 4, 2)
    assert whole.signal == 8.0 and (math.isnan(before) or whole.error >= before)


def test_nothing_is_lost_when_a_forward_fails(entry: Entry) -> None:
    ledger = Ledger()

    def fail() -> None:
        with ledger.apart():
            note(ledger, entry, 1.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert ledger.counts(0.1)["up"].error == 1.0
    with ledger.apart():
        assert not ledger.counts(0.1)
    assert ledger.counts(0.1)["up"].calls == 1
