"""Chat templates that lose what is asked: refused before anything runs, with the template and the data named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate.checkpoint import load_checkpoint
from harness.evaluate.prepared import prepare
from harness.evaluate.rendering import check_distinct
from harness.evaluate.tasks import load_task
from harness.exceptions import CheckpointError
from harness.spec import EvalSpec, parse_noise

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]
SPEC = EvalSpec("arith", items=3, noise=parse_noise("relative_gaussian @ op:linear"), max_new_tokens=4)
USER = "{% for m in messages %}<|im_start|>user\n{{ CONTENT }}<|im_end|>{% endfor %}"

TEMPLATES: dict[str, tuple[str, str]] = {
    "a fixed text": ("Answer the question.", "1999 of 2000 items get the prompt of another one, though their messages"),
    "content as a list": (
        "{% for m in messages %}{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}"
        "{% endfor %}{% endfor %}!",
        "1999 of 2000 items get the prompt of another one",
    ),
    "the role alone": (USER.replace("CONTENT", "m.role"), "1999 of 2000 items"),
    "the first word": (USER.replace("CONTENT", "m.content.split()[0]"), "items get the prompt of another one"),
    "cut to 60 characters": (USER.replace("CONTENT", "m.content[:60]"), "its chat template loses the user message"),
    "the end cut off": (USER.replace("CONTENT", "m.content[:-5]"), "its chat template loses the user message"),
    "capitals": (USER.replace("CONTENT", "m.content | upper"), "its chat template loses the user message"),
    "at random": (USER.replace("CONTENT", "[m.content, m.content + ' '] | random") * 20, "in two ways"),
    "a field that is not there": (USER.replace("CONTENT", "m.content.parts[0].text"), "its chat template fails for"),
    "nothing": ("{{ '' }}", "items get the prompt of another one"),
}
SOUND: dict[str, str] = {
    "trimmed": USER.replace("CONTENT", "m.content | trim"),
    "lines joined": USER.replace("CONTENT", "m.content | replace('\n', ' ')"),
    "with more around it": "You are helpful.\n" + USER.replace("CONTENT", "m.content") + "\nThink.",
}


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint."""
    return Path(shutil.copytree(tiny, tmp_path / "checkpoint"))


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_template_that_loses_the_question_is_refused(folder: Path, refusal: Refusal, kind: str) -> None:
    template, words = TEMPLATES[kind]
    (folder / "chat_template.jinja").write_text(template)
    line = refusal(prepare, folder, SPEC, kind=CheckpointError)
    assert words in line and str(folder) in line and "chat_template.jinja" in line


@pytest.mark.parametrize("kind", SOUND)
def test_white_space_and_more_text_are_no_loss(folder: Path, kind: str) -> None:
    (folder / "chat_template.jinja").write_text(SOUND[kind])
    assert len(set(prepare(folder, SPEC).prompts.values())) == 3


def test_an_example_names_two_questions(folder: Path, refusal: Refusal) -> None:
    (folder / "chat_template.jinja").write_text("Answer.")
    line = refusal(prepare, folder, SPEC, kind=CheckpointError)
    questions = [repr(item.question)[:50] for item in load_task("arith").items()]
    assert f"for example {questions[0]}" in line and f" and {questions[1]}" in line


def test_a_template_inside_the_tokenizer_config_is_named_there(folder: Path, refusal: Refusal) -> None:
    (folder / "chat_template.jinja").unlink()
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": "Answer."}))
    assert "correct tokenizer_config.json" in refusal(prepare, folder, SPEC, kind=CheckpointError)


def test_a_tokenizer_that_loses_what_is_asked_is_refused(tiny: Path, refusal: Refusal) -> None:
    checkpoint = load_checkpoint(tiny)
    messages = {key: [{"role": "user", "content": key}] for key in ("one", "two", "three")}
    check_distinct(checkpoint, messages, {"one": (1,), "two": (2,), "three": (3,)}, "token ids")
    made = {"one": (1,), "two": (1,), "three": (3,)}
    line = refusal(lambda: check_distinct(checkpoint, messages, made, "token ids"), kind=CheckpointError)
    assert "1 of 3 items get the token ids of another one" in line and "(for example 'one' and 'two')" in line
    assert "correct its tokenizer" in line


def gsm8k(folder: Path, *prompts: list[dict[str, str]]) -> EvalSpec:
    """A data file in verl's layout, with ``prompts``."""
    file = folder.parent / "data.jsonl"
    rows: list[dict[str, Any]] = [
        {
            "prompt": prompt,
            "reward_model": {"style": "rule", "ground_truth": str(number)},
            "extra_info": {"question": f"What is {number}?", "answer": f"#### {number}"},
        }
        for number, prompt in enumerate(prompts)
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return replace(SPEC, task="gsm8k", data=str(file), items=len(rows))


def asked(number: int, system: str | None = "Be brief.") -> list[dict[str, str]]:
    first = [] if system is None else [{"role": "system", "content": system}]
    return [*first, {"role": "user", "content": f"What is {number}?"}]


def test_a_system_role_that_a_template_cannot_take_names_data_and_template(folder: Path, refusal: Refusal) -> None:
    spec = gsm8k(folder, asked(0), asked(1))
    prepare(folder, spec)
    (folder / "chat_template.jinja").write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{{ messages[0].content }}"
    )
    line = refusal(prepare, folder, spec, kind=CheckpointError)
    assert "System role not supported" in line and "(roles system, user)" in line
    assert str(spec.data) in line and "chat_template.jinja" in line and str(folder) in line
    prepare(folder, gsm8k(folder, asked(0, None), asked(1, None)))


def test_a_system_message_that_is_dropped_is_refused(folder: Path, refusal: Refusal) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages[-1].content }}")
    spec = gsm8k(folder, asked(0), asked(1))
    line = refusal(prepare, folder, spec, kind=CheckpointError)
    assert "loses the system message 'Be brief.'" in line and str(spec.data) in line


def test_items_that_ask_the_same_may_have_the_same_prompt(folder: Path, refusal: Refusal) -> None:
    same = [{"role": "user", "content": "Guess."}]
    assert len(prepare(folder, gsm8k(folder, same, same)).prompts) == 2
    (folder / "chat_template.jinja").write_text("Guess.")
    refusal(prepare, folder, gsm8k(folder, same, asked(1, None)), kind=CheckpointError)
