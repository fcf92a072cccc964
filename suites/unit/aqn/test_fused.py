"""Fused matrices of vLLM taken apart by their names and sizes."""

from __future__ import annotations

import pytest
from torch import nn

from harness.aqn.fused import parts_of
from harness.exceptions import HarnessError

pytestmark = pytest.mark.unit


def fused(sizes: list[int], devices: int = 1) -> nn.Module:
    module = nn.Module()
    module.output_sizes, module.tp_size = sizes, devices  # type: ignore[assignment]
    return module


def test_parts_follow_each_other_in_the_order_of_their_rows() -> None:
    assert parts_of(fused([8, 2, 2]), "layers.0.qkv_proj", 12) == [
        ("layers.0.q_proj", slice(0, 8)),
        ("layers.0.k_proj", slice(8, 10)),
        ("layers.0.v_proj", slice(10, 12)),
    ]
    assert parts_of(fused([8, 8], devices=2), "gate_up_proj", 8)[1] == ("up_proj", slice(4, 8))


def test_what_is_not_fused_is_one_part() -> None:
    assert parts_of(nn.Linear(2, 2), "layers.0.qkv_proj", 2) == [("layers.0.qkv_proj", None)]
    assert parts_of(fused([1, 1]), "down_proj", 2) == [("down_proj", None)]


@pytest.mark.parametrize(("sizes", "rows"), [([8, 2], 10), ([8, 2, 2], 13)])
def test_sizes_that_do_not_add_up_are_refused(sizes: list[int], rows: int) -> None:
    with pytest.raises(HarnessError, match="do not add up"):
        parts_of(fused(sizes), "qkv_proj", rows)
