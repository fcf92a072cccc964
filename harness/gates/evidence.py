"""What a verdict needs before any number counts: certificates, a clean score to lose, complete measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.gates.pairing import Pairs
from harness.gates.requirements import accuracy
from harness.gates.verdicts import PASS
from harness.record import CERTIFIED, EXTERNAL, Arm
from harness.stats.two_way import LEAST_SEEDS
from harness.thresholds import FLOOR


def certificate_problems(role: str, arm: Arm, level: float) -> tuple[str, ...]:
    """Return what the arm's certificate says against ``level``, each with the arm's role in front.

    A certificate that is neither certified nor external speaks against every level, also without words.
    """
    found = arm.certificate.problems_at(level)
    if not found and arm.certificate.status not in (CERTIFIED, EXTERNAL):
        found = (f"the certificate's status is {arm.certificate.status!r}",)
    return tuple(f"{role}: {problem}" for problem in found)


def control_problems(role: str, arm: Arm, wanted: bool) -> tuple[str, ...]:
    """Return what the lack of a positive control says against ``arm`` where the policy asks for one (``wanted``)."""
    if not arm.certificate.uncontrolled or not wanted:
        return ()
    way_out = "evaluate without --no-positive-control, or give a policy that says positive_control = false"
    return (f"{role}: no positive control ran, and a verdict needs one: {way_out}",)


def control_note(arms: Sequence[tuple[str, Arm]], wanted: bool) -> tuple[str, ...]:
    """Return what every report says first where the policy does without positive controls."""
    if wanted:
        return ()
    missing = [role for role, arm in arms if arm.certificate.uncontrolled]
    which = f"none ran for {' and '.join(missing)}" if missing else "both sides ran theirs"
    return (f"the policy asks for no positive control (positive_control = false): {which}",)


def external_note(role: str, arm: Arm, level: float) -> tuple[str, ...]:
    """Return the words that follow an arm scored elsewhere wherever it appears, unless its problems say them
    already."""
    if arm.certificate.status != EXTERNAL or arm.certificate.problems_at(level):
        return ()
    return (f"{role}: {EXTERNAL} (scored from completions produced elsewhere)",)


def shared_draws_note(arm: Arm, level: float) -> tuple[str, ...]:
    """Return what the interval of the difference is over where all items share the draws of a seed (one "chip")."""
    if not shares_draws(arm, level):
        return ()
    seeds = len({seed for row in arm.outcomes.get(level, {}).values() for seed in row})
    why = "draws are shared by all items (key:shared)" if keyed_shared(arm) else "draws do not repeat themselves"
    if seeds >= LEAST_SEEDS:
        return (f"{why}: the interval is over items and these {seeds} noise seeds",)
    return (
        f"{why}: the interval is conditional on these {seeds} noise seeds, so it decides nothing"
        f" ({LEAST_SEEDS} would show how far seeds lie apart)",
    )


def keyed_shared(arm: Arm) -> bool:
    """Return True where the noise is keyed without the item."""
    return "key:shared" in arm.key.get("noise", "")


def shares_draws(arm: Arm, level: float) -> bool:
    """Return True where what disturbs the items of ``arm`` belongs to the run: noise keyed without the item, noise
    drawn anew on every call, or (then at level 0 too) an engine that was seen not to repeat itself."""
    if engine_varies(arm):
        return True
    return level != 0 and (keyed_shared(arm) or arm.key.get("noise", "").startswith("nondeterministic"))


def engine_varies(arm: Arm) -> bool:
    """Return True where the certificate says that the engine gave other answers to the same prompts."""
    return bool(getattr(arm.certificate, "nondeterministic", ""))


@dataclass(frozen=True)
class CleanScores:
    """Lower bounds (fractions) of both clean accuracies over the items paired at level 0."""

    candidate_low: float
    baseline_low: float
    n: int


def clean_scores(pairs: Pairs | None, alpha: float) -> CleanScores | None:
    """Return the clean scores, or ``None`` where level 0 cannot be paired."""
    if pairs is None or pairs.n == 0:
        return None
    candidate, baseline = (accuracy(pairs, side, alpha).low for side in pairs.means())
    return CleanScores(candidate, baseline, pairs.n)


def floor_of(arms: Iterable[Arm], chosen: float | None = None) -> float:
    """Return the clean accuracy (fraction) that shows something to lose: the one that was ``chosen``, else the highest
    that the tasks of ``arms`` declare, :data:`FLOOR` at least."""
    if chosen is not None:
        return chosen
    return max(FLOOR, *(arm.floor or 0.0 for arm in arms))


def floor_note(arms: Iterable[Arm], chosen: float | None) -> tuple[str, ...]:
    """Return what every report says first where the floor that was ``chosen`` lies below the one that the task of
    ``arms`` declares."""
    declared = max(arm.floor or 0.0 for arm in arms)
    if chosen is None or chosen >= declared:
        return ()
    return (
        f"the policy's floor of {100 * chosen:g} % lies below the {100 * declared:g} % under which the task measures"
        " nothing",
    )


def floor_problems(clean: CleanScores | None, floor: float, verdict: str) -> tuple[str, ...]:
    """Return why a clean score at the floor stands against ``verdict``.

    A baseline at the floor has nothing to lose, which stands against every verdict. A candidate at the floor
    stands against PASS only: a destroyed checkpoint is at the floor too and must still FAIL.
    """
    if clean is None:
        return ("level 0 cannot be paired, so nothing shows that there was accuracy to lose",)
    if clean.baseline_low < floor:
        return (_at_floor("baseline", clean.baseline_low, clean.n, floor) + ", so nothing can be lost",)
    if clean.candidate_low < floor and verdict == PASS:
        return (_at_floor("candidate", clean.candidate_low, clean.n, floor) + ", so it cannot PASS",)
    return ()


def _at_floor(role: str, low: float, n: int, floor: float) -> str:
    return (
        f"the {role}'s clean accuracy is at the floor: its lower bound {100 * low:.2f} % on {n} items"
        f" is below {100 * floor:.2f} %"
    )


def turned_by_missing(pairings: Sequence[Pairs], verdict_of: Callable[[Sequence[Pairs]], str]) -> tuple[str, ...]:
    """Return whether the items without a measurement could turn the verdict, one sentence per direction.

    Every unmeasured outcome is counted as lost (judged side 0, reference 1), then as gained (1 and 0).
    ``verdict_of`` takes the pairings and returns the verdict of all requirements together.
    """
    gaps = [pairs for pairs in pairings if pairs.n < pairs.total]
    if not gaps:
        return ()
    worst = max(gaps, key=lambda pairs: pairs.total - pairs.n)
    verdict = verdict_of(pairings)
    lost = verdict_of([pairs.filled(0.0, 1.0) for pairs in pairings])
    gained = verdict_of([pairs.filled(1.0, 0.0) for pairs in pairings])
    return tuple(
        f"{worst.total - worst.n} of {worst.total} items were not measured on both sides;"
        f" counted as {way} they would turn {verdict} into {other}"
        for way, other in (("lost", lost), ("gained", gained))
        if other != verdict
    )
