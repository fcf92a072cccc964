"""The restated rules of published scorers against the packages that publish them.

lm-eval is no dependency of the project; its test runs where it is installed (with its sacrebleu). Last run 2026-11-29:
lm-eval 0.4.13 and verl 0.9.1, every text of the table and every rendering, no difference.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from suites.unit.scorers.test_published_rules import (
    TABLE,
    lm_eval_flexible,
    lm_eval_strict,
    renderings,
    verl_flexible,
    verl_math,
    verl_strict,
)

pytestmark = pytest.mark.slow

TEXTS = (*((text, gold) for text, gold, _, _ in TABLE), *((text, "7") for text in renderings()))


def test_verl_scores_as_restated() -> None:
    gsm8k = pytest.importorskip("verl.utils.reward_score.gsm8k")
    math_reward = pytest.importorskip("verl.utils.reward_score.math_reward")
    for text, gold in TEXTS:
        for method, rule in (("strict", verl_strict), ("flexible", verl_flexible)):
            assert (gsm8k.compute_score(text, gold, method=method) == 1.0) == (rule(text, gold) == "right"), text
            assert (gsm8k.extract_solution(text, method) is None) == (rule(text, gold) == "-"), text
    for text, gold, _, _ in TABLE:
        assert (math_reward.compute_score(text, gold) == 1.0) == (verl_math(text, gold) == "right"), text


@pytest.mark.parametrize(("name", "rule"), [("strict-match", lm_eval_strict), ("flexible-extract", lm_eval_flexible)])
def test_lm_eval_scores_as_restated(name: str, rule: Callable[[str, str], str]) -> None:
    """With the filters and the metric that its own gsm8k task names; the target is a whole solution, as there."""
    filtered, match = lm_eval_task(name)
    found = filtered([text for text, _ in TEXTS])
    for (text, gold), answer in zip(TEXTS, found, strict=True):
        score = match(predictions=[answer], references=[f"It is so.\n#### {gold}"])["exact_match"]
        assert (score == 1.0) == (rule(text, gold) == "right"), (text, answer)
        assert (answer == "[invalid]") == (rule(text, gold) == "-"), (text, answer)


def lm_eval_task(name: str) -> tuple[Callable[[list[str]], list[str]], Callable[..., Any]]:
    """The filter ``name`` of lm-eval's task gsm8k, from texts to answers, and its metric with its settings."""
    filters = pytest.importorskip("lm_eval.filters")
    metrics = pytest.importorskip("lm_eval.api.metrics")
    instances = pytest.importorskip("lm_eval.api.instance")
    yaml = pytest.importorskip("yaml")
    home = Path(filters.__file__).parents[1]
    task = yaml.safe_load((home / "tasks" / "gsm8k" / "gsm8k.yaml").read_text(encoding="utf-8"))
    (steps,) = (each["filter"] for each in task["filter_list"] if each["name"] == name)
    parts = [(step["function"], {key: step[key] for key in step if key != "function"}) for step in steps]
    (metric,) = task["metric_list"]
    settings = {key: metric[key] for key in ("ignore_case", "ignore_punctuation", "regexes_to_ignore")}

    def filtered(texts: list[str]) -> list[str]:
        asked = [instances.Instance("generate_until", {}, (text, {}), i, resps=[text]) for i, text in enumerate(texts)]
        filters.build_filter_ensemble(name, parts).apply(asked)
        return [each.filtered_resps[name] for each in asked]

    return filtered, lambda **given: metrics.exact_match_fn(**settings, **given)
