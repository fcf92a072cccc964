"""Holds the stored positive control against the rule by which it is made, and says where there is none."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from harness.record import INVALID_EVIDENCE, Certificate, ControlResult, ItemResult, LikelihoodResult
from harness.spec.tokens import Span, selects
from harness.thresholds import CONTROL_ITEMS, CONTROL_SCALE

NONE_RAN = "no positive control was asked for (--no-positive-control): nothing shows that lethal noise would have hurt"


def control_items(
    items: Iterable[str], scored: Mapping[str, Sequence[tuple[int, int]]], spans: Sequence[Span]
) -> list[str]:
    """Return the items of the positive control: the first of the seeded order ``items``.

    Where noise is limited to the steps ``spans`` (:mod:`harness.spec.tokens`) and continuations are ``scored`` (tokens
    of the context and of the continuation, by item), those without a selected token are passed over: nothing could
    change.
    """
    able = (item for item in items if item not in scored or any(selects(*each, spans) for each in scored[item]))
    return list(itertools.islice(able, CONTROL_ITEMS))


def control_problems(
    control: ControlResult, items: Sequence[str], results: Sequence[ItemResult], spans: Sequence[Span] = ()
) -> list[str]:
    """Return what in ``control`` is not what the rule makes of the run's ``items`` (in their order) and ``results``,
    under noise at the steps ``spans`` (none: at all)."""
    told = [result for result in results if (result.level, result.seed) == (0, 0)]
    scored = {
        result.item: [(prompt, tokens) for prompt, tokens, _ in result.sequences]
        for result in told
        if isinstance(result, LikelihoodResult)
    }
    chosen = set(control_items(items, scored, spans))
    clean = [result for result in told if result.item in chosen]
    right = sum(result.score == 1.0 for result in clean)
    return [
        f"positive control: {words} {found:g}, the rule gives {wanted:g}"
        for words, found, wanted in (
            ("its scale is", control.scale, CONTROL_SCALE),
            ("its items number", control.items, len(chosen)),
            ("its right clean answers number", control.clean_right, right),
        )
        if found != wanted
    ]


def with_control(
    certificate: Certificate, items: Sequence[str], results: Sequence[ItemResult], spans: Sequence[Span] = ()
) -> Certificate:
    """Return ``certificate`` with what speaks against its positive control; where none was asked for, it says so.

    ``spans`` as in :func:`control_problems`.
    """
    if certificate.control is None:
        notes = () if certificate.problems else (NONE_RAN,)
        return replace(certificate, uncontrolled=True, notes=(*certificate.notes, *notes))
    problems = control_problems(certificate.control, items, results, spans)
    if not problems:
        return certificate
    return replace(certificate, status=INVALID_EVIDENCE, problems=(*certificate.problems, *problems))
