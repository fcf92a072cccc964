"""The field's two scorers of a final number: ``strict`` (``#### number``) and ``flexible`` (the last number).

Both compute both values; they differ in which one is read by comparisons. The rules are those of
:mod:`harness.answers`.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.answers import FLEXIBLE, RULE, STRICT, score_text, strict_answer_is_complete
from harness.scorers.protocol import Asked, Scores


@dataclass(frozen=True)
class NumberScorer:
    """Scores a final number; ``name`` is :data:`STRICT` or :data:`FLEXIBLE`, and the value it goes by."""

    name: str

    @property
    def primary(self) -> str:
        """The value of the same name."""
        return self.name

    @property
    def rule(self) -> str:
        """The version of the rules of :mod:`harness.answers`."""
        return RULE

    def score(self, text: str, reference: str, item: Asked) -> Scores:
        """Return ``strict`` and ``flexible``, each 1, 0 or None where no number was found.

        Raises :class:`harness.exceptions.HarnessError` where ``reference`` is not a number.
        """
        found = score_text(text, reference)
        answer = found.strict_answer if self.name == STRICT else found.flexible_answer
        return Scores({STRICT: found.strict, FLEXIBLE: found.flexible}, answer)

    def complete(self, text: str) -> bool:
        """Return True for a whole ``#### number`` under the strict scorer; the last number need not be the last."""
        return self.name == STRICT and strict_answer_is_complete(text)
