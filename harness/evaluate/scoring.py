"""From a generated text, or from log-likelihoods, to a record (no tensors)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.evaluate.tasks import Item
from harness.likelihoods import Scored, written
from harness.record import ItemResult, LikelihoodResult
from harness.scorers import Asked, Scorer, judged

if TYPE_CHECKING:
    from harness.engines.generation import Forced, Prompt
    from harness.engines.likelihood import Likelihood


def scored_result(item: Item, text: str, scorer: Scorer, **fields: Any) -> ItemResult:
    """Return an :class:`ItemResult` of ``text`` under ``scorer``; ``fields`` are the remaining ones of the record."""
    found = judged(scorer, text, item.reference, Asked(item.key, item.question), fields["truncated"])
    return ItemResult(
        item=item.key,
        score=found.score,
        reason=found.reason,
        answer=found.answer,
        scores=found.scores,
        text=text,
        **fields,
    )


def likelihood_result(
    item: Item, prompt: Prompt, found: Sequence[Likelihood], scorer: Scorer, level: float
) -> LikelihoodResult:
    """Return the record of ``found``, what an engine says of the continuations of ``prompt`` at ``level``.

    Log-probabilities are summed without rounding on the way. Raises ValueError where one of them has not one
    log-probability for each token.
    """
    pairs = list(zip(prompt.forced, found, strict=True))
    wrong = [len(own.logprobs) for forced, own in pairs if len(own.logprobs) != len(forced.continuation)]
    if wrong:
        raise ValueError(f"{wrong[0]} log-probabilities for a continuation of item {item.key} with another length")
    text = written([_scored(forced, own) for forced, own in pairs])
    judgement = judged(scorer, text, item.reference, Asked(item.key, item.question), False)
    return LikelihoodResult(
        item=item.key,
        level=level,
        seed=prompt.seed,
        score=judgement.score,
        reason=judgement.reason,
        answer=judgement.answer,
        scores=judgement.scores,
        prompt_tokens=sum(len(forced.context) for forced in prompt.forced),
        tokens=tuple(token for forced in prompt.forced for token in forced.continuation),
        text=text,
        truncated=False,
        logits=tuple(value for own in found for value in own.logprobs),
    )


def _scored(forced: Forced, own: Likelihood) -> Scored:
    kept = "" if own.distribution is None else own.distribution.written()
    return Scored(len(forced.context), len(forced.continuation), _sum(own.logprobs), own.greedy, kept)


def _sum(values: Sequence[float]) -> float | None:
    return math.fsum(values) if all(map(math.isfinite, values)) else None
