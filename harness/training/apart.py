"""The checks of how far rollout and actor are apart: not at all where both compute the same, else by AQN's dose.

Every check returns an empty text, or one sentence that says at which step what was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from harness.training.evidence import STEP, Evidence
from harness.training.injection import INDEPENDENT, ONE_SIDE, ROLLOUT, SAME, VALIDATION

K3_KL, KL, CHI2 = "rollout_corr/k3_kl", "rollout_corr/kl", "rollout_corr/chi2_token"
VALIDATION_KL = "robust/validation_k3_kl"
DLOGP, NOISY_DLOGP = "robust/dlogp_max", "robust/noisy_validation_dlogp_max"
NOISY_KL, CONTROL_KL = "robust/noisy_validation_k3_kl", "robust/independent_validation_k3_kl"
LARGEST_DLOGP, CONTROL_FACTOR = 5e-5, 100.0
"""Largest abs(dlogp) of an answer token where both sides compute the same, and the least factor by which k3_kl grows
where the actor draws apart on the same answers."""

ON_POLICY_KL, APART_KL = 1e-8, 0.1
"""Largest k3_kl between rollout and actor: where both compute the same in float32, and anywhere."""

LARGEST_RESPONSE, LEAST_RESPONSE = 1.0, 1e-4
"""Bounds of k3_kl over the dose of AQN, the sum over weights of (sigma / spread)^2. Measured: 0.008 to 0.03 in training
runs of the shipped checkpoint, 0.02 by docs/aqn.md; SmolLM2, with its small gains, 3.3 of its largest layer, of 61."""

IS_MEAN, IS_STD, LEAST_SIZE = (0.5, 2.0), 1.0, 0.3
"""Importance weights of the rollout: bounds of their mean, largest deviation, least effective sample size."""


def same_on_both_sides(evidence: Evidence) -> bool:
    """Return whether rollout and actor should compute the same numbers: float32, no AQN, no noise or the same draws."""
    return evidence.recipe.aqn is None and _draws_alike(evidence) and evidence.recipe.validates_alike


def policies_apart(evidence: Evidence) -> str:
    """Find a step at which rollout and actor are further apart than the recipe allows, by k3_kl and not by a mean.

    Where they should compute the same (float32, no AQN, the same draws or none, the same quantized weights or none)
    that is 1e-8; where AQN alone stands between them, its dose says it; else 0.1.
    """
    doses = dict(_doses(evidence)) if evidence.recipe.aqn is not None and _same_but_for_aqn(evidence) else {}
    for step in evidence.steps:
        value = evidence.metrics[step].get(K3_KL)
        if value is None:
            return f"step {step}: no {K3_KL} (bypass_mode, or no log-probabilities of the rollout)"
        limit = ON_POLICY_KL if same_on_both_sides(evidence) else APART_KL
        words = ""
        if step in doses:
            limit, words = ON_POLICY_KL + LARGEST_RESPONSE * doses[step], f" by AQN's dose of {doses[step]:.3g}"
        if not abs(value) <= limit:
            return f"step {step}: k3_kl {value:.3g}, at most {limit:.3g}{words}"
        largest = evidence.metrics[step].get(DLOGP)
        if same_on_both_sides(evidence) and (largest is None or not largest <= LARGEST_DLOGP):
            found = f"no {DLOGP}" if largest is None else f"abs(dlogp) up to {largest:.3g}"
            return f"step {step}: {found}, at most {LARGEST_DLOGP:g}"
    return ""


def draws_not_as_asked(evidence: Evidence) -> str:
    """Find a noisy validation in which rollout and actor drew otherwise than the recipe says.

    Under the same draws they agree to the floor of float32, and the control, in which the actor draws apart on the same
    answers, does not; under independent draws they do not agree.
    """
    recipe = evidence.recipe
    if recipe.noise is None or not recipe.validates_alike:
        return ""
    if recipe.noise.draws == ONE_SIDE or VALIDATION not in recipe.noise.passes:
        return ""
    found = ((step, _draws_off(evidence.metrics[step], recipe.noise.draws)) for step, _ in evidence.validations())
    return next((f"step {step}: {words}" for step, words in found if words), "")


def noise_not_felt(evidence: Evidence) -> str:
    """Find a step whose rollouts should have had AQN's noise and answer as if there were none: it was gone by then."""
    if evidence.recipe.aqn is None or not _same_but_for_aqn(evidence):
        return ""
    for step, dose in _doses(evidence):
        least = LEAST_RESPONSE * dose
        value = evidence.metrics.get(step, {}).get(K3_KL)
        if value is not None and least > ON_POLICY_KL and abs(value) < least:
            return f"step {step}: k3_kl {value:.3g} under a dose of {dose:.3g}, at least {least:.3g}"
    return ""


