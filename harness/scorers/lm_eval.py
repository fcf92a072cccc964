"""Answers scored by lm-evaluation-harness itself: its filters, then its metric, document by document.

The name of such a scorer is ``lm_eval:METRIC,FILTER``, as in lm-eval's results. All that its code needs is in the
reference (:class:`Told`), so that stored answers are scored again when a run is read, without the task's data. lm-eval
has to be installed for that (the extra ``lm-eval``); its version is the version of the rule.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

from harness.exceptions import HarnessError
from harness.scorers.protocol import TEXTS, Asked, Scores
from harness.scorers.until import cut
from harness.spec.evaluation import LM_EVAL
from harness.strict import shown
from harness.text import nearest

Step = Sequence[Any]
"""A filter or a metric: its name in lm-eval, and the keywords that it is given."""


@dataclass(frozen=True)
class Told:
    """The reference of a document: the right answer ``gold`` (text, or a list of texts of which ``several`` are right),
    the texts that end an answer, the ``filters`` by name, each a chain of steps, and the ``metrics``. ``choices`` is
    what ``doc_to_choice`` gives, and ``doc`` the fields of the document that a filter reads."""

    gold: Any
    until: Sequence[str]
    filters: Sequence[tuple[str, Sequence[Step]]]
    metrics: Sequence[Step]
    several: bool = False
    choices: Sequence[str] | None = None
    doc: Mapping[str, Any] | None = None

    def written(self) -> str:
        """Return canonical JSON. Raises TypeError or ValueError for what JSON has no form for."""
        plain = {name: value for name, value in asdict(self).items() if value not in (None, False)}
        text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        if json.loads(text) != json.loads(json.dumps(plain, default=str)):
            raise TypeError("what does not come back from JSON as it was")
        return text

    @classmethod
    def read(cls, reference: str) -> Told:
        """Return the inverse of :meth:`written`. Raises :class:`HarnessError` for any other text."""
        try:
            return cls(**json.loads(reference))
        except (ValueError, TypeError, RecursionError):
            rule = "it is no document of a task of lm-eval that generates"
            raise HarnessError(f"reference {shown(reference)}", rule, "use --scorer with such a task only") from None


@dataclass(frozen=True)
class LmEvalScorer:
    """``name`` is ``lm_eval:METRIC,FILTER``; the values of all metrics under all filters are kept."""

    name: str

    @property
    def primary(self) -> str:
        """``METRIC,FILTER``."""
        return self.name.removeprefix(LM_EVAL)

    @property
    def rule(self) -> str:
        """The version of lm-eval that scores here."""
        try:
            return f"lm-eval {importlib.metadata.version('lm-eval')}"
        except importlib.metadata.PackageNotFoundError:
            return "lm-eval"

    @property
    def reads(self) -> str:
        """It reads what a model wrote."""
        return TEXTS

    def complete(self, text: str) -> bool:
        """Return True: lm-eval scores what is there when the token limit is reached."""
        return True

    def score(self, text: str, reference: str, item: Asked) -> Scores:
        """Return the values by ``METRIC,FILTER``, and what the filter left of the answer.

        Raises :class:`HarnessError` for a reference of another form or without the scorer's own value, and where
        lm-eval is not installed.
        """
        told = Told.read(reference)
        answer = cut(text, told.until)
        values: dict[str, float | None] = {}
        kept: dict[str, Any] = {}
        for name, filtered, found in _scored(told, answer):
            for metric, value in found.items():
                values[f"{metric},{name}"] = _fraction(value)
                kept[f"{metric},{name}"] = filtered
        if self.primary not in values:
            rule = f"the task has the values {', '.join(values)}"
            raise HarnessError(f"--scorer {self.name}", rule, nearest(self.primary, values))
        read = kept[self.primary]
        return Scores(values, read if isinstance(read, str) else json.dumps(read, ensure_ascii=False, default=str))

    def check(self, reference: str, item: Asked) -> None:
        """Raise :class:`HarnessError` where an answer to ``item`` could not be scored, as far as some answers show it:
        none, the right one and half of it. Right is 1, and wrong is 0."""
        gold = Told.read(reference).gold
        texts = [str(each) for each in (gold if isinstance(gold, list) else [gold])]
        for text in ("", *texts[:1], texts[0][: len(texts[0]) // 2] if texts else ""):
            found = self.score(text, reference, item).values[self.primary]
            if found not in (0.0, 1.0):
                rule = f"{self.primary} of an answer is {found}, and a gate judges right (1) and wrong (0) ones"
                raise HarnessError(f"--scorer {self.name}", rule, "choose another metric of the task")


def _fraction(value: Any) -> float | None:
    """A number within 0 and 1; None for anything else, such as the two texts that a corpus-wide metric keeps."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and 0 <= number <= 1 else None


def _scored(told: Told, answer: str) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Every filter's name with what it makes of ``answer`` and the values of the metrics, by lm-eval's own code."""
    try:
        from lm_eval.api.instance import Instance
        from lm_eval.api.registry import get_metric
        from lm_eval.api.task import ConfigurableTask
        from lm_eval.filters import build_filter_ensemble
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":
            raise
        way_out = "pip install 'robustness-harness[lm-eval]'"
        raise HarnessError("answers scored by lm-eval", "lm-eval is not installed", way_out) from None
    doc = dict(told.doc or {})
    task = SimpleNamespace(
        OUTPUT_TYPE="generate_until",
        config=SimpleNamespace(process_results=None, doc_to_choice=told.choices),
        multiple_target=int(told.several),
        _metric_fn_list={name: get_metric(name) for name, _ in told.metrics},
        _metric_fn_kwargs={name: dict(given) for name, given in told.metrics},
        _aggregation_list={},
        _higher_is_better={},
        doc_to_target=lambda doc: told.gold,
        doc_to_choice=lambda doc: told.choices,
    )
    for name, steps in told.filters:
        instance = Instance("generate_until", doc, (), 0)
        instance.resps = [answer]
        build_filter_ensemble(name, [(function, dict(given)) for function, given in steps]).apply([instance])
        filtered = instance.filtered_resps[name]
        yield name, filtered, ConfigurableTask.process_results(task, doc, [filtered])
