"""The generator of multi-step arithmetic word problems that the shipped checkpoint has learned.

A problem is a pure function of (seed, split, index): only ``random.Random.random`` is used, the one
method whose stream Python keeps fixed between versions.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from harness.answers import STRICT
from harness.evaluate.tasks.base import Item, hash_items, item_key

DATA_SEED = 20261121
STEPS = (4, 6)
"""Fewest and most calculations in a held-out problem."""

HELD_OUT = 2000
"""How many problems the held-out split has."""

MAX_VALUE = 999
_LARGEST_AMOUNT = 99
_LARGEST_FACTOR = 3

_NAMES = (("Mia", "She"), ("Tom", "He"), ("Ana", "She"), ("Leo", "He"), ("Eva", "She"), ("Max", "He"))
_THINGS = ("pens", "cards", "coins", "books", "shells", "stamps", "beads", "marbles")
_GAINS = ("buys", "finds", "gets", "wins")
_LOSSES = ("loses", "sells", "gives away", "drops")


@dataclass(frozen=True)
class Problem:
    """One word problem: the text shown, the worked solution and the integer it ends in."""

    question: str
    solution: str
    answer: int


def generate(seed: int, split: str, index: int, steps: tuple[int, int] = STEPS) -> Problem:
    """Return the problem number ``index`` of ``split`` (``"train"`` or ``"test"``) under ``seed``.

    ``steps`` are the fewest and the most calculations; intermediate values stay within 0 and 999.
    """
    rng = random.Random(f"arith/{seed}/{split}/{index}")

    def below(n: int) -> int:
        return int(rng.random() * n)

    name, pronoun = _NAMES[below(len(_NAMES))]
    thing = _THINGS[below(len(_THINGS))]
    value = 10 + below(190)
    sentences = [f"{name} has {value} {thing}."]
    working = []
    for _ in range(steps[0] + below(steps[1] - steps[0] + 1)):
        sentence, line, value = _step(below, pronoun, value)
        sentences.append(sentence)
        working.append(line)
    sentences.append(f"How many {thing} now?")
    return Problem(" ".join(sentences), "\n".join([*working, f"#### {value}"]), value)


def _step(below: Callable[[int], int], pronoun: str, value: int) -> tuple[str, str, int]:
    """One sentence, the line of working that answers it, and the value after it."""
    kind = below(7)
    amount = 2 + below(_LARGEST_AMOUNT - 1)
    if kind == 0 and 0 < value * _LARGEST_FACTOR <= MAX_VALUE:
        factor = 2 + below(_LARGEST_FACTOR - 1)
        return f"It grows {factor} times.", f"{value}*{factor}={value * factor}", value * factor
    if (kind < 4 or amount > value) and value + amount <= MAX_VALUE:
        return f"{pronoun} {_GAINS[below(len(_GAINS))]} {amount}.", f"{value}+{amount}={value + amount}", value + amount
    return f"{pronoun} {_LOSSES[below(len(_LOSSES))]} {amount}.", f"{value}-{amount}={value - amount}", value - amount


@dataclass(frozen=True)
class ArithTask:
    """The fixed held-out split: the problems 0 to 1999 of ``"test"`` under ``DATA_SEED``, all different.

    The one user message is the question alone, as in training.
    """

    name: ClassVar[str] = "arith"
    scorer: ClassVar[str] = STRICT
    floor: ClassVar[float] = 0.10
    max_new_tokens: ClassVar[int] = 96

    def items(self) -> tuple[Item, ...]:
        """Return all 2,000 items in the order of their index."""
        return _held_out()

    def dataset_hash(self) -> str:
        """Return the hash of the whole split, 16 hex digits."""
        return hash_items(_held_out())

    def messages(self, item: Item) -> list[dict[str, str]]:
        """Return one user message with the bare question."""
        return [{"role": "user", "content": item.question}]


@cache
def _held_out() -> tuple[Item, ...]:
    """The items, made once in a process."""
    problems = [generate(DATA_SEED, "test", index) for index in range(HELD_OUT)]
    items = tuple(
        Item(item_key(ArithTask.name, p.question, str(p.answer)), p.question, str(p.answer), p.solution)
        for p in problems
    )
    assert len({item.question for item in items}) == HELD_OUT, "the generator repeats a held-out question"
    return items
