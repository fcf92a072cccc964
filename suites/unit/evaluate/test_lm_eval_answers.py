"""Tasks of lm-eval whose answers are generated: texts and scores are those of its own model class, item by item."""

from __future__ import annotations

import json
import types

import pytest

from harness.evaluate.api import evaluate
from harness.evaluate.tasks import load_task
from harness.evaluate.tasks.arith import ArithTask
from harness.evaluate.tasks.lm_eval_answers import MOST_TOKENS, Generation, answers_task, generation_of
from harness.exceptions import HarnessError
from harness.record import CERTIFIED
from harness.scorers.until import cut
from harness.spec import EvalSpec
from suites.conftest import SHIPPED

pytestmark = pytest.mark.unit

TASK_FILE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{a}}}}"
generation_kwargs: {kwargs}
metric_list: {metrics}
filter_list:
  - {{name: strict, filter: [{{function: regex, regex_pattern: "#### (-?[0-9]+)"}}, {{function: take_first}}]}}
  - name: loose
    filter: [{{function: regex, group_select: -1, regex_pattern: "(-?[0-9]+)"}}, {{function: take_first}}]
{more}
"""
EXACT = "[{metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}]"


def write_task(folder, kwargs, metrics=EXACT, more="", count=4, name="mini_answers"):
    """A task file with the first problems of arith in the shipped model's own words; the folder."""
    folder.mkdir(exist_ok=True)
    rows = [{"q": f"Q: {item.question}\nA:", "a": item.reference} for item in ArithTask().items()[:count]]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = TASK_FILE.format(name=name, data=folder / "rows.jsonl", kwargs=kwargs, metrics=metrics, more=more)
    (folder / "mini.yaml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Generation((), MOST_TOKENS)),
        ({"until": "\n", "max_gen_toks": 5, "do_sample": False, "temperature": 0.0}, Generation(("\n",), 5)),
        ({"until": ["a", "b"], "max_tokens": 7, "max_new_tokens": 6}, Generation(("a", "b"), 6)),
        ({"do_sample": False, "temperature": 0.7}, Generation((), MOST_TOKENS)),
        ({"temperature": 0.7}, Generation((), MOST_TOKENS, "temperature 0.7")),
        ({"do_sample": True, "top_p": 0.9}, Generation((), MOST_TOKENS, "do_sample True, top_p 0.9")),
    ],
)
def test_generation_is_asked_as_lm_eval_reads_it(given, wanted):
    assert generation_of(given, "a task") == wanted


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"num_beams": 4}, "num_beams: 4 is not done here"),
        ({"until": [3]}, "it must be a text or a list of texts"),
        ({"max_gen_toks": 0}, "it is a number of tokens, at least 1"),
    ],
)
def test_what_would_change_answers_is_refused(given, words):
    with pytest.raises(HarnessError, match=words):
        generation_of(given, "a task")


def test_questions_asked_several_times_are_refused():
    task = types.SimpleNamespace(config=types.SimpleNamespace(repeats=64))
    with pytest.raises(HarnessError, match="every question is asked 64 times"):
        answers_task("lm_eval:mini", task, [])


def hflm(checkpoint, folder, task):
    """The samples of lm-eval's own model class, filter by filter, in the order of the data."""
    lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval is not installed")
    theirs = lm_eval.simple_evaluate(
        model=huggingface.HFLM(pretrained=str(checkpoint), dtype="float32", device="cpu", batch_size=1),
        tasks=[task],
        task_manager=lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
    )
    return sorted(theirs["samples"][task], key=lambda sample: sample["doc_id"])


@pytest.mark.parametrize(
    "kwargs",
    [
        "{until: ['####'], max_gen_toks: 60}",
        "{until: ['zzz'], max_gen_toks: 9}",
        "{until: ['1', '\\n'], max_tokens: 40}",
    ],
)
def test_texts_and_scores_are_those_of_the_package(tmp_path, kwargs):
    """Answers that end at a text, at the limit, and within a line; the run is certified under noise."""
    folder = write_task(tmp_path / "tasks", kwargs)
    samples = hflm(SHIPPED, folder, "mini_answers")
    spec = EvalSpec("lm_eval:mini_answers", str(folder), None, levels=(0.0, 0.05), noise_seeds=1)
    run = evaluate(SHIPPED, spec, tmp_path / "run", device="cpu")
    assert run.arm.certificate.status == CERTIFIED, run.arm.certificate
    task = load_task("lm_eval:mini_answers", folder)
    ours = {result.item: result for result in run.results if not result.level}
    for item in task.items():
        own = [sample for sample in samples if sample["arguments"][0][0] == item.question]
        assert {sample["filter"] for sample in own} == {"strict", "loose"}
        for sample in own:
            assert cut(ours[item.key].text, task.until) == sample["resps"][0][0]
            assert ours[item.key].scores[f"exact_match,{sample['filter']}"] == sample["exact_match"]
        assert ours[item.key].score == ours[item.key].scores["exact_match,strict"]
