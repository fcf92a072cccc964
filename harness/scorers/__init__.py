"""The scorers by name: those of the package, and those of other distributions.

Below the line of torch: stored scores are recomputed when a run is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from harness import extensions
from harness.answers import FLEXIBLE, STRICT
from harness.exceptions import HarnessError
from harness.scorers.likelihood import NORM, ChoiceScorer, GreedyScorer, PairScorer
from harness.scorers.lm_eval import LmEvalScorer
from harness.scorers.number import NumberScorer
from harness.scorers.perplexity import PerplexityScorer
from harness.scorers.protocol import (
    LIKELIHOODS,
    RULE_FIELD,
    TEXTS,
    Asked,
    Judged,
    Scorer,
    Scores,
    judged,
    reads,
    scorer_key,
)
from harness.scorers.unscored import UnscoredScorer
from harness.spec.evaluation import LM_EVAL, SCORER_GROUP, scorer_names, scorers_like
from harness.text import nearest

SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {
        **{name: NumberScorer(name) for name in (STRICT, FLEXIBLE)},
        "choice": ChoiceScorer("choice"),
        "choice_norm": ChoiceScorer("choice_norm", NORM),
        "pair": PairScorer(),
        "greedy": GreedyScorer(),
        "perplexity": PerplexityScorer(),
        "unscored": UnscoredScorer(),
    }
)
"""Name -> scorer of those in the package. A new one is a file beside this one, a row here and its name in
``spec/evaluation.py``."""

_FIELDS = ("name", "primary", "score", "complete")

__all__ = [
    "LIKELIHOODS",
    "RULE_FIELD",
    "SCORERS",
    "TEXTS",
    "Asked",
    "Judged",
    "Scorer",
    "Scores",
    "judged",
    "load_scorer",
    "reads",
    "scorer_key",
]


def load_scorer(name: str) -> Scorer:
    """Return the scorer called ``name``; ``lm_eval:METRIC,FILTER`` is a metric of lm-evaluation-harness.

    An entry point of the group :data:`harness.spec.evaluation.SCORER_GROUP` names a :class:`Scorer`, or a class of one
    that is made without arguments. Raises :class:`HarnessError` for an unknown name and, naming the distribution, for
    one that cannot be used.
    """
    if name in SCORERS:
        return SCORERS[name]
    if name in scorers_like(name) and name.startswith(LM_EVAL):
        return LmEvalScorer(name)
    outside = extensions.load(SCORER_GROUP, "scorer", name, SCORERS)
    if outside is None:
        known = scorer_names()
        raise HarnessError(f"unknown scorer {name!r}", f"the scorers are {', '.join(known)}", nearest(name, known))
    where = extensions.origin_of(SCORER_GROUP, name)
    try:
        scorer: Scorer = outside() if isinstance(outside, type) else outside
    except (Exception, SystemExit) as error:
        raise extensions.broken("scorer", name, where, f"{type(error).__name__}: {error}") from error
    lacking = [each for each in _FIELDS if not hasattr(scorer, each)]
    if lacking:
        raise extensions.broken("scorer", name, where, f"it has no {lacking[0]}")
    rule = scorer_key(scorer)[RULE_FIELD]
    if not isinstance(rule, str) or not rule:
        raise extensions.broken("scorer", name, where, f"its rule is {rule!r}, no version as text")
    if scorer.name != name:
        raise extensions.broken("scorer", name, where, f"it calls itself {scorer.name!r}")
    return scorer
