"""Log-probabilities of given continuations: one forward over each sequence, no cache, nothing generated.

A forward holds one request of each item at most: requests of an item share their draws (they are keyed by item, seed
and position), and an audit could not tell that from noise that repeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from harness.distributions import Distribution, Keep
from harness.engines.generation import Forced, Looking, Prompt, left_pad, nobody
from harness.engines.sessions import Injecting
from harness.numerics.keeping import distribution_of

LOGITS = 1 << 25
"""Logits made in one forward at most (but always those of one sequence): 128 MiB in float32."""


@dataclass(frozen=True)
class Likelihood:
    """What a model says of a continuation: the log-probability (nats) of each token, and whether each was the most
    probable one; ``distribution`` is what it expected at each place, where that was asked for."""

    logprobs: tuple[float, ...]
    greedy: bool
    distribution: Distribution | None = None


@dataclass(frozen=True)
class Part:
    """One forward: request number ``request`` of the prompts ``rows`` (by index), the longest first."""

    request: int
    rows: tuple[int, ...]

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Return how many tokens each row feeds."""
        return [len(prompts[row].forced[self.request].fed) for row in self.rows]

    def last_steps(self, prompts: Sequence[Prompt]) -> list[int]:
        """Return the step (:mod:`harness.spec.tokens`) of the last token that each row feeds."""
        return [len(prompts[row].forced[self.request].continuation) - 1 for row in self.rows]


def parts_of(prompts: Sequence[Prompt], vocabulary: int) -> list[Part]:
    """Return the forwards in which the requests of ``prompts`` are scored, so that none makes more than :data:`LOGITS`
    logits."""
    found = []
    for request in range(max(len(prompt.forced) for prompt in prompts)):
        there = [row for row, prompt in enumerate(prompts) if len(prompt.forced) > request]
        there.sort(key=lambda row: -len(prompts[row].forced[request].fed))
        while there:
            width = len(prompts[there[0]].forced[request].fed)
            count = max(1, LOGITS // (width * vocabulary))
            found.append(Part(request, tuple(there[:count])))
            there = there[count:]
    return found


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    prompts: Sequence[Prompt],
    pad: int,
    session: Injecting | None = None,
    looking: Looking = nobody,
    kept: Sequence[Keep] = (),
) -> list[tuple[Likelihood, ...]]:
    """Return the log-likelihoods of each prompt's continuations, in their order.

    ``kept`` says of each prompt (of none where it is empty) what else is kept of its places; such a prompt has one
    continuation.
    ``session`` must be inside its ``batch`` over ``prompts``, if given; ``looking`` wraps every forward, and is told
    its number in :func:`parts_of`. Log-probabilities are taken in float32 from the logits as the model gives them.
    """
    found: list[dict[int, Likelihood]] = [{} for _ in prompts]
    for number, part in enumerate(parts_of(prompts, model.config.get_text_config().vocab_size)):
        forced = [prompts[row].forced[part.request] for row in part.rows]
        with looking(number, part.rows):
            logits = _forward(model, forced, part, pad, session)
        wanted = [kept[row] if kept else None for row in part.rows]
        for row, likelihood in zip(part.rows, _read(logits, forced, wanted), strict=True):
            found[row][part.request] = likelihood
    return [tuple(each[request] for request in sorted(each)) for each in found]


def _forward(
    model: PreTrainedModel, forced: Sequence[Forced], part: Part, pad: int, session: Injecting | None
) -> Tensor:
    """The logits of all tokens fed, (batch, longest, vocabulary)."""
    device = next(model.parameters()).device
    ids, mask = left_pad([each.fed for each in forced], pad, device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    given = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "use_cache": False}
    if session is None:
        logits: Tensor = model(**given).logits
        return logits
    with session.narrowed(torch.tensor(part.rows), [len(each.context) for each in forced]):
        logits = model(**given).logits
    return logits


def _read(logits: Tensor, forced: Sequence[Forced], kept: Sequence[Keep | None]) -> Iterator[Likelihood]:
    """What each row says of its continuation, sequence by sequence: only one needs room in float32."""
    for own, each, keep in zip(logits, forced, kept, strict=True):
        wanted = torch.tensor(each.continuation, device=own.device)
        last = own[-len(wanted) :].float()
        every = torch.log_softmax(last, -1)
        logprobs = every.gather(-1, wanted[:, None])[:, 0]
        greedy = bool((last.argmax(-1) == wanted).all())
        yield Likelihood(tuple(logprobs.tolist()), greedy, None if keep is None else distribution_of(every, keep))
