"""Small arms for the gate tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.record import Arm, Certificate
from harness.testing.arms import make_arm, make_certificate


@pytest.fixture
def arm() -> Callable[..., Arm]:
    """The builder :func:`make_arm`."""
    return make_arm


@pytest.fixture
def evidence() -> Callable[..., Certificate]:
    """The builder :func:`make_certificate`."""
    return make_certificate
