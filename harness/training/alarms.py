"""The alarms of a run that goes wrong by itself: gradients, entropy, answers and score out of all bounds.

Every check returns an empty text, or one sentence that says at which step what was found. The levels are those at which
runs of the sources were lost: a gradient norm of 88 at a clip of 1, answers from 215 to 410 tokens, 73 to 66 points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

from harness.training.evidence import Evidence

GRAD_NORM, ENTROPY = "actor/grad_norm", "actor/entropy"
LENGTH, CUT_OFF = "response_length/mean", "response_length/clip_ratio"
START = 3
"""Steps whose mean is where a run began."""

EXPLODED = 50.0
"""Largest gradient norm, in units of the clip."""

ENTROPY_GROWS, ENTROPY_MORE, ENTROPY_LEFT, ENTROPY_LEAST = 5.0, 0.5, 0.05, 1e-3
"""Entropy (nats per token) is at most 5 times that of the start and 0.5 more, and not below both a twentieth of it and
0.001."""

LONGER, MOST_CUT_OFF = 1.8, 0.5
SCORE_ERRORS = 4.0
"""Standard errors of a difference of two validations by which the score may fall below the best."""


def gradient_exploded(evidence: Evidence) -> str:
    """Find a step whose gradient norm is far above the clip."""
    limit = EXPLODED * evidence.recipe.optimizer.grad_clip
    for step, value in evidence.values(GRAD_NORM):
        if value > limit:
            return f"step {step}: gradient norm {value:.3g}, at most {limit:g}"
    return ""


def entropy_out_of_bounds(evidence: Evidence) -> str:
    """Find a policy that has become random, or that says one thing alone."""
    values = evidence.values(ENTROPY)
    if evidence.steps and not values:
        return f"step {evidence.steps[0]}: no {ENTROPY}"
    for step, value, start in _after_start(values):
        low, high = min(ENTROPY_LEFT * start, ENTROPY_LEAST), ENTROPY_GROWS * start + ENTROPY_MORE
        if not low <= value <= high:
            return f"step {step}: entropy {value:.3g} after {start:.3g} at the start, from {low:.3g} to {high:.3g}"
    return ""


def answers_grow(evidence: Evidence) -> str:
    """Find a step whose answers are far longer than those of the start: a reward that is hacked."""
    values = evidence.values(LENGTH)
    if evidence.steps and not values:
        return f"step {evidence.steps[0]}: no {LENGTH}"
    for step, value, start in _after_start(values):
        if value > LONGER * start:
            return (
                f"step {step}: answers of {value:.0f} tokens after {start:.0f} at the start, at most {LONGER:g} times"
            )
    return ""


def answers_cut_off(evidence: Evidence) -> str:
    """Find a step most of whose answers reach the longest length that is allowed."""
    values = evidence.values(CUT_OFF)
    if evidence.steps and not values:
        return f"step {evidence.steps[0]}: no {CUT_OFF}"
    for step, value in values:
        if value > MOST_CUT_OFF:
            longest = evidence.recipe.data.max_response
            return f"step {step}: {value:.0%} of the answers reach {longest} tokens, at most {MOST_CUT_OFF:.0%}"
    return ""


def score_dropped(evidence: Evidence) -> str:
    """Find a validation that is worse than the best one before by more than chance explains."""
    best: tuple[int, float] | None = None
    for step, value in evidence.validations():
        if best is not None:
            middle = (best[1] + value) / 2
            limit = SCORE_ERRORS * math.sqrt(
                max(0.0, 2 * middle * (1 - middle)) / evidence.recipe.data.validation_items
            )
            if best[1] - value > limit:
                return f"step {step}: validation {value:.3f} after {best[1]:.3f} at step {best[0]}, {limit:.3f} below"
        if best is None or value > best[1]:
            best = step, value
    return ""


def _after_start(values: Sequence[tuple[int, float]]) -> Iterator[tuple[int, float, float]]:
    """Yield (step, value, mean of the first :data:`START` values before it)."""
    for number, (step, value) in enumerate(values):
        if number:
            yield step, value, fmean(each for _, each in values[: min(number, START)])
