"""SDPA of one token with shared keys is transformers' SDPA, and is taken back afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from harness.engines.grouped import SDPA, grouped, grouped_attention
from harness.testing import tiny_model

pytestmark = pytest.mark.unit
ROWS, HEADS, KEYS, WIDTH = 3, 6, 11, 8


class Block(nn.Module):
    """What SDPA reads of an attention block."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.is_causal = True


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("shared", [1, 2, 6])
def test_it_is_the_attention_of_transformers(shared: int, tokens: int, masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(ROWS, HEADS, tokens, WIDTH, generator=generator)
    key, value = (torch.randn(ROWS, shared, KEYS, WIDTH, generator=generator) for _ in range(2))
    mask = torch.rand(ROWS, 1, tokens, KEYS, generator=generator) > 0.3 if masked else None
    block = Block(HEADS // shared)
    wanted, _ = sdpa_attention_forward(block, query, key, value, mask, scaling=0.3)
    given, _ = grouped_attention(block, query, key, value, mask, scaling=0.3)
    assert given.shape == wanted.shape == (ROWS, tokens, HEADS, WIDTH)
    assert torch.allclose(given, wanted, atol=1e-6)


def test_the_interface_is_as_it_was_afterwards() -> None:
    model = tiny_model(attention=SDPA)

    def fail() -> None:
        with grouped(model):
            with grouped(model):
                assert ALL_ATTENTION_FUNCTIONS[SDPA] is grouped_attention
            assert ALL_ATTENTION_FUNCTIONS[SDPA] is grouped_attention
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert ALL_ATTENTION_FUNCTIONS[SDPA] is sdpa_attention_forward


def test_other_attention_is_left_alone() -> None:
    with grouped(tiny_model(attention="eager")):
        assert ALL_ATTENTION_FUNCTIONS[SDPA] is sdpa_attention_forward
