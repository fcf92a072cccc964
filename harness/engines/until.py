"""When a text in the answer ends its generation: with the first token after which the answer holds one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.scorers.until import holds

_MORE = 8
"""Tokens looked at beyond one for each byte of the longest text: some stand for no byte of their own."""


@dataclass(frozen=True)
class Until:
    """``texts`` that end an answer; ``decode`` makes text of token ids, special tokens left out.

    The token that completes one of them stays in the answer, and so does what it says beyond: where the answer is cut
    is a matter of its scorer (:func:`harness.scorers.until.cut`).
    """

    texts: tuple[str, ...]
    decode: Callable[[Sequence[int]], str] = field(compare=False, repr=False)

    def reached(self, tokens: Sequence[int]) -> bool:
        """Return whether the answer of ``tokens`` ends here, where it did not end before its last token."""
        near = max(len(text.encode()) for text in self.texts) + _MORE
        if not holds(self.decode(tokens[-near:]), self.texts):
            return False
        return len(tokens) <= near or holds(self.decode(tokens), self.texts)

    def first(self, tokens: Sequence[int]) -> int | None:
        """Return after how many of ``tokens`` the answer ends, None where it does not."""
        return next((count for count in range(1, len(tokens) + 1) if self.reached(tokens[:count])), None)

    def within(self, vocabulary: int) -> tuple[int, ...]:
        """Return the token ids below ``vocabulary`` that hold one of the texts by themselves."""
        return tuple(token for token in range(vocabulary) if holds(self.decode([token]), self.texts))
