"""Batched decoding with a KV cache, greedy or sampled; finished sequences leave the batch at once.

A loop of our own, because the noise needs to know which item every row is, and because ``generate`` keeps
finished sequences in the batch, where they would be counted. A test holds it to ``model.generate``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from harness.engines.grouped import grouped
from harness.engines.kv_cache import closed_up, keep_rows, roomy_cache
from harness.engines.sessions import Injecting
from harness.engines.until import Until
from harness.numerics.gumbel import answer_streams, drawn_tokens, step_keys, token_keys
from harness.numerics.keyed_random import Keys
from harness.spec.sampling import Sampling

Looking = Callable[[int, Sequence[int]], contextlib.AbstractContextManager[object]]
"""What wraps a forward: gets its number in the batch (0 is the prefill) and the prompts (by index) of its rows."""


def nobody(step: int, rows: Sequence[int]) -> contextlib.AbstractContextManager[object]:
    """Return what looks on at no forward."""
    return contextlib.nullcontext()


@dataclass(frozen=True)
class Forced:
    """Token ids that are fed as they are: ``continuation`` is scored, given ``context``; at least one token each."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def fed(self) -> tuple[int, ...]:
        """What goes through the model: all but the last token."""
        return (*self.context, *self.continuation[:-1])


@dataclass(frozen=True)
class Prompt:
    """One sequence to complete: its item hash, noise seed and token ids.

    Where ``forced`` is not empty nothing is completed: its continuations are scored, each a sequence of its own with
    the draws of the same item and seed; ``tokens`` are then those of all of them, one after the other.
    """

    item: str
    seed: int
    tokens: tuple[int, ...]
    forced: tuple[Forced, ...] = ()


@dataclass(frozen=True)
class Completion:
    """Generated token ids, the end-of-sequence token left out; ``truncated`` if it never came, be it that a text
    ended the answer (:class:`harness.engines.until.Until`).

    ``steps`` counts the tokens generated, the end-of-sequence token included: a completion of n steps fed
    prompt + n - 1 tokens through the model. ``logits`` holds the logit of the chosen token of every step, as the model
    gave it: what a replay compares.
    """

    tokens: tuple[int, ...]
    steps: int
    truncated: bool
    logits: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Decoding:
    """At most ``max_new_tokens`` tokens, ended by any of ``stop`` (token ids), or by a text of ``until``: those of the
    largest logits, or drawn by ``sampling``."""

    max_new_tokens: int
    stop: tuple[int, ...]
    pad: int
    sampling: Sampling | None = None
    until: Until | None = None


def left_pad(sequences: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return (ids, mask) of token ids, both int64 (batch, longest); the mask is 0 at padding, which stands on the
    left."""
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(sequences):
        ids[row, longest - len(tokens) :] = torch.tensor(tokens)
        mask[row, longest - len(tokens) :] = 1
    return ids.to(device), mask.to(device)


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    decoding: Decoding,
    session: Injecting | None = None,
    looking: Looking = nobody,
) -> list[Completion]:
    """Complete ``prompts`` in one batch; ``session`` must be inside its ``batch``, if given; ``looking`` wraps
    every forward.

    Greedy unless ``decoding`` says otherwise; ties of the largest logit go to the smallest token id, as in
    ``torch.argmax``. Sampled tokens are drawn by the keys of each prompt's item and seed: see
    :mod:`harness.numerics.gumbel`.
    """
    device = next(model.parameters()).device
    choose = _largest if decoding.sampling is None else _Drawn(prompts, decoding.sampling, device)
    ids, mask = left_pad([prompt.tokens for prompt in prompts], decoding.pad, device)
    stop = torch.tensor(decoding.stop, device=device)
    cache = roomy_cache(model)
    active = list(range(len(prompts)))
    generated: list[list[int]] = [[] for _ in prompts]
    theirs: list[list[float]] = [[] for _ in prompts]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    for step in range(decoding.max_new_tokens):
        with looking(step, active), grouped(model):
            chosen, own = _forward(
                model, ids, mask, positions, cache, functools.partial(choose, step=step, rows=active)
            )
        for row, token, logit in zip(active, chosen.tolist(), own.tolist(), strict=True):
            generated[row].append(token)
            theirs[row].append(logit)
        going = ~torch.isin(chosen, stop)
        if decoding.until is not None:
            ended = [decoding.until.reached(generated[row]) for row in active]
            going &= ~torch.tensor(ended, device=device)
        kept = closed_up(going)
        if len(kept) == 0 or step + 1 == decoding.max_new_tokens:
            break
        if len(kept) < len(active):
            active = [active[index] for index in kept.tolist()]
            chosen, mask, positions = chosen[kept], mask[kept], positions[kept]
            keep_rows(cache, kept)
            if session is not None:
                session.select(kept)
        ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], 1)
        positions = positions[:, -1:] + 1
    return [completed(tokens, decoding.stop, logits) for tokens, logits in zip(generated, theirs, strict=True)]


def _largest(logits: Tensor, step: int, rows: Sequence[int]) -> Tensor:
    """The token with the largest of ``logits`` (rows, tokens), int64 (rows,)."""
    return logits.argmax(-1)


class _Drawn:
    """Draws the tokens of a batch: keys of its prompts' answers, and of the tokens as soon as they are known."""

    def __init__(self, prompts: Sequence[Prompt], sampling: Sampling, device: torch.device) -> None:
        streams = answer_streams([prompt.item for prompt in prompts], [prompt.seed for prompt in prompts])
        self._streams, self._sampling = streams.to(device), sampling
        self._tokens: Keys | None = None

    def __call__(self, logits: Tensor, step: int, rows: Sequence[int]) -> Tensor:
        """The token of each of ``rows`` (prompts, by index), int64 (rows,)."""
        if self._tokens is None:
            self._tokens = token_keys(logits.shape[-1], logits.device)
        keys = step_keys(self._streams[list(rows)], step)
        return drawn_tokens(logits, keys, self._tokens, self._sampling.temperature, self._sampling.top_p)


def _forward(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    positions: Tensor,
    cache: Cache,
    choose: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """The next token of every sequence, int64 (batch,), and its logit, float32 (batch,)."""
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1]
    logits = logits.float()
    chosen = choose(logits)
    return chosen, logits.gather(-1, chosen[:, None])[:, 0]


def completed(tokens: Sequence[int], stop: tuple[int, ...], logits: Sequence[float] = ()) -> Completion:
    """Return the completion of the generated ``tokens``, at least one, ended by any of ``stop`` or cut."""
    ended = tokens[-1] in stop
    return Completion(tuple(tokens[:-1] if ended else tokens), len(tokens), not ended, tuple(logits))
