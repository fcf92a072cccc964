"""Noise on attention's two matrix products, through transformers' public attention interface.

The registered attention is the eager one with the products exposed. Its mask must be registered beside it:
without that a model runs unmasked and loses its accuracy without an exception.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask
from transformers.models.qwen2.modeling_qwen2 import repeat_kv

from harness.exceptions import NoiseSpecError
from harness.noise.rows import Rows
from harness.noise.sites import PV, QK, Site
from harness.numerics.keyed_random import Keys, derive_key, stream_keys

if TYPE_CHECKING:
    from harness.noise.session import NoiseSession

IMPLEMENTATION = "harness_noise"
_ATTRIBUTE = "_harness_attention_noise"


@contextlib.contextmanager
def perturbed(model: PreTrainedModel, sites: Sequence[Site], session: NoiseSession) -> Iterator[None]:
    """Switches ``model`` to the perturbed attention for the sites of ``sites`` that are QK or PV, and back."""
    wanted: dict[str, dict[str, Site]] = {}
    for site in sites:
        if site.op in (QK, PV):
            wanted.setdefault(site.module, {})[site.op] = site
    if not wanted:
        yield
        return
    before = model.config._attn_implementation
    if before == IMPLEMENTATION:
        raise NoiseSpecError(
            f"a second session with noise on {QK}/{PV}",
            "one session at a time can perturb attention",
            "close the first",
        )
    if before != "eager":
        raise NoiseSpecError(
            f"noise on {QK}/{PV} with attention {before!r}",
            "a fused attention kernel hides both products",
            "load the model with attention 'eager' (--attention eager)",
        )
    modules = dict(model.named_modules())
    try:
        for name, chosen in wanted.items():
            setattr(modules[name], _ATTRIBUTE, (session, chosen))
        model.set_attn_implementation(IMPLEMENTATION)
        yield
    finally:
        model.set_attn_implementation(before)
        for name in wanted:
            modules[name].__dict__.pop(_ATTRIBUTE, None)


def noisy_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Eager attention, products perturbed: query (batch, heads, tokens, dim), result (batch, tokens, heads, dim).

    The signature is transformers' (its attention functions take these arguments).
    """
    if kwargs.get("softcap") is not None or hasattr(module, "sinks"):
        raise NoiseSpecError(
            f"attention of {type(module).__name__}", "soft-capping and sinks are not supported", "use profile:linear"
        )
    attached: tuple[NoiseSession, dict[str, Site]] | None = getattr(module, _ATTRIBUTE, None)
    if attached is None:
        raise RuntimeError(f"{type(module).__name__} runs {IMPLEMENTATION!r} outside a noise session")
    session, chosen = attached
    key = repeat_kv(key, module.num_key_value_groups)
    value = repeat_kv(value, module.num_key_value_groups)
    scores = torch.matmul(query, key.transpose(2, 3))
    if QK in chosen:
        scores = _perturb_scores(session, chosen[QK], scores)
    scores = scores * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    output = torch.matmul(weights, value).transpose(1, 2).contiguous()
    if PV in chosen:
        output = session.perturb(chosen[PV], output.flatten(2)).view(output.shape)
    return output, weights


def score_keys(site: Site, rows: Rows) -> tuple[Keys, Keys]:
    """Row keys (batch, 1, tokens, 1) and column keys (batch, heads, 1, keys) of QK scores.

    A draw is keyed by query row, head and the key's position without padding, wherever that stands.
    """
    batch, tokens = rows.keys.shape
    keys = rows.key_positions.shape[1]
    device = rows.keys.device
    streams = [stream_keys(derive_key("site", site.name, head), keys, device) for head in range(site.columns)]
    table = Keys(torch.stack([k.low for k in streams]), torch.stack([k.high for k in streams]))
    index = rows.key_positions.clamp(min=0)[:, None, :].expand(batch, site.columns, keys)
    columns = [half.expand(batch, -1, -1).gather(2, index)[:, :, None, :] for half in table]
    return Keys.of(rows.keys).view(batch, 1, tokens, 1), Keys(*columns)


def _perturb_scores(session: NoiseSession, site: Site, scores: Tensor) -> Tensor:
    """Counts the products of real queries with the real keys they may see; all others are not measured."""
    rows = session.rows(site)
    batch, heads, _, keys = scores.shape
    if rows.key_positions.shape != (batch, keys) or heads != site.columns:
        raise NoiseSpecError(
            f"{site.name} saw {keys} keys and {heads} heads",
            f"{rows.key_positions.shape[1]} keys and {site.columns} heads were expected",
            "use a dynamic cache without a sliding window",
        )
    seen = (rows.key_positions[:, None, :] <= rows.positions[:, :, None]) & (rows.key_positions[:, None, :] >= 0)
    real = (seen & rows.real[:, :, None])[:, None]
    return session.apply(site, scores, score_keys(site, rows), real, (rows.count, rows.visible * heads))


AttentionInterface.register(IMPLEMENTATION, noisy_attention)
AttentionMaskInterface.register(IMPLEMENTATION, eager_mask)
