"""Scorers of log-likelihoods: the choice that the model finds most probable, and the better one of a minimal pair.

What they read is not what a model wrote but the text of :mod:`harness.likelihoods`: one log-likelihood for each choice.
The reference is :func:`reference_of`: the choices and which of them is right.

Source: ``ConfigurableTask.process_results`` of lm-evaluation-harness 0.4.13 (``acc``, ``acc_norm``, ``acc_bytes``). Two
differences are intended. There, the first of several equal choices counts, so that a tie of a minimal pair whose good
sentence stands first is right; here a tie of a pair is wrong. There, a log-likelihood that is NaN is chosen; here a
choice without a finite one leaves the item without a score (``unparsed``, which counts as not right).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from harness import likelihoods
from harness.exceptions import HarnessError
from harness.scorers.protocol import Asked, LikelihoodScorer, Scores
from harness.strict import shown

ACC, NORM, BYTES = "acc", "acc_norm", "acc_bytes"
GOOD, BAD, TIE = "good", "bad", "tie"
SAME, OTHER = "same", "other"


def reference_of(choices: Sequence[str], answer: int) -> str:
    """Return the reference of an item: canonical JSON of its ``choices`` and the index of the right one."""
    return json.dumps({"choices": list(choices), "answer": answer}, ensure_ascii=False, separators=(",", ":"))


def choices_of(reference: str) -> tuple[tuple[str, ...], int]:
    """Return the inverse of :func:`reference_of`. Raises :class:`HarnessError` for any other text."""
    try:
        data = json.loads(reference)
        choices, answer = data["choices"], data["answer"]
        sound = len(choices) > 1 and all(isinstance(choice, str) and choice for choice in choices)
        if isinstance(answer, bool) or not isinstance(answer, int) or not sound or not 0 <= answer < len(choices):
            raise ValueError(reference)
    except (ValueError, TypeError, KeyError, RecursionError):
        rule = "it must hold at least two choices and the index of the right one"
        raise HarnessError(f"reference {shown(reference)}", rule, "correct the task") from None
    return tuple(choices), answer


def nats_of(text: str, count: int) -> tuple[float, ...] | None:
    """Return the log-likelihoods (nats) in ``text``, None where one of them is not finite.

    Raises :class:`HarnessError` for a text that does not tell of ``count`` requests.
    """
    try:
        found = likelihoods.read(text)
    except ValueError as error:
        raise HarnessError(f"answer {shown(text)}", f"it is no {error}", "evaluate again") from None
    if len(found) != count:
        raise HarnessError(f"answer {shown(text)}", f"it tells of {len(found)} requests, not of {count}", "evaluate it")
    nats = tuple(each.nats for each in found if each.nats is not None)
    return nats if len(nats) == count else None


@dataclass(frozen=True)
class ChoiceScorer(LikelihoodScorer):
    """Scores the most probable of several choices, in three ways; ``primary`` is the one that comparisons read.

    ``acc`` goes by the log-likelihood itself, ``acc_norm`` by it divided by the characters of the choice,
    ``acc_bytes`` by it divided by its bytes in UTF-8; what stands between context and choice counts in neither.
    """

    name: str
    primary: str = ACC

    def score(self, text: str, reference: str, item: Asked) -> Scores:
        """Return the three accuracies, each 1 or 0, and the choice that the primary one goes by; None without one.

        Of equal choices the first counts. Raises :class:`HarnessError` for a text or reference of another form.
        """
        choices, answer = choices_of(reference)
        nats = nats_of(text, len(choices))
        if nats is None:
            return Scores(dict.fromkeys((ACC, NORM, BYTES)))
        best = {
            ACC: _first(nats),
            NORM: _first([value / len(choice) for value, choice in zip(nats, choices, strict=True)]),
            BYTES: _first([value / len(choice.encode()) for value, choice in zip(nats, choices, strict=True)]),
        }
        return Scores({name: float(place == answer) for name, place in best.items()}, choices[best[self.primary]])


@dataclass(frozen=True)
class PairScorer(LikelihoodScorer):
    """Scores a minimal pair: right where the good sentence has the larger log-likelihood."""

    name: str = "pair"
    primary: str = ACC

    def score(self, text: str, reference: str, item: Asked) -> Scores:
        """Return ``acc``: 1, or 0, also where both are equally probable; None where one is not finite.

        Raises :class:`HarnessError` for a text or reference of another form, also for more than two choices.
        """
        choices, answer = choices_of(reference)
        if len(choices) != 2:
            raise HarnessError(f"reference {shown(reference)}", "a pair has two choices", "use --scorer choice")
        nats = nats_of(text, 2)
        if nats is None:
            return Scores({ACC: None})
        gap = nats[answer] - nats[1 - answer]
        return Scores({ACC: float(gap > 0)}, GOOD if gap > 0 else BAD if gap < 0 else TIE)


@dataclass(frozen=True)
class GreedyScorer(LikelihoodScorer):
    """Scores a given answer: right where greedy decoding would have written it, token by token."""

    name: str = "greedy"
    primary: str = ACC

    def score(self, text: str, reference: str, item: Asked) -> Scores:
        """Return ``acc``: 1 where each token was the most probable one, else 0; None for one that is not finite.

        Raises :class:`HarnessError` for a text of another form, or of several requests.
        """
        nats = nats_of(text, 1)
        if nats is None:
            return Scores({ACC: None})
        greedy = likelihoods.read(text)[0].greedy
        return Scores({ACC: float(greedy)}, SAME if greedy else OTHER)


def _first(values: Sequence[float]) -> int:
    """The place of the largest, of several the first."""
    return max(range(len(values)), key=values.__getitem__)
