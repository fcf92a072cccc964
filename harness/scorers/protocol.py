"""What a scorer is, and how its values of one text become the outcome of a record (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from harness.exceptions import HarnessError
from harness.record import MEASURED, RIGHT, TRUNCATED, UNPARSED, WRONG
from harness.text import brief

SCORER_FIELD, RULE_FIELD = "scorer", "scorer_rule"
FIRST_RULE = "1"
"""The version of a scorer that names none."""

TEXTS, LIKELIHOODS = "texts", "log-likelihoods"
"""What a scorer reads: what a model wrote, or how probable it found what it was given (:mod:`harness.likelihoods`)."""


@dataclass(frozen=True)
class Asked:
    """What a scorer is told of an item: all of it is stored with the run, so that scores can be recomputed."""

    key: str
    question: str


@dataclass(frozen=True)
class Scores:
    """What a scorer finds in one text: ``values`` by name, None where nothing could be read, and the ``answer`` read.

    The value under the scorer's primary name is 1 (right), 0 (wrong) or None; the others are fractions in [0, 1].
    """

    values: Mapping[str, float | None]
    answer: str | None = None


class Scorer(Protocol):
    """Scores texts. It must be a function of its arguments alone: stored scores are recomputed whenever a run is read.

    A class may derive from this one for the method that most scorers leave as it is.
    """

    @property
    def name(self) -> str:
        """What ``--scorer``, tasks and the measurement key call it."""

    @property
    def primary(self) -> str:
        """The name of the value that comparisons and gates read."""

    @property
    def rule(self) -> str:
        """The version of what it does: another one as soon as any text gets another score. The key has it too."""
        return FIRST_RULE

    def score(self, text: str, reference: str, item: Asked) -> Scores:
        """Return the scores of a model's ``text`` where ``reference`` is right. Any text of any length is accepted."""

    def complete(self, text: str) -> bool:
        """Return True where no further text could change the primary value of ``text``, which was cut off.

        Otherwise an answer that stops at the token limit is ``truncated`` and has no score.
        """
        return False


class LikelihoodScorer:
    """What scorers of log-likelihoods have in common."""

    @property
    def rule(self) -> str:
        """The version of its rule."""
        return FIRST_RULE

    @property
    def reads(self) -> str:
        """It reads log-likelihoods."""
        return LIKELIHOODS

    def complete(self, text: str) -> bool:
        """Return True: nothing is generated, so that nothing is cut off."""
        return True


def scorer_key(scorer: Scorer) -> dict[str, str]:
    """Return the fields of the measurement key that say how answers were scored: name and version of the rule."""
    return {SCORER_FIELD: scorer.name, RULE_FIELD: getattr(scorer, "rule", FIRST_RULE)}


def reads(scorer: Scorer) -> str:
    """Return what ``scorer`` reads: :data:`TEXTS`, unless it says otherwise."""
    return str(getattr(scorer, "reads", TEXTS))


@dataclass(frozen=True)
class Judged:
    """The scored part of a record: see :class:`harness.record.ItemResult`."""

    score: float | None
    reason: str
    answer: str | None
    scores: Mapping[str, float | None]


def judged(scorer: Scorer, text: str, reference: str, item: Asked, truncated: bool) -> Judged:
    """Return what the record of ``text`` holds; ``truncated`` says that generation stopped at the token limit.

    Such a text has no score unless its answer was :meth:`Scorer.complete`. A scorer that is ``continuous`` gives values
    of which none is right or wrong: the record is ``measured``. Raises :class:`HarnessError` where
    the scorer fails on the text or gives values that break the rules of :class:`Scores`.
    """
    try:
        found = scorer.score(text, reference, item)
        values = {name: None if value is None else float(value) for name, value in found.values.items()}
        done = not truncated or scorer.complete(text)
    except HarnessError:
        raise
    except Exception as error:  # the code of others raises anything
        raise _broken(scorer, item, brief(error)) from error
    if getattr(scorer, "continuous", False):
        return Judged(None, UNPARSED if values.get(scorer.primary) is None else MEASURED, None, values)
    _check(scorer, item, found.answer, values)
    score = values[scorer.primary]
    if not done:
        return Judged(None, TRUNCATED, None, values)
    if score is None:
        return Judged(None, UNPARSED, None, values)
    return Judged(score, RIGHT if score else WRONG, found.answer, values)


def _check(scorer: Scorer, item: Asked, answer: object, values: Mapping[str, float | None]) -> None:
    if answer is not None and not isinstance(answer, str):
        raise _broken(scorer, item, f"the answer {answer!r:.60}; it is text or None")
    if scorer.primary not in values:
        raise _broken(scorer, item, f"no value {scorer.primary!r}, its primary one")
    if values[scorer.primary] not in (None, 0.0, 1.0):
        raise _broken(scorer, item, f"{scorer.primary} = {values[scorer.primary]}; right is 1, wrong is 0")
    for name, value in values.items():
        if value is not None and not 0 <= value <= 1:
            raise _broken(scorer, item, f"{name} = {value}; a value is a fraction in [0, 1] or None")


def _broken(scorer: Scorer, item: Asked, why: str) -> HarnessError:
    return HarnessError(f"scorer {scorer.name!r} on item {item.key}", f"it gave {why}", "repair the scorer")
