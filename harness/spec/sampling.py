"""How the next token is chosen: the largest logit, or a keyed draw from a tempered, truncated distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.exceptions import HarnessError

GREEDY = "greedy"
"""The decoding of a measurement key where every token is the one with the largest logit."""

METHOD = "keyed-gumbel:1"
"""The draws of :mod:`harness.numerics.gumbel`, by version: other draws are another measurement."""

COLDEST, HOTTEST = 0.01, 100.0
"""Temperatures outside say nothing: below, the draw is the largest logit; above, it forgets the logits."""

_PREFIX = "sampling "
_FIELD = "decoding"


@dataclass(frozen=True)
class Sampling:
    """Tokens are drawn from softmax(logits / ``temperature``), cut to the smallest set of largest probabilities whose
    sum reaches ``top_p`` (fraction; 1 cuts nothing).

    Raises :class:`HarnessError` for values out of range. Source of the cut: Holtzman et al. (2020), The Curious Case
    of Neural Text Degeneration (ICLR).
    """

    temperature: float
    top_p: float = 1.0

    def __post_init__(self) -> None:
        """Check both."""
        if not COLDEST <= self.temperature <= HOTTEST:
            raise HarnessError(
                f"--temperature {self.temperature:g}",
                f"a temperature lies between {COLDEST:g} and {HOTTEST:g}, or is 0, which is greedy",
                "give for example 0.7",
            )
        if not 0 < self.top_p <= 1:
            raise HarnessError(
                f"--top-p {self.top_p:g}", "it is a fraction in (0, 1]", "give for example 0.95, or 1 for no cut"
            )

    def __str__(self) -> str:
        """Return what a measurement key says of it; equal texts, equal draws."""
        return f"{_PREFIX}temperature={float(self.temperature)!r} top_p={float(self.top_p)!r} {METHOD}"


def sampling_of(temperature: float, top_p: float) -> Sampling | None:
    """Return the sampling that both numbers ask for, None for temperature 0: greedy decoding.

    Raises :class:`HarnessError` for values out of range, and for a ``top_p`` that greedy decoding would not read.
    """
    if temperature == 0:
        if top_p != 1:
            raise HarnessError(
                f"--top-p {top_p:g} without --temperature",
                "greedy decoding takes the largest logit, so nothing would be cut",
                "give --temperature, or leave --top-p out",
            )
        return None
    if not math.isfinite(temperature):
        raise HarnessError(f"--temperature {temperature:g}", "it is a finite number >= 0", "give for example 0.7")
    return Sampling(temperature, top_p)


def is_sampled(key: Mapping[str, str]) -> bool:
    """Return whether the numbers of a measurement ``key`` come from sampled answers: several draws at every level."""
    return key.get(_FIELD, GREEDY).startswith(_PREFIX)


def draws_given(samples: int | None, noise_seeds: int | None, temperature: float) -> int | None:
    """Return how many draws a user asks for, None where nothing says it: ``samples``, or else ``noise_seeds``.

    A draw has a noise seed and a sampling seed, so both mean the same number. Raises :class:`HarnessError` where they
    differ, and for ``samples`` of greedy decoding (``temperature`` 0), which gives one answer only.
    """
    if samples is None:
        return noise_seeds
    if temperature == 0:
        raise HarnessError(
            f"--samples {samples} without --temperature",
            "greedy decoding gives an item one answer",
            "give --temperature, or --noise-seeds for draws of the noise",
        )
    if samples < 1:
        raise HarnessError(f"--samples {samples}", "at least one answer is needed", "give 1 or more")
    if noise_seeds is not None and noise_seeds != samples:
        raise HarnessError(
            f"--samples {samples} with --noise-seeds {noise_seeds}",
            "every sampled answer has a noise seed of its own, so the numbers are one",
            "give --samples alone",
        )
    return samples
