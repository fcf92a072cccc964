"""What a record of scored continuations says in its text: one entry for each request, in the order of the task.

The text is JSON, so that it stands where the text of a generated answer stands, and scores follow from it alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

DECODING = "log-likelihood"
"""What the measurement key says under ``decoding`` where continuations are scored and nothing is generated."""

DIGITS = 9
"""Significant digits of a log-likelihood in a record; beyond them float32 has nothing to say."""


@dataclass(frozen=True, slots=True)
class Scored:
    """The answer to one request. ``context`` and ``tokens`` count the tokens conditioned on and those scored.

    ``nats`` is the sum of the log-probabilities of the scored tokens (natural logarithm), None where it is not finite;
    ``greedy`` is True where each scored token was the most probable one at its place. ``distribution`` is the text of a
    :class:`harness.distributions.Distribution` over the places, empty where none was asked for.
    """

    context: int
    tokens: int
    nats: float | None
    greedy: bool
    distribution: str = ""

    @property
    def fed(self) -> int:
        """Tokens fed through the model: all but the last one, which predicts nothing that is scored."""
        return self.context + self.tokens - 1


def written(requests: Sequence[Scored]) -> str:
    """Return ``requests`` as canonical JSON, log-likelihoods to :data:`DIGITS` digits."""
    return json.dumps([_row(each) for each in requests], separators=(",", ":"))


def read(text: str) -> tuple[Scored, ...]:
    """Return the inverse of :func:`written`. Raises ValueError for any other text."""
    try:
        rows = json.loads(text)
        found = tuple(_scored(*row) for row in rows)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"a text of scored requests ({error})") from None
    if not found:
        raise ValueError("a text of no scored request")
    return found


def _row(each: Scored) -> list[object]:
    row: list[object] = [each.context, each.tokens, _rounded(each.nats), each.greedy]
    return [*row, each.distribution] if each.distribution else row


def _scored(context: object, tokens: object, nats: object, greedy: object, distribution: object = "") -> Scored:
    if not isinstance(distribution, str):
        raise ValueError(f"distribution {distribution!r:.40} of a scored request")
    for name, value, least in (("context", context, 1), ("tokens", tokens, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} {value!r:.40} of a scored request")
    if not isinstance(greedy, bool):
        raise ValueError(f"greedy {greedy!r:.40} of a scored request")
    if nats is not None and (isinstance(nats, bool) or not isinstance(nats, int | float) or not math.isfinite(nats)):
        raise ValueError(f"nats {nats!r:.40} of a scored request")
    assert isinstance(context, int) and isinstance(tokens, int)
    return Scored(context, tokens, None if nats is None else float(nats), greedy, distribution)


def _rounded(nats: float | None) -> float | None:
    """JSON has no infinity: what is not finite has no value."""
    return None if nats is None or not math.isfinite(nats) else float(f"{nats:.{DIGITS}g}")
