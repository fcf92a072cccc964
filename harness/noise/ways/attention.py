"""Noise inside attention, through transformers' public attention interface.

Where QK, PV or the softmax are perturbed, the registered attention is the eager one with those exposed; where only the
output of a fused kernel is, it is that kernel. Its mask must be registered beside it: without that a model runs
unmasked and loses its accuracy without an exception.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward, use_gqa_in_sdpa
from transformers.masking_utils import eager_mask, sdpa_mask
from transformers.models.qwen2.modeling_qwen2 import repeat_kv

from harness.exceptions import NoiseSpecError
from harness.noise.protocol import Session
from harness.noise.sites import PV, QK, SDPA, SOFTMAX, Site

EAGER, FUSED = "harness_noise", "harness_noise_sdpa"
"""Names of the two registered attentions."""

_BASE = {"eager": EAGER, "sdpa": FUSED}
_ATTRIBUTE = "_robustness_harness_attention"

Attached = tuple[tuple[Session, dict[str, Site]], ...]


@contextlib.contextmanager
def perturbed(model: PreTrainedModel, sites: Sequence[Site], session: Session) -> Iterator[None]:
    """Switch ``model`` to the perturbed attention for ``sites``, and back. Sessions nest."""
    wanted: dict[str, dict[str, Site]] = {}
    for site in sites:
        wanted.setdefault(site.module, {})[site.op] = site
    before = model.config._attn_implementation
    modules = {name: model.get_submodule(name) for name in wanted}
    previous = {name: module.__dict__.get(_ATTRIBUTE) for name, module in modules.items()}
    try:
        for name, chosen in wanted.items():
            modules[name].__dict__[_ATTRIBUTE] = (*(previous[name] or ()), (session, chosen))
        if before not in _BASE.values():
            model.set_attn_implementation(_switched(before, wanted))
        yield
    finally:
        model.set_attn_implementation(before)
        for name, outer in previous.items():
            if outer is None:
                modules[name].__dict__.pop(_ATTRIBUTE, None)
            else:
                modules[name].__dict__[_ATTRIBUTE] = outer


def _switched(before: str, wanted: dict[str, dict[str, Site]]) -> str:
    hidden = {op for chosen in wanted.values() for op in chosen} - {SDPA}
    if before not in _BASE or (hidden and before != "eager"):
        raise NoiseSpecError(
            f"noise on {', '.join(sorted(hidden or {SDPA}))} with attention {before!r}",
            "a fused attention kernel hides it" if hidden else "its output is reached for eager and sdpa only",
            "load the model with attention 'eager' (--attention eager)",
        )
    return _BASE[before]


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Return the result of eager attention, exposed: query (batch, heads, tokens, dim), result (batch, tokens, heads,
    dim).

    The signature is transformers' (its attention functions take these arguments).
    """
    if kwargs.get("softcap") is not None or hasattr(module, "sinks"):
        raise NoiseSpecError(
            f"attention of {type(module).__name__}", "soft-capping and sinks are not supported", "use profile:linear"
        )
    attached: Attached = module.__dict__.get(_ATTRIBUTE, ())
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    query, keys = _operands(attached, QK, input=query, other=key.transpose(2, 3))
    scores = _results(attached, QK, torch.matmul(query, keys))
    scores = scores * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    if attention_mask is not None:
        scores = scores + attention_mask
    (scores,) = _operands(attached, SOFTMAX, input=scores)
    weights = nn.functional.softmax(scores, dim=-1, dtype=_softmax_dtype(module))
    weights = _results(attached, SOFTMAX, weights).to(query.dtype)  # its result has its own dtype
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    probabilities, value = _operands(attached, PV, input=weights, other=value)
    output = torch.matmul(probabilities, value).transpose(1, 2).contiguous()
    return _flat_results(attached, PV, output), weights


def fused_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return the result of transformers' SDPA attention, perturbed: (batch, tokens, heads, dim)."""
    attached: Attached = module.__dict__.get(_ATTRIBUTE, ())
    owner: Any = module
    if hasattr(module, "num_key_value_groups") and not use_gqa_in_sdpa(attention_mask, key):
        # the kernel's operands are the repeated ones; its caller must not repeat them again
        groups, owner = module.num_key_value_groups, _Repeated(getattr(module, "is_causal", True))
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    query, key, value = _operands(attached, SDPA, query=query, key=key, value=value)
    output, _ = sdpa_attention_forward(
        owner, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
    )
    return _flat_results(attached, SDPA, output), None


class _Repeated:
    """What transformers' SDPA attention reads of a block whose keys and values are repeated already."""

    def __init__(self, is_causal: bool) -> None:
        self.is_causal = is_causal


def _softmax_dtype(module: nn.Module) -> torch.dtype | None:
    """float32, as nearly all models compute it; GPT-2's own eager attention stays in the dtype of the scores."""
    return None if type(module).__name__ == "GPT2Attention" else torch.float32


def _operands(attached: Attached, op: str, **operands: Tensor) -> tuple[Tensor, ...]:
    for session, chosen in attached:
        if op in chosen:
            operands = {name: session.operand(chosen[op], x, name) for name, x in operands.items()}
    return tuple(operands.values())


def _results(attached: Attached, op: str, y: Tensor) -> Tensor:
    for session, chosen in attached:
        if op in chosen:
            y = session.result(chosen[op], y)
    return y


def _flat_results(attached: Attached, op: str, y: Tensor) -> Tensor:
    """A token's heads are one row."""
    return _results(attached, op, y.flatten(2)).view(y.shape)


for _name, _attention, _mask in ((EAGER, eager_attention, eager_mask), (FUSED, fused_attention, sdpa_mask)):
    AttentionInterface.register(_name, _attention)
    AttentionMaskInterface.register(_name, _mask)
