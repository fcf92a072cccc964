"""The scorer of whole texts: how probable a document is. There is no right or wrong, so that no accuracy comes of it.

The reference is :func:`lengths_of`: words and bytes of the document, by which perplexities are made
(:mod:`harness.gates.perplexity`).

Source: ``PerplexityTask`` of lm-evaluation-harness 0.4.13 (words are what white space parts, bytes those of UTF-8).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from harness import likelihoods
from harness.exceptions import HarnessError
from harness.scorers.protocol import Asked, LikelihoodScorer, Scores
from harness.strict import shown

PERPLEXITY = "perplexity"
NATS, TOKENS, WORDS, BYTES = "nats", "tokens", "words", "bytes"


def lengths_of(text: str) -> str:
    """Return the reference of a document: its words and bytes as canonical JSON."""
    return json.dumps({WORDS: len(re.split(r"\s+", text)), BYTES: len(text.encode())}, separators=(",", ":"))


@dataclass(frozen=True)
class PerplexityScorer(LikelihoodScorer):
    """Gives the log-likelihood (nats) of a document with its tokens, words and bytes; no score."""

    name: str = PERPLEXITY
    primary: str = NATS
    continuous: bool = True

    def score(self, text: str, reference: str, item: Asked) -> Scores:
        """Return the sum over all windows; without a value where one is not finite.

        Raises :class:`HarnessError` for a text or reference of another form.
        """
        try:
            found = likelihoods.read(text)
            lengths = json.loads(reference)
            words, size = int(lengths[WORDS]), int(lengths[BYTES])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise HarnessError(f"answer {shown(text)}", f"no log-likelihoods ({error})", "evaluate again") from None
        finite = [each.nats for each in found if each.nats is not None]
        nats = sum(finite) if len(finite) == len(found) else None
        tokens = sum(each.tokens for each in found)
        return Scores({NATS: nats, TOKENS: float(tokens), WORDS: float(words), BYTES: float(size)})
