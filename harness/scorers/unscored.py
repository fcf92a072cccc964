"""The scorer of texts that somebody else judges: a record keeps what was written, and there is no right or wrong."""

from __future__ import annotations

from dataclasses import dataclass

from harness.scorers.protocol import FIRST_RULE, TEXTS, Asked, Scores

UNSCORED, CHARACTERS = "unscored", "characters"


@dataclass(frozen=True)
class UnscoredScorer:
    """Gives the length of a text; no score."""

    name: str = UNSCORED
    primary: str = CHARACTERS
    continuous: bool = True

    @property
    def rule(self) -> str:
        """The version of its rule."""
        return FIRST_RULE

    @property
    def reads(self) -> str:
        """It reads what a model wrote."""
        return TEXTS

    def complete(self, text: str) -> bool:
        """Return True: nothing of a text is missing that would be judged."""
        return True

    def score(self, text: str, reference: str, item: Asked) -> Scores:
        """Return the number of characters."""
        return Scores({CHARACTERS: float(len(text))})