def validation_not_clean(evidence: Evidence) -> str:
    """Find a validation whose answers are not those of the actor's own policy: something was left on in the rollout."""
    if not evidence.recipe.validates_alike:
        return ""
    for step, _ in evidence.validations():
        value = evidence.metrics[step].get(VALIDATION_KL)
        if value is None:
            return f"step {step}: the actor judged no answer of the clean validation"
        if not abs(value) <= ON_POLICY_KL:
            return f"step {step}: k3_kl {value:.3g} of the clean validation, at most {ON_POLICY_KL:g}"
    return ""


def importance_weights_wild(evidence: Evidence) -> str:
    """Find importance weights of the rollout out of bounds: their mean, their deviation, their effective sample size.

    They follow from what verl always exports (with r the weight of a token: mean = 1 + k3_kl - kl, mean of squares =
    1 + chi2_token); where the recipe has verl compute them, verl's own count as well.
    """
    for step, name, value in _weights(evidence):
        low, high = {"mean": IS_MEAN, "std": (0.0, IS_STD)}.get(name, (LEAST_SIZE, math.inf))
        if not low <= value <= high:
            return f"step {step}: rollout_is_{name} {value:.3g}, from {low:g} to {high:g}"
    return ""


def _weights(evidence: Evidence) -> Iterator[tuple[int, str, float]]:
    """Yield (step, mean, std or eff_sample_size, value)."""
    for step in evidence.steps:
        told = evidence.metrics[step]
        mean = 1 + told.get(K3_KL, math.nan) - told.get(KL, math.nan)
        squares = 1 + told.get(CHI2, math.nan)
        yield step, "mean", mean
        yield step, "std", math.sqrt(squares - mean**2) if squares > mean**2 else 0.0 * squares
        yield step, "eff_sample_size", mean**2 / squares if squares > 0 else 0.0 * squares
        for name in ("mean", "std", "eff_sample_size"):
            if f"rollout_corr/rollout_is_{name}" in told:
                yield step, name, float(told[f"rollout_corr/rollout_is_{name}"])


def _doses(evidence: Evidence) -> Iterator[tuple[int, float]]:
    """Yield (step, dose of AQN in its rollouts): the sum over weights of (sigma / spread)^2 in a process."""
    for line in evidence.lines(STEP):
        if line["doses"]:
            yield line["step"], max(sum((each["relative"] or 0.0) ** 2 for each in d["layers"]) for d in line["doses"])


def _same_but_for_aqn(evidence: Evidence) -> bool:
    return evidence.recipe.quantization is None and _draws_alike(evidence)


def _draws_alike(evidence: Evidence) -> bool:
    noise = evidence.recipe.noise
    alike = noise is None or (noise.draws == SAME and {ROLLOUT, "old_log_prob"} <= set(noise.passes))
    return evidence.recipe.model.dtype == "float32" and alike


def _draws_off(told: Mapping[str, Any], draws: str) -> str:
    """Return what is wrong with the figures of one noisy validation, an empty text where nothing is."""
    if not {NOISY_KL, NOISY_DLOGP, CONTROL_KL} <= told.keys():
        return "the actor judged no answer of the noisy validation"
    value, largest, control = told[NOISY_KL], told[NOISY_DLOGP], told[CONTROL_KL]
    if draws == INDEPENDENT:
        return "" if value > ON_POLICY_KL else f"k3_kl {value:.3g} under independent draws: they were the same"
    if not (value <= ON_POLICY_KL and largest <= LARGEST_DLOGP):
        return f"k3_kl {value:.3g}, abs(dlogp) up to {largest:.3g} under the same draws"
    return (
        "" if control >= CONTROL_FACTOR * value else f"k3_kl {control:.3g} with draws apart, {value:.3g} with the same"
    )
