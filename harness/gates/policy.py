"""What a gate demands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from harness.exceptions import HarnessError
from harness.text import nearest
from harness.thresholds import ALPHA, FLOOR, MARGIN

AXES = ("quantization", "dtype", "attention", "engine", "noise")
"""Fields of the measurement key that may be declared as the axis of a comparison: how the model computes. Data,
template, scorer, decoding and noise say what is measured, and must agree."""


def check_fraction(name: str, value: float, low: float, high: float) -> None:
    """Raise :class:`HarnessError` unless ``low <= value < high`` (NaN fails too)."""
    if not low <= value < high:
        raise HarnessError(
            f"{name} {value!r}",
            f"it is a fraction, at least {low:g} and below {high:g}",
            f"write 0.03 for 3 points, as in {name}=0.03",
        )


def check_alpha(alpha: float) -> None:
    """Raise :class:`HarnessError` unless ``alpha`` is a usable one-sided level."""
    if not 0 < alpha < 0.5:
        raise HarnessError(f"alpha {alpha!r}", "the one-sided level lies between 0 and 0.5", "use 0.05")


def check_nats(name: str, value: float | None) -> None:
    """Raise :class:`HarnessError` unless ``value`` is None or a margin in nats a token."""
    if value is not None and not 0 < value < math.inf:
        raise HarnessError(f"{name} {value!r}", "a margin in nats a token is finite and above 0", "write 0.05")


FIXED_SEQUENCE, ALL_MUST_PASS = "fixed_sequence", "all_must_pass"
HOLM, BENJAMINI_HOCHBERG = "holm", "benjamini_hochberg"
FAMILIES = (FIXED_SEQUENCE, ALL_MUST_PASS, HOLM, BENJAMINI_HOCHBERG)
"""How several levels are held together. Fixed sequence: a level can PASS only after every lower one did. All must pass:
each level for itself (an intersection-union test). Holm and Benjamini-Hochberg: p-values adjusted over the levels, for
claims about single levels; the second holds the false discovery rate only. In every family a FAIL is adjusted by Holm
over all levels, and the verdict over all is the worst.
"""

STOP, FAILS = "stop", "fail"
INCONCLUSIVE_ACTIONS = (STOP, FAILS)
"""What INCONCLUSIVE does: exit code 3, or 1 like a FAIL. It is never green."""

MOST_ALPHA, MOST_MARGIN = 0.2, 0.5
"""Above these a policy says nothing that anyone would want, so that it is a slip unless it is forced."""

PerLevel = tuple[tuple[float, float], ...]

_LATER: Mapping[str, Any] = {"nats_margin": None, "nats_margins": (), "kl_margin": None, "kl_margins": ()}
"""Rules that came after verdicts had been stored under the text of all others, with what each is where nobody gave
it."""


@dataclass(frozen=True)
class GatePolicy:
    """The rules of one gate; fractions throughout.

    ``margin``: by how much the candidate may fall below the baseline at the same level; ``margins`` holds (level,
    margin) where a level has its own. ``alpha``: level of each one-sided bound. ``min_retention``: the least accepted
    acc(level) / acc(0) of the candidate, or ``None`` to report it only; ``retentions`` holds (level, minimum).
    ``levels``: the levels to judge, empty for all of the baseline's. ``noise_seeds``: the least number of noise seeds
    above level 0. ``min_overlap``: the least share of the items of both sides that are measured on both. ``floor``: a
    clean accuracy whose lower bound is below it shows nothing that could be lost; None for the one that the task
    declares, :data:`FLOOR` at least. ``nats_margin``: by how many nats a token the candidate may fall below the
    baseline where log-likelihoods of texts are judged, which have no other margin; ``nats_margins`` holds (level,
    margin). ``family`` is one of :data:`FAMILIES`, ``inconclusive`` of :data:`INCONCLUSIVE_ACTIONS`.
    ``bootstrap_resamples``: 0 leaves the bootstrap out. ``across``: the one field of the measurement key (of
    :data:`AXES`) along which both are meant to differ. ``positive_control``: whether both sides must have run theirs;
    without it every report says so.
    ``early_stop``: the share of ``alpha`` spent on looking after every item, so that clear cases stop early; 0 is off.
    ``kl_margin``: the largest accepted mean divergence (nats a token) of the next-token distributions, or ``None`` to
    judge accuracy alone; ``kl_margins`` holds (level, margin) where a level has its own.
    ``force`` allows an alpha above :data:`MOST_ALPHA` and margins above :data:`MOST_MARGIN`.

    Raises :class:`HarnessError` on a value outside its range.
    """

    margin: float = MARGIN
    alpha: float = ALPHA
    min_retention: float | None = None
    floor: float | None = None
    bootstrap_resamples: int = 10_000
    bootstrap_seed: int = 0
    across: str | None = None
    margins: PerLevel = ()
    retentions: PerLevel = ()
    levels: tuple[float, ...] = ()
    noise_seeds: int = 1
    min_overlap: float = 0.0
    family: str = FIXED_SEQUENCE
    inconclusive: str = STOP
    early_stop: float = 0.0
    force: bool = False
    positive_control: bool = True
    nats_margin: float | None = None
    nats_margins: PerLevel = ()
    kl_margin: float | None = None
    kl_margins: PerLevel = ()

    def __post_init__(self) -> None:
        """Check every value."""
        if self.floor is not None:
            check_fraction("floor", self.floor, 0.0, 1.0)
        for nats in (self.nats_margin, *(value for _, value in self.nats_margins)):
            check_nats("nats_margin", nats)
        check_alpha(self.alpha)
        for margin in (self.margin, *(value for _, value in self.margins)):
            check_fraction("margin", margin, 0.0, 1.0)
        for minimum in (self.min_retention, *(value for _, value in self.retentions)):
            _check_share("min_retention", minimum, above=0.0)
        _check_share("min_overlap", self.min_overlap)
        limits = (*self.margins, *self.retentions, *self.nats_margins, *self.kl_margins)
        for level in (*self.levels, *(level for level, _ in limits)):
            if not 0 <= level < math.inf:
                raise HarnessError(f"level {level!r}", "a level is a finite number, at least 0", "write 0.05 for 5 %")
        for name, known in (("across", AXES), ("family", FAMILIES), ("inconclusive", INCONCLUSIVE_ACTIONS)):
            value = getattr(self, name)
            if value not in known and not (name == "across" and value is None):
                raise HarnessError(f"{name} {value!r}", nearest(str(value), known))
        for name, least in (("bootstrap_resamples", 0), ("bootstrap_seed", 0), ("noise_seeds", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise HarnessError(f"{name} {value!r}", f"it is a whole number, at least {least}", f"leave {name} out")
        if not isinstance(self.positive_control, bool):
            raise HarnessError(f"positive_control {self.positive_control!r}", "it is true or false", "leave it out")
        self._check_early_stop()
        self._check_divergences()
        self._check_force()
        if self.levels:
            self.check_judged(self.levels)

    def _check_early_stop(self) -> None:
        name = f"early_stop {self.early_stop!r}"
        if not 0 <= self.early_stop <= 1:
            raise HarnessError(name, "the share of alpha for looking early lies in [0, 1]", "use 0.5, or 0 for off")
        if not self.early_stop:
            return
        if self.min_retention is not None or self.retentions:
            rule = "a least retention is judged too, and only the difference has an e-process"
            raise HarnessError(name, rule, "drop min_retention, or early_stop")
        if self.family not in (FIXED_SEQUENCE, ALL_MUST_PASS):
            rule = f"{self.family} orders levels by their p-values, and a level that stops early has none"
            raise HarnessError(name, rule, f"use the family {FIXED_SEQUENCE} or {ALL_MUST_PASS}, or drop early_stop")

    def _check_divergences(self) -> None:
        if self.kl_margin is None:
            if self.kl_margins:
                rule = "levels without a margin of their own would go by unjudged"
                raise HarnessError("kl_margin_at without kl_margin", rule, "give kl_margin too")
            return
        for margin in (self.kl_margin, *(value for _, value in self.kl_margins)):
            check_nats("kl_margin", margin)
        if self.early_stop == 1:
            rule = "all of alpha goes to looking at answers, so that none is left for the distributions"
            raise HarnessError("early_stop 1 with kl_margin", rule, "use 0.5")

    def _check_force(self) -> None:
        if not isinstance(self.force, bool):
            raise HarnessError(f"force {self.force!r}", "it is true or false", "write force = true")
        largest = max(self.margin, *(value for _, value in self.margins), 0.0)
        for name, value, most in (("alpha", self.alpha, MOST_ALPHA), ("margin", largest, MOST_MARGIN)):
            if value > most and not self.force:
                rule = f"an {name}" if name == "alpha" else f"a {name}"
                raise HarnessError(
                    f"{name} {value:g}",
                    f"{rule} above {most:g} lets nearly everything pass",
                    "lower it, or write force = true (--force) to have it",
                )

    def check_judged(self, levels: Iterable[float]) -> None:
        """Raise :class:`HarnessError` where a rule is for a level that is not among the judged ``levels``."""
        judged = sorted(set(levels))
        for key, rules in (
            ("margin_at", self.margins),
            ("retention_at", self.retentions),
            ("nats_margin_at", self.nats_margins),
            ("kl_margin_at", self.kl_margins),
        ):
            known = [level for level in judged if level or key != "retention_at"]
            for level, _ in rules:
                if level in known:
                    continue
                if level in judged:
                    raise HarnessError(
                        f"{key} of level 0", "a retention is relative to level 0, which has none", "leave it out"
                    )
                near = min(known, key=lambda each: _apart(each, level), default=None)
                raise HarnessError(
                    f"{key} of level {level:g}",
                    f"the judged levels are {', '.join(f'{each:g}' for each in judged) or 'none'}",
                    "leave it out" if near is None else f"did you mean {near:g}?",
                )

    def within(self, levels: Iterable[float]) -> GatePolicy:
        """Return the same rules without those for levels outside ``levels``: of a gate that judges some of them on
        purpose."""
        kept = set(levels)
        margins, retentions, nats, kl = (
            tuple(rule for rule in rules if rule[0] in kept)
            for rules in (self.margins, self.retentions, self.nats_margins, self.kl_margins)
        )
        return replace(self, margins=margins, retentions=retentions, nats_margins=nats, kl_margins=kl)

    def __repr__(self) -> str:
        """The rules as text, by which stored verdicts are found again: what came later stands there only if it says
        something."""
        shown = {each.name: getattr(self, each.name) for each in fields(self)}
        # a floor that was chosen judges otherwise than the same one that no task has raised
        shown["floor"] = {None: FLOOR, FLOOR: f"chosen {FLOOR}"}.get(self.floor, self.floor)
        later = {name: None for name, usual in _LATER.items() if shown[name] == usual}
        return f"GatePolicy({', '.join(f'{name}={value!r}' for name, value in shown.items() if name not in later)})"

    @property
    def on_answers(self) -> GatePolicy:
        """The same rules without those on distributions."""
        return replace(self, kl_margin=None, kl_margins=())

    def refuse_distributions(self, what: str, way_out: str) -> None:
        """Raise :class:`HarnessError` where the rules ask for distributions, which ``what`` does not look at: a PASS on
        the half that it looks at would be none."""
        if self.kl_margin is not None:
            rule = "the rules ask for distributions too, and nothing here looks at them"
            raise HarnessError(f"kl_margin {self.kl_margin:g} {what}", rule, way_out)

    @property
    def alpha_left(self) -> float:
        """The one-sided level of the interval test: what early stopping leaves of ``alpha`` (all of it when off)."""
        return self.alpha * (1 - self.early_stop)

    def margin_at(self, level: float) -> float:
        """Return the margin at ``level`` (fraction)."""
        return dict(self.margins).get(level, self.margin)

    def nats_margin_at(self, level: float) -> float | None:
        """Return the margin of log-likelihoods at ``level`` (nats a token), None where none is given."""
        return dict(self.nats_margins).get(level, self.nats_margin)

    def retention_at(self, level: float) -> float | None:
        """Return the least accepted retention at ``level`` (fraction), None where none gates."""
        return dict(self.retentions).get(level, self.min_retention)

    @property
    def family_text(self) -> str:
        """What stands beside a verdict over several levels."""
        words = {
            FIXED_SEQUENCE: "fixed sequence over levels, restricting PASS only; alarms are adjusted by Holm",
            ALL_MUST_PASS: "all levels must pass, each for itself; alarms are adjusted by Holm",
            HOLM: "Holm over levels, the chance of any wrong PASS is held; alarms are adjusted by Holm",
            BENJAMINI_HOCHBERG: "Benjamini-Hochberg over levels, of the levels that PASS the expected share of wrong"
            " ones (false discovery rate) is held; alarms are adjusted by Holm",
        }
        if self.family in (HOLM, BENJAMINI_HOCHBERG):
            return f"{words[self.family]}; alpha {self.alpha:g} one-sided for the family"
        return f"{words[self.family]}; alpha {self.alpha:g} one-sided, for each PASS and for any FAIL"


def _apart(level: float, given: float) -> float:
    """How far a known level is from what was written, where 10 may mean 10 %."""
    return min(abs(level - given), abs(level - given / 100)) if given >= 1 else abs(level - given)


def _check_share(name: str, value: float | None, above: float | None = None) -> None:
    if value is None:
        return
    if not 0 <= value <= 1 or value == above:
        rule = "it is a fraction above 0 and at most 1" if above is not None else "it is a fraction from 0 to 1"
        raise HarnessError(f"{name} {value!r}", rule, "use 0.95 or leave it out")
