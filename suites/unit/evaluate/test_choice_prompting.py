"""Examples, system message and chat template before choices that are scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.evaluate.api import evaluate
from harness.evaluate.prepared import Prepared, prepare
from harness.gates.keys import PROMPT_FIELDS
from harness.spec import EvalSpec, parse_noise

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]


@pytest.fixture
def choice(tmp_path: Path) -> EvalSpec:
    rows = [{"question": f"{n} + 1?", "choices": [str(n + 1), str(n)], "answer": 0} for n in range(8)]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    noise = parse_noise("relative_gaussian @ op:linear")
    return EvalSpec("choice", str(tmp_path / "c.jsonl"), 3, levels=(0.0, 0.05), noise_seeds=1, noise=noise)


@pytest.fixture
def blimp(tmp_path: Path, choice: EvalSpec) -> EvalSpec:
    rows = [{"sentence_good": f"There are {n}.", "sentence_bad": f"There is {n}."} for n in range(2, 8)]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return replace(choice, task="blimp", data=str(tmp_path / "b.jsonl"))


def texts(prepared: Prepared) -> list[tuple[str, str]]:
    """Context and continuation of both choices of the first item."""
    decode = prepared.checkpoint.tokenizer.decode
    own = prepared.requests[prepared.items[0].key]
    return [(decode(each.context), decode(each.continuation)) for each in own]


def test_examples_and_a_system_message_are_paragraphs_before_the_question(tiny: Path, choice: EvalSpec) -> None:
    prepared = prepare(tiny, replace(choice, fewshot=1, system="Sums."))
    assert prepared.prompting is not None
    (example,) = prepared.prompting.examples
    shown, asked = (item.question.split("\n")[0] for item in (example, prepared.items[0]))
    answer = json.loads(example.reference)["choices"][0]
    before = f"Sums.\n\nQuestion: {shown}\nAnswer: {answer}\n\nQuestion: {asked}\nAnswer:"
    assert [context for context, _ in texts(prepared)] == [before, before]
    assert example.key not in {item.key for item in prepared.prompting.evaluated(prepared.task.items())}


def test_sentences_without_a_question_are_shown_as_they_stand(tiny: Path, blimp: EvalSpec, refusal: Refusal) -> None:
    prepared = prepare(tiny, replace(blimp, fewshot=2))
    assert prepared.prompting is not None
    first, second = (example.solution for example in prepared.prompting.examples)
    (context, continuation), _ = texts(prepared)
    assert (context + continuation).startswith(f"{first}\n\n{second}\n\n There are ")
    line = refusal(prepare, tiny, replace(blimp, apply_chat_template=True))
    assert line.startswith("--apply-chat-template with --task blimp; nothing is asked")


def test_under_the_chat_template_the_choice_is_the_answer(tiny: Path, choice: EvalSpec) -> None:
    prepared = prepare(tiny, replace(choice, fewshot=1, system="Sums.", apply_chat_template=True))
    (context, right), (other, wrong) = texts(prepared)
    assert context == other and not right.startswith(" ") and right != wrong
    template = prepared.checkpoint.tokenizer.apply_chat_template(
        [{"role": "system", "content": "Sums."}], tokenize=False, add_generation_prompt=False
    )
    assert context.startswith(template) and context.count("Question: ") == 2


def test_the_key_says_what_was_asked_and_stays_where_nothing_was(tiny: Path, choice: EvalSpec) -> None:
    plain = prepare(tiny, choice)
    assert not set(PROMPT_FIELDS) & set(plain.key)
    assert prepare(tiny, replace(choice, apply_chat_template=False)).key == plain.key
    for changes, name in (
        ({"fewshot": 1}, "fewshot"),
        ({"system": "S"}, "system"),
        ({"apply_chat_template": True}, ""),
    ):
        key = prepare(tiny, replace(choice, **changes)).key
        assert (name or "chat_template") in key and key["template"] != plain.key["template"]


def test_a_run_with_examples_has_the_evidence_of_any_other(tiny: Path, choice: EvalSpec, tmp_path: Path) -> None:
    run = evaluate(tiny, replace(choice, fewshot=1, positive_control=False), tmp_path / "run")
    assert run.complete and len(run.results) == 6
    assert not [problem for level in run.arm.certificate.levels for problem in level.problems]
