"""The ledger's count of audited forwards against what came out of them, element by element where it is not finite."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.noise.audit.auditor import Auditor
from harness.noise.audit.check import Booked, check_booked
from harness.spec.errors import RelativeGaussian
from harness.spec.faults import FaultMix

pytestmark = pytest.mark.unit


def problems(booked: Booked, *parts: float, error: Any = FaultMix()) -> tuple[str, ...]:  # noqa: B008
    auditor = SimpleNamespace(by_rows={"up"}, parts={"up": list(parts)})
    return check_booked(cast(Auditor, auditor), {"up": booked, "elsewhere": Booked(1)}, error)


@pytest.mark.parametrize(
    ("booked", "energy"),
    [
        *((2.0, 2.0), (2.0, 2.01), (0.0, 0.0)),
        *((math.inf, 1e70), (math.inf, 3.5e38), (0.0, 2e-78)),
    ],
)
def test_energies_within_what_float32_holds_are_alike(booked: float, energy: float) -> None:
    assert problems(Booked(5, 3, booked), energy, 5, 3) == ()


@pytest.mark.parametrize(
    ("booked", "parts", "words"),
    [
        (Booked(5, 3, 2.0), (2.0, 4, 3), "booked 5 changed elements, 4 came out changed"),
        (Booked(5, 3, 2.0), (2.0, 5, 2), "booked 3 elements that are not finite, 2 came out"),
        (Booked(5, 0, 2.0), (2.0, 5, 2), "booked 0 elements that are not finite, 2 came out"),
        (Booked(5, 3, 2.0), (2.1, 5, 3), "booked an error energy of 2, 2.1 came out"),
        (Booked(5, 3, math.inf), (1e38, 5, 3), "booked an error energy of inf, 1e+38 came out"),
        (Booked(5, 3, math.nan), (2.0, 5, 3), "booked an error energy of nan, 2 came out"),
        (Booked(5, 3, 0.0), (1e-30, 5, 3), "booked an error energy of 0, 1e-30 came out"),
    ],
)
def test_every_difference_is_named(booked: Booked, parts: tuple[float, ...], words: str) -> None:
    (problem,) = problems(booked, *parts)
    assert problem == f"audit: up {words}, and 0 more sites"


def test_relative_noise_without_parts_is_held_where_all_is_finite() -> None:
    assert problems(Booked(5, 3, math.nan), 2.0, 5, 3, error=RelativeGaussian()) == ()
    assert problems(Booked(5, 0, 1.0), 2.0, 5, 0, error=RelativeGaussian())
