"""System message, few-shot examples and chat template: what is asked, what is never in it, and that the key says it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.prompting import Prompting, prompting_of
from harness.evaluate.rendering import plain_text
from harness.evaluate.tasks import load_task, select
from harness.evaluate.tasks.gsm8k import Gsm8kTask
from harness.exceptions import CheckpointError
from harness.gates.keys import PROMPT_FIELDS
from harness.spec import EvalSpec, parse_noise

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]
SPEC = EvalSpec("arith", items=3, noise=parse_noise("relative_gaussian @ op:linear"), max_new_tokens=4)
ARITH = load_task("arith")


def gsm8k(path: Path, count: int, start: int = 0) -> Path:
    rows = [{"question": f"What is {n}?", "answer": f"It is {n}.\n#### {n}"} for n in range(start, start + count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def text_of(prepared: Prepared, key: str) -> str:
    return prepared.checkpoint.tokenizer.decode(prepared.prompts[key])


@pytest.mark.parametrize("count", [1, 5, 1999])
@pytest.mark.parametrize("seed", [0, 7])
def test_no_example_is_ever_evaluated(count: int, seed: int) -> None:
    prompting = prompting_of(replace(SPEC, fewshot=count, item_seed=seed), ARITH)
    left = prompting.evaluated(ARITH.items())
    examples = {each.key for each in prompting.examples}
    assert len(examples) == count and len(left) == 2000 - count
    assert not examples & {item.key for item in select(left, len(left), seed)}


def test_examples_do_not_depend_on_how_many_items_are_evaluated_and_items_not_on_the_examples(tiny: Path) -> None:
    few, more = (prepare(tiny, replace(SPEC, fewshot=2, items=count)) for count in (2, 5))
    plain = prepare(tiny, SPEC)
    assert few.key == more.key
    assert [item.key for item in more.items][:3] == [item.key for item in plain.items]
    assert all(few.prompts[key] == more.prompts[key] for key in few.prompts)


def test_examples_are_drawn_by_the_seed_and_stand_before_the_question(tiny: Path) -> None:
    spec = replace(SPEC, fewshot=2, system="Answer briefly.")
    prepared = prepare(tiny, spec)
    assert prepared.prompting is not None
    first, second = prepared.prompting.examples
    asked = prepared.items[0]
    text = text_of(prepared, asked.key)
    places = [text.index(words) for words in ("Answer briefly.", first.question, first.solution, second.question)]
    assert places == sorted(places) and text.index(asked.question) > text.index(second.solution)
    assert asked.solution not in text
    other = prompting_of(replace(spec, item_seed=1), ARITH)
    assert other.examples != prepared.prompting.examples


def test_the_key_is_as_it_was_where_nothing_is_asked_for(tiny: Path) -> None:
    prepared = prepare(tiny, SPEC)
    assert not set(PROMPT_FIELDS) & set(prepared.key)
    assert prepare(tiny, replace(SPEC, apply_chat_template=True)).key == prepared.key
    assert EvalSpec.from_json({k: v for k, v in SPEC.to_json().items() if "fewshot" not in k and k != "system"}) == SPEC


@pytest.mark.parametrize(
    ("ours", "theirs", "fields"),
    [
        ({}, {"system": "Be brief."}, {"system", "template"}),
        ({"system": "Be brief."}, {"system": "Be brief!"}, {"system", "template"}),
        ({}, {"fewshot": 1}, {"fewshot", "template"}),
        ({"fewshot": 1}, {"fewshot": 2}, {"fewshot", "template"}),
        ({"fewshot": 1}, {"fewshot": 1, "item_seed": 1}, {"fewshot", "template"}),
        ({}, {"apply_chat_template": False}, {"chat_template", "template"}),
        ({"fewshot": 1}, {"fewshot": 1, "apply_chat_template": False}, {"fewshot", "chat_template", "template"}),
    ],
)
def test_whatever_changes_a_prompt_changes_the_key(tiny: Path, ours: dict, theirs: dict, fields: set) -> None:
    first, second = (prepare(tiny, replace(SPEC, **given)).key for given in (ours, theirs))
    assert {name for name in {*first, *second} if first.get(name) != second.get(name)} >= fields - {"template"}
    assert first["template"] != second["template"]


def test_without_a_template_the_prompt_is_plain_text(tiny: Path) -> None:
    prepared = prepare(tiny, replace(SPEC, fewshot=1, system="Sums.", apply_chat_template=False))
    assert prepared.prompting is not None
    (example,), asked = prepared.prompting.examples, prepared.items[0]
    expected = f"Sums.\n\n{example.question}\n{example.solution}\n\n{asked.question}\n"
    assert text_of(prepared, asked.key) == expected == plain_text(prepared.prompting.messages(asked))


def test_a_task_may_be_asked_without_a_template_and_answer_examples_itself() -> None:
    class Plain(Gsm8kTask):
        chat_template = False

        def example(self, item: object) -> str:
            return "yes"

    task = Plain(None)
    task.__dict__["_items"] = ARITH.items()
    prompting = prompting_of(EvalSpec("gsm8k", fewshot=1), task)
    assert not prompting.chat and prompting.messages(ARITH.items()[0])[1] == {"role": "assistant", "content": "yes"}
    assert prompting_of(EvalSpec("gsm8k", apply_chat_template=True), task).chat


def test_examples_of_a_file_are_never_questions_of_the_task(tmp_path: Path, refusal: Refusal) -> None:
    data, train = gsm8k(tmp_path / "test.jsonl", 4), gsm8k(tmp_path / "train.jsonl", 5, start=2)
    spec = EvalSpec("gsm8k", str(data), fewshot=3, fewshot_data=str(train))
    task = load_task("gsm8k", data)
    prompting = prompting_of(spec, task)
    assert {each.question for each in prompting.examples} == {f"What is {n}?" for n in (4, 5, 6)}
    assert len(prompting.evaluated(task.items())) == 4
    line = refusal(prompting_of, replace(spec, fewshot=4), task)
    assert f"there are 3 items in {train} that are no questions of the task (2 are)" in line


def test_one_item_must_be_left(tmp_path: Path, refusal: Refusal) -> None:
    data = gsm8k(tmp_path / "test.jsonl", 4)
    task = load_task("gsm8k", data)
    assert len(prompting_of(EvalSpec("gsm8k", str(data), fewshot=3), task).evaluated(task.items())) == 1
    assert "one must be left" in refusal(prompting_of, EvalSpec("gsm8k", str(data), fewshot=4), task)


def test_two_system_messages_are_refused(tmp_path: Path, refusal: Refusal) -> None:
    row = {
        "prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "What is 1?"}],
        "reward_model": {"ground_truth": "1"},
        "extra_info": {"question": "What is 1?"},
    }
    data = tmp_path / "test.jsonl"
    data.write_text(json.dumps(row))
    task = load_task("gsm8k", data)
    line = refusal(Prompting(task, "Be brief.").messages, task.items()[0])
    assert "bring a system message of their own ('Be kind.')" in line
    with_example = Prompting(task, None, task.items()).messages(task.items()[0])
    assert [message["role"] for message in with_example] == ["system", "user", "assistant", "user"]


def test_a_template_that_refuses_or_loses_a_system_message_or_an_answer(
    tiny: Path, tmp_path: Path, refusal: Refusal
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "checkpoint"))
    template = folder / "chat_template.jinja"
    body = (
        "{% for m in messages %}{% if COND %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    )
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    template.write_text(strict + body.replace("COND", "true"))
    prepare(folder, replace(SPEC, fewshot=1))
    line = refusal(prepare, folder, replace(SPEC, system="Be brief."), kind=CheckpointError)
    assert "no system role" in line and "leave out --system" in line
    template.write_text(body.replace("COND", "m.role != 'system'"))
    line = refusal(prepare, folder, replace(SPEC, system="Be brief."), kind=CheckpointError)
    assert "loses the system message 'Be brief.'" in line
    template.write_text(body.replace("COND", "m.role == 'user'"))
    prepare(folder, SPEC)
    assert "loses the assistant message" in refusal(prepare, folder, replace(SPEC, fewshot=1), kind=CheckpointError)


def test_a_checkpoint_without_a_template(tiny: Path, tmp_path: Path, refusal: Refusal) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "checkpoint"))
    (folder / "chat_template.jinja").unlink()
    line = refusal(prepare, folder, SPEC, kind=CheckpointError)
    assert "no chat template" in line and "--no-chat-template" in line
    assert prepare(folder, replace(SPEC, apply_chat_template=False)).key["chat_template"] == "not applied"


def test_examples_that_do_not_fit_the_context(tiny: Path, refusal: Refusal) -> None:
    line = refusal(prepare, tiny, replace(SPEC, fewshot=40))
    assert line.startswith("a prompt of ") and ("model_max_length" in line or "--fewshot" in line)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"fewshot": -1}, "--fewshot -1"),
        ({"fewshot": True}, "--fewshot True"),
        ({"fewshot_data": "train.jsonl"}, "--fewshot-data train.jsonl without --fewshot"),
        ({"system": ""}, "--system ''"),
    ],
)
def test_a_bad_value_is_refused(refusal: Refusal, given: dict, words: str) -> None:
    assert refusal(lambda: EvalSpec("arith", **given)).startswith(words)
