"""Calls that judge the published claims and the pre-registered theory; behind ``harness claims``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.claims.judge import judge_all
from harness.claims.judgements import VERDICTS
from harness.claims.load import load_registry
from harness.claims.numbers import Context
from harness.claims.theory import judge_theory
from harness.claims.theory_runs import published_arms, stored_arms
from harness.exceptions import HarnessError
from harness.reports.claims_page import claims_report
from harness.spec import nearest


def judge_claims(registry: Path | None = None, name: str | None = None, verdict: str | None = None) -> dict[str, Any]:
    """Return the published claims as judged anew, as JSON types: all of them, one by ``name``, or those of a verdict.

    ``registry`` is a folder of published results and claims (default: the one that comes with the package). Raises
    :class:`harness.exceptions.HarnessError` for a claim or a verdict that there is none of.
    """
    if verdict is not None and verdict not in VERDICTS:
        raise HarnessError(f"--verdict {verdict}", f"it is one of {', '.join(VERDICTS)}", nearest(verdict, VERDICTS))
    context = Context.of(load_registry(registry))
    ids = [claim.id for claim in context.registry.claims]
    if name is not None and name not in ids:
        raise HarnessError(f"--id {name}", "the registry has no such claim", nearest(name, ids))
    judged = judge_all(context.registry)
    wanted = [one for one in judged if name in (None, one.claim.id) and verdict in (None, one.verdict)]
    return claims_report(wanted, context.spread)


def judge_published_theory(
    registry: Path | None = None, arms: Mapping[str, Sequence[Path]] | None = None
) -> dict[str, Any]:
    """Return the theory as judged over the runs of ``arms`` (name -> run folders), else over what is published."""
    found = stored_arms(arms) if arms else published_arms(load_registry(registry))
    return judge_theory(found).to_json()
