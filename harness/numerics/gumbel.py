"""Tokens drawn by the Gumbel-max trick from keyed random bits: the same draws for every model, batch and engine.

The largest of ``logits / temperature + g`` with independent standard Gumbel g is a draw from softmax(logits /
temperature). As g is a pure function of (item, draw, step of the answer, token id), two models that are asked the same
item share it, level by level and engine by engine: common random numbers, by which their answers differ only where
their distributions do.

Sources: Gumbel (1954), Statistical Theory of Extreme Values; Maddison, Tarlow and Minka (2014), A* Sampling (NeurIPS);
the cut of the distribution: Holtzman et al. (2020), as vLLM and transformers keep it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.numerics.keyed_random import Keys, bits, counter_keys, derive_key, stream_keys

LARGEST_GUMBEL = 22.88
"""Above every draw: the bits leave 2**-33 at either end of the unit interval; the least draw is -3.13."""


def answer_streams(items: Sequence[str], draws: Sequence[int]) -> Tensor:
    """Return the stream of every answer, int64 (answers,): of its item (hash) and draw. Its counters are the steps of
    the answer, 0 for the first generated token.

    The labels are other than those of the noise, so that neither knows the other's draws.
    """
    return torch.tensor([derive_key("sampled answer", draw, item) for item, draw in zip(items, draws, strict=True)])


def step_keys(streams: Tensor, steps: Tensor | int) -> Keys:
    """Return the row keys of one step of every answer, shape (answers,); ``steps`` is one number, or one of each."""
    counters = torch.as_tensor(steps, dtype=torch.int64, device=streams.device).expand(streams.shape)
    return Keys.of(counter_keys(streams, counters))


def token_keys(vocabulary: int, device: torch.device) -> Keys:
    """Return the column keys of the token ids 0 to ``vocabulary - 1``, shape (vocabulary,)."""
    return stream_keys(derive_key("sampled token"), vocabulary, device)


def gumbels(rows: Keys, columns: Keys) -> Tensor:
    """Return standard Gumbel draws, float64, one for each pair of keys: -log(-log(u)) with u = (bits + 1/2) / 2**32.

    The bits are exact everywhere. The logarithms may differ in the last bit of a float64 between libraries, which is
    a million times below what the float32 logits beside them differ by.
    """
    drawn = bits(rows, columns).to(torch.float64)
    return drawn.add_(2.0**31 + 0.5).div_(2.0**32).log_().neg_().log_().neg_()


def nucleus(scaled: Tensor, top_p: float) -> Tensor:
    """Return which tokens stay, bool like ``scaled``, logits / temperature (rows, tokens) in float64.

    Those stay whose more probable ones sum to less than ``top_p``, so that the most probable always does; of equal
    probabilities the smaller token id comes first. Rows whose probabilities are not finite keep all tokens.
    """
    shares = scaled.softmax(-1)
    # tokens of less than an equal part of what is cut off cannot stay: all of them together are less than that
    most = int((~(shares < (1 - top_p) / shares.shape[-1])).sum(-1).max())
    ordered = shares.topk(most, dim=-1).values
    staying = (~(ordered.cumsum(-1) - ordered >= top_p)).sum(-1, keepdim=True)
    last = ordered.gather(-1, staying - 1)
    kept = ~(shares < last)
    if bool((kept.sum(-1, keepdim=True) > staying).any()):  # equal ones at the edge, or NaN, which is equal to nothing
        equal = shares == last
        kept &= ~(equal & (equal.cumsum(-1) > staying - (shares > last).sum(-1, keepdim=True)))
    return kept


def drawn_tokens(logits: Tensor, rows: Keys, columns: Keys, temperature: float, top_p: float = 1.0) -> Tensor:
    """Return the token drawn for every row of ``logits`` (rows, tokens), int64 (rows,).

    ``rows`` are :func:`step_keys`, ``columns`` :func:`token_keys`. Computed in float64 on the device of the logits;
    only tokens that stay are drawn for.
    """
    scaled = logits.to(torch.float64) / temperature
    if top_p >= 1:
        return scaled.add_(gumbels(rows.view(-1, 1), columns.view(1, -1))).argmax(-1)
    row, token = nucleus(scaled, top_p).nonzero(as_tuple=True)
    scores = torch.full_like(scaled, -torch.inf)
    drawn = gumbels(Keys(rows.low[row], rows.high[row]), Keys(columns.low[token], columns.high[token]))
    scores[row, token] = scaled[row, token] + drawn
    return scores.argmax(-1)
