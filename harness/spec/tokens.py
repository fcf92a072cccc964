"""Which tokens of a sequence are perturbed: intervals of steps, counted from the row that chooses the first token.

Every row that is fed through a model has a step: the token at position p of a sequence whose prompt has P tokens is
row ``p - (P - 1)``. Rows of the prompt have steps up to 0, the row of step 0 (the last token of the prompt) chooses the
first token, and the row of step k is the k-th generated token, which chooses the next one. Steps depend on the sequence
alone, neither on its batch nor on how an engine cuts the prompt into chunks.

``prefill`` is every row of the prompt (the last one too), ``first`` the row of step 0, ``decode`` the rows of all
generated tokens, ``decode:3-`` those from the third on, ``decode:3-7`` and ``decode:3`` some of them. ``once:N`` is one
forward of each sequence: its prompt where N is 0 (``once`` alone), else decode step N.

Where given continuations are scored, each is a sequence of its own: its context stands for the prompt, its tokens for
the generated ones. One forward feeds them all, so that rows are told by their step, as in a generation of those tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.exceptions import NoiseSpecError
from harness.text import nearest

PREFILL, FIRST, DECODE, ONCE = "prefill", "first", "decode", "once"
NAMES = (PREFILL, FIRST, DECODE, ONCE)
EXAMPLE = "write for example tokens:prefill, tokens:first, tokens:decode:3- or tokens:once:5"

Span = tuple[int | None, int | None]
"""The first and the last step of an interval; None where it has no such end."""

_STEPS = re.compile(r"([0-9]{1,18})(?:(-)([0-9]{1,18})?)?")


def spans_of(words: Iterable[str]) -> tuple[Span, ...]:
    """Return the steps that ``words`` (``prefill``, ``decode:3-7`` ...) select together: sorted, disjoint, joined where
    they touch.

    Raises :class:`NoiseSpecError` for other words.
    """
    found: list[Span] = []
    for low, high in sorted((_span(word) for word in words), key=lambda span: _low(span[0])):
        if found and _low(low) <= _high(found[-1][1]) + 1:
            found[-1] = found[-1][0], max(high, found[-1][1], key=_high)
        else:
            found.append((low, high))
    return tuple(found)


def canonical(words: Iterable[str]) -> tuple[str, ...]:
    """Return the shortest words for what ``words`` select; none where that is every row. Equal selections are equal.

    Raises :class:`NoiseSpecError`.
    """
    spans = spans_of(words)
    return () if spans == ((None, None),) else tuple(word for span in spans for word in _words(span))


def in_spans(step: int, spans: Sequence[Span]) -> bool:
    """Return whether the row of ``step`` is selected."""
    return any(_low(low) <= step <= _high(high) for low, high in spans)


def overlap(first: int, last: int, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """Return the parts of the steps ``first`` to ``last`` (inclusive) that ``spans`` select."""
    parts = (
        (first if low is None else max(first, low), last if high is None else min(last, high)) for low, high in spans
    )
    return [(low, high) for low, high in parts if low <= high]


def selects(prompt: int, generated: int, spans: Sequence[Span]) -> bool:
    """Return whether ``spans`` select a row of a sequence of ``prompt`` tokens and ``generated`` (or scored) ones, of
    which the last is never fed; True where there are none, because then every row is selected."""
    return not spans or bool(overlap(1 - prompt, generated - 1, spans))


def _span(word: str) -> Span:
    name, colon, steps = word.partition(":")
    if name in (PREFILL, FIRST) and not colon:
        return (None, 0) if name == PREFILL else (0, 0)
    if name == ONCE:
        step = _number(word, steps) if colon else 0
        return (step, step) if step else (None, 0)
    if name != DECODE:
        raise NoiseSpecError(f"tokens:{word}", nearest(name, NAMES) if not colon else "it has no steps", EXAMPLE)
    if not colon:
        return 1, None
    match = _STEPS.fullmatch(steps)
    low, high = (int(match[1]), int(match[3] or match[1])) if match is not None else (0, 0)
    if low < 1 or high < low:
        raise NoiseSpecError(f"tokens:{word}", "decode steps are counted from 1: FIRST, FIRST- or FIRST-LAST", EXAMPLE)
    return low, None if match is not None and match[2] and not match[3] else high


def _number(word: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise NoiseSpecError(f"tokens:{word}", "once:N is one forward of each sequence, 0 its prompt", EXAMPLE)
    return int(text)


def _words(span: Span) -> tuple[str, ...]:
    low, high = span
    if low is None or low <= 0:
        begun = PREFILL if low is None else FIRST
        return (begun,) if high == 0 else (begun, *_words((1, high)))
    if high is None:
        return (DECODE if low == 1 else f"{DECODE}:{low}-",)
    return (f"{DECODE}:{low}" if low == high else f"{DECODE}:{low}-{high}",)


def _low(low: int | None) -> float:
    return float("-inf") if low is None else low


def _high(high: int | None) -> float:
    return float("inf") if high is None else high
