"""What a dose response asks of a model: is each item right, how far are its tokens from the clean ones, how certain."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harness.diagnostics.effect import CleanAnswers
from harness.evaluate.prepared import Prepared

Changed = Callable[[], contextlib.AbstractContextManager[object]]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Clean:
    """Of every item 1 where it is right and the mean entropy of its tokens (nats); how many tokens there are in all."""

    right: list[int]
    entropy: list[float]
    tokens: int


@dataclass(frozen=True)
class Noisy:
    """Of every item 1 where it is right, the mean KL(clean || noisy) and the mean entropy of its tokens (nats)."""

    right: list[int]
    kl: list[float]
    entropy: list[float]


class Probe(Protocol):
    """Items and a model; :meth:`clean` is called first."""

    keys: list[str]

    def clean(self, advance: Advance) -> Clean:
        """Return what the model does as it is; ``advance(n)`` is told of every n items."""
        ...

    def under(self, changed: Changed, advance: Advance) -> Noisy:
        """Return what the model does inside ``changed()``."""
        ...


class AnswerProbe:
    """The answers to the items of a task: right by its scorer, KL and entropy over the tokens of the clean answer."""

    def __init__(self, prepared: Prepared, batch_size: int) -> None:
        self._prepared, self._batch_size = prepared, batch_size
        self._answers: CleanAnswers | None = None
        self.keys = [item.key for item in prepared.items]

    def clean(self, advance: Advance) -> Clean:
        """Return the clean answers, made now."""
        self._answers = CleanAnswers(self._prepared, self._batch_size, advance)
        entropies = self._answers.entropy()
        right = [int(answer.right) for answer in self._answers.clean]
        return Clean(right, [entropies[key] for key in self.keys], self._answers.positions)

    def under(self, changed: Changed, advance: Advance) -> Noisy:
        """Return the answers inside ``changed()``, and what it makes of the tokens of the clean ones."""
        assert self._answers is not None
        found = self._answers.under(changed, advance)
        right = [int(answer.right) for answer in found.answers]
        return Noisy(right, [found.kl[key] for key in self.keys], [found.entropy[key] for key in self.keys])
