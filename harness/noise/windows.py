"""Scores of attention with a sliding window: which key a score belongs to is told as long as the window holds all."""

from __future__ import annotations

from harness.exceptions import NoiseSpecError
from harness.noise.plan import InjectionPlan


def least_window(plan: InjectionPlan) -> tuple[str, int] | None:
    """Return the site of ``plan`` with the shortest sliding window among those whose rows grow with the keys, and the
    keys in it; None where no such site has one."""
    windows = {} if plan.probe is None else plan.probe.windows
    found = [(windows[site.module], site.name) for site in plan.sites if site.grows and site.module in windows]
    if not found:
        return None
    window, name = min(found)
    return name, window


def check_windows(plan: InjectionPlan, longest: int) -> None:
    """Raise :class:`NoiseSpecError` where scores or probabilities of ``plan`` have a sliding window that is shorter
    than the ``longest`` sequence (tokens, generated ones included): its cache drops keys, and elements outside the
    window would be counted."""
    found = least_window(plan)
    if found is not None and longest > found[1]:
        raise NoiseSpecError(
            f"{found[0]} with a sliding window of {found[1]} keys, in sequences of up to {longest} tokens",
            "noise on scores reaches sequences that the window holds as a whole",
            "choose operators outside the scores (profile:linear, op:pv), shorter prompts or fewer new tokens",
        )
