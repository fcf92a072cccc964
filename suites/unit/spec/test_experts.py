"""Experts that no site reached, told by a stored plan."""

from __future__ import annotations

import pytest

from harness.spec import parse_noise
from harness.spec.experts import REASON, pattern_for, unreached

pytestmark = pytest.mark.unit


def test_a_stored_plan_tells_experts_that_stayed_clean() -> None:
    """Also one of a run from before plans knew experts; what was left out by name is no gap."""
    stored = {
        "model.layers.0.mlp.experts:_grouped_mm": "no site reaches this product",
        "model.layers.1.mlp.experts:_grouped_mm": "exclude:experts",
        "model.layers.2.mamba:mm": "no site reaches this product",
        "model.layers.3.block_sparse_moe.input_linear:mm": REASON,
    }
    found = unreached(stored, parse_noise("relative_gaussian"))
    assert found == (next(iter(stored)), "model.layers.3.block_sparse_moe.input_linear:mm")
    assert pattern_for(found) == ("experts", "input_linear")
    assert unreached(stored, parse_noise("relative_gaussian @ op:rms_norm")) == ()
