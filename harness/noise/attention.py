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
from harness.numerics.error_models import relative_gaussian
from harness.numerics.keyed_random import LANES, column_keys, derive_key, normals

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


def score_draws(site: Site, rows: Rows, keys: int) -> Tensor:
    """Draws for QK scores, float32 (batch, heads, tokens, keys): keyed by query row, head and key position.

    Columns are drawn for key positions without padding and then moved to where each sequence has them.
    """
    positions = rows.key_positions
    batch, tokens = rows.keys.shape
    device = rows.keys.device
    streams = [column_keys(derive_key("site", site.name, head), keys, device) for head in range(site.columns)]
    width = streams[0].numel() * LANES
    draws = normals(rows.keys.reshape(-1), torch.cat(streams))
    draws = draws.view(batch, tokens, site.columns, width).transpose(1, 2)
    index = positions.clamp(min=0)[:, None, None, :].expand(batch, site.columns, tokens, keys)
    return draws.gather(3, index)


def _perturb_scores(session: NoiseSession, site: Site, scores: Tensor) -> Tensor:
    rows = session.rows(site)
    batch, heads, _, keys = scores.shape
    if rows.key_positions.shape != (batch, keys) or heads != site.columns:
        raise NoiseSpecError(
            f"{site.name} saw {keys} keys and {heads} heads",
            f"{rows.key_positions.shape[1]} keys and {site.columns} heads were expected",
            "use a dynamic cache without a sliding window",
        )
    perturbed_scores = relative_gaussian(scores, score_draws(site, rows, keys) * session.scale)
    _count_scores(session, site, scores, perturbed_scores, rows)
    return perturbed_scores


def _count_scores(session: NoiseSession, site: Site, before: Tensor, after: Tensor, rows: Rows) -> None:
    """Counts the products of real queries with the real keys they may see; all others enter as zeros."""
    seen = (rows.key_positions[:, None, :] <= rows.positions[:, :, None]) & (rows.key_positions[:, None, :] >= 0)
    if rows.real is not None:
        seen &= rows.real[:, :, None]
    # elements per head follow from the positions alone, so no synchronisation is needed to count them
    valid = seen[:, None].to(before.dtype)
    flat = (before.shape[0] * before.shape[2], before.shape[1] * before.shape[3])
    masked = [(scores * valid).transpose(1, 2).reshape(flat) for scores in (before, after)]
    session.ledger.note_call(site, rows.count, rows.visible * before.shape[1])
    session.ledger.note(site, masked[0], masked[1])


AttentionInterface.register(IMPLEMENTATION, noisy_attention)
AttentionMaskInterface.register(IMPLEMENTATION, eager_mask)
