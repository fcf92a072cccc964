"""Answers that lm-eval scores: the reference holds all of it, and what cannot be judged is refused."""

from __future__ import annotations

import sys

import pytest

from harness.exceptions import HarnessError
from harness.scorers import Asked, load_scorer
from harness.scorers.lm_eval import LmEvalScorer, Told
from harness.spec import EvalSpec
from harness.spec.evaluation import scorers_like

pytestmark = pytest.mark.unit

NAME = "lm_eval:exact_match,strict"
FILTERS = [
    ["strict", [["regex", {"regex_pattern": "#### (-?[0-9]+)"}], ["take_first", {}]]],
    ["loose", [["regex", {"regex_pattern": "(-?[0-9]+)", "group_select": -1}], ["take_first", {}]]],
]


def test_its_name_is_taken_where_scorers_are():
    assert EvalSpec("arith", scorer=NAME).scorer == NAME
    assert load_scorer(NAME).primary == "exact_match,strict"
    for wrong in ("lm_eval:", "lm_eval:exact_match", "exact_match,strict"):
        assert wrong not in scorers_like(wrong)
        with pytest.raises(HarnessError):
            EvalSpec("arith", scorer=wrong)


def test_it_reads_whole_answers_and_cut_ones():
    scorer = LmEvalScorer(NAME)
    assert scorer.complete("cut") and scorer.reads == "texts" and scorer.rule.startswith("lm-eval")


def test_without_the_package_the_way_to_it_is_said(monkeypatch):
    for name in [each for each in sys.modules if each.partition(".")[0] == "lm_eval"] + ["lm_eval"]:
        monkeypatch.setitem(sys.modules, name, None)
    reference = Told("72", [], FILTERS, [["exact_match", {}]]).written()
    with pytest.raises(HarnessError, match="lm-eval is not installed"):
        LmEvalScorer(NAME).score("72", reference, Asked("1", "?"))


def test_a_reference_says_all_that_scores_it():
    told = Told("72", ["\n"], [["none", [["take_first", {}]]]], [["exact_match", {}]])
    assert Told.read(told.written()) == told
    with pytest.raises(HarnessError, match="no document of a task of lm-eval"):
        Told.read("72")
    with pytest.raises(TypeError):
        Told({1, 2}, [], [], []).written()


@pytest.mark.parametrize(
    ("text", "strict", "loose", "answer"),
    [("so 7\n#### 72 ok", 1.0, 1.0, "72"), ("72", 0.0, 1.0, "[invalid]"), ("#### 72 or 3 STOP 72", 1.0, 0.0, "72")],
)
def test_answers_are_cut_filtered_and_matched_by_lm_eval(text, strict, loose, answer):
    pytest.importorskip("lm_eval.api.task", reason="lm-eval is not installed")
    reference = Told("72", ["STOP"], FILTERS, [["exact_match", {}]]).written()
    found = load_scorer("lm_eval:exact_match,strict").score(text, reference, Asked("1", "?"))
    assert (found.values, found.answer) == ({"exact_match,strict": strict, "exact_match,loose": loose}, answer)


@pytest.mark.parametrize(
    ("metric", "words"), [("bleu", "bleu,strict of an answer is None"), ("exact_match", "the task has the values")]
)
def test_what_cannot_be_judged_is_refused_before_anything_runs(metric, words):
    pytest.importorskip("lm_eval.api.task", reason="lm-eval is not installed")
    reference = Told("72", [], FILTERS, [[metric, {}]]).written()
    name = NAME.replace("exact_match", metric) if metric == "bleu" else "lm_eval:exact_match,stirct"
    with pytest.raises(HarnessError, match=words):
        LmEvalScorer(name).check(reference, Asked("1", "?"))


def test_several_right_answers_and_choices():
    pytest.importorskip("lm_eval.api.task", reason="lm-eval is not installed")
    exact, asked = [["exact_match", {"ignore_case": True}]], Asked("1", "?")
    plain = [["none", [["take_first", {}]]]]
    scorer = load_scorer("lm_eval:exact_match,none")
    several = Told(["Paris", "paris, France"], [], plain, exact, several=True).written()
    assert [scorer.score(text, several, asked).values["exact_match,none"] for text in ("PARIS", "Rome")] == [1.0, 0.0]
    chosen = Told(1, [], plain, exact, choices=["no", "yes"]).written()
    assert [scorer.score(text, chosen, asked).values["exact_match,none"] for text in ("Yes", "no")] == [1.0, 0.0]
