"""What made two arms: notes on different code, and the same checkpoint that gave other answers."""

from __future__ import annotations

from collections.abc import Mapping

from scipy.stats import binom

from harness.record import Arm, MeasurementKey
from harness.runs.folder import differences
from harness.spec.sampling import is_sampled
from harness.thresholds import TIE_ALPHA, TIE_SHARE

EXACT = "float32"
"""The dtype in which drawn answers repeat themselves elsewhere."""


def origin_notes(candidate: Arm, baseline: Arm) -> tuple[str, ...]:
    """Return what a report says first: the notes of both certificates, and code that differs between the two."""
    own = [f"{role}: {note}" for role, arm in _roles(candidate, baseline) for note in arm.certificate.notes]
    return (*own, *_code_note(candidate, baseline))


def other_answers(candidate: Arm, baseline: Arm, level: float) -> tuple[str, ...]:
    """Return what speaks against two arms of equal weights, settings and measurement key whose answers at ``level``
    differ.

    Where everything is equal, only near ties of two logits can go either way (other batch shapes, machines, libraries).
    Records are told apart by 12 bits of their tokens; the number that differ must be one that ties could reach: with
    probability of at least :data:`TIE_ALPHA` if each record has a tie with the probability of :data:`TIE_SHARE`. Drawn
    tokens have near ties at every step, however sure the model is: in lower precision than float32 they say nothing.
    """
    ours, theirs = candidate.origin, baseline.origin
    same = (ours.weights, ours.settings) == (theirs.weights, theirs.settings) and candidate.key == baseline.key
    if not ours.weights or not same:
        return ()
    n, differing = _compared(ours.answers.get(level, {}), theirs.answers.get(level, {}))
    allowed = explained_by_ties(n, candidate.key)
    if differing <= allowed:
        return ()
    return (
        f"the same checkpoint gave other answers: {differing} of {n} records at level {level:g} differ from the"
        f" baseline's, near ties explain at most {allowed} ({candidate.key['dtype']})",
    )


def explained_by_ties(n: int, key: MeasurementKey) -> int:
    """Return how many of ``n`` answers of one checkpoint under ``key`` near ties may turn: all of them where drawn
    tokens, or a dtype, say nothing."""
    dtype = key.get("dtype", "")
    share = None if is_sampled(key) and dtype != EXACT else TIE_SHARE.get(dtype)
    if share is None:
        return n
    return int(binom.isf(TIE_ALPHA, n, share)) if n else 0


def _compared(ours: Mapping[str, Mapping[int, str]], theirs: Mapping[str, Mapping[int, str]]) -> tuple[int, int]:
    """(records that both have, those that differ)."""
    pairs = [
        (digest, theirs[item][seed])
        for item, row in ours.items()
        if item in theirs
        for seed, digest in row.items()
        if seed in theirs[item]
    ]
    return len(pairs), sum(first != second for first, second in pairs)


def _roles(candidate: Arm, baseline: Arm) -> tuple[tuple[str, Arm], tuple[str, Arm]]:
    return ("candidate", candidate), ("baseline", baseline)


def _code_note(candidate: Arm, baseline: Arm) -> tuple[str, ...]:
    if not candidate.origin.code or not baseline.origin.code:
        return ()
    found = differences(baseline.origin.code[0], candidate.origin.code[0])
    if not found:
        return ()
    words = ", ".join(text.replace(" there, ", " baseline, ").replace(" now)", " candidate)") for text in found)
    return (f"baseline and candidate were made by different code: {words}",)
