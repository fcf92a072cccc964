"""SDPA of one new token, without a copy of keys and values for every query head that shares them.

transformers repeats them wherever there is a mask. Heads that share keys are as good as several tokens of one head, and
of one new token no head may look further than another: the kernel reads keys and values as the cache holds them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

SDPA = "sdpa"


def grouped_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return what transformers' SDPA attention returns, (batch, tokens, heads, dim): ``query`` (batch, heads, tokens,
    dim), ``key`` and ``value`` (batch, shared heads, keys, dim)."""
    batch, heads, tokens, width = query.shape
    shared = key.shape[1]
    if tokens > 1 or shared == heads or (attention_mask is not None and attention_mask.shape[1] != 1):
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output, None
    groups = query.reshape(batch, shared, heads // shared, width)
    output = functional.scaled_dot_product_attention(
        groups, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling
    )
    return output.reshape(batch, tokens, heads, value.shape[-1]), None


@contextlib.contextmanager
def grouped(model: PreTrainedModel) -> Iterator[None]:
    """Have the SDPA attention of ``model`` computed so while this is open, on a CPU, where it was measured."""
    own = ALL_ATTENTION_FUNCTIONS._local_mapping
    before = own.get(SDPA)
    if model.device.type != "cpu" or model.config._attn_implementation != SDPA:
        yield
        return
    ALL_ATTENTION_FUNCTIONS[SDPA] = grouped_attention
    try:
        yield
    finally:
        if before is None:
            del ALL_ATTENTION_FUNCTIONS[SDPA]
        else:
            ALL_ATTENTION_FUNCTIONS[SDPA] = before
