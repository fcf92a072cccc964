"""Engines broken on purpose: each must break at least one law, or the laws prove nothing."""

from __future__ import annotations

import pytest

from harness.exceptions import HarnessError
from suites.contract.noise_key_mutants import MUTANTS

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_engine_breaks_a_law(name, monkeypatch):
    apply, law = MUTANTS[name]
    law()  # holds for the engine as it is
    apply(monkeypatch)
    with pytest.raises((AssertionError, HarnessError, pytest.fail.Exception)):
        law()
