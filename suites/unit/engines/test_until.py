"""Texts that end an answer: where the generation stops, what is evidence for it, and what is not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from harness.engines.generation import Prompt, generate
from harness.engines.until import Until
from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.prompt_tokens import adds_special, until_of
from harness.evaluate.replaying import _may_end
from harness.evaluate.run import evaluate
from harness.evaluate.tasks.arith import ArithTask
from harness.record import CERTIFIED, INVALID_EVIDENCE
from harness.runs.loaded import load_run
from harness.spec import EvalSpec

pytestmark = pytest.mark.unit

END = "\n"


@dataclass(frozen=True)
class FirstLine(ArithTask):
    """Arithmetic of which only the first line is wanted."""

    until: ClassVar[tuple[str, ...]] = (END, "<|im_end|>")


@pytest.fixture
def asked(arith: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """Four problems of :class:`FirstLine` on the shipped checkpoint."""
    monkeypatch.setattr("harness.evaluate.prepared.load_task", lambda name, data: FirstLine())
    return prepare(arith, EvalSpec("arith", items=4, levels=(0.0, 0.05), noise_seeds=1), "cpu")


def letters(tokens: Any) -> str:
    """Letters as tokens; 0 is one without a text."""
    return "".join(chr(token) for token in tokens if token)


@pytest.mark.parametrize(
    ("text", "count"), [("ab\n\ncd", 4), ("abSTOP", 6), ("abSTO", None), ("\n", None), ("x" * 90 + "STOP\n\n", 94)]
)
def test_an_answer_ends_with_the_first_token_that_completes_a_text(text: str, count: int | None) -> None:
    assert Until(("\n\n", "STOP"), letters).first([ord(letter) for letter in text]) == count


def test_tokens_without_a_text_do_not_hide_it() -> None:
    tokens = [ord("S"), 0, 0, ord("T"), 0, ord("O"), ord("P")]
    assert Until(("STOP",), letters).first(tokens) == len(tokens)


def test_tokens_that_hold_a_text_are_found() -> None:
    assert Until(("b", "cd"), letters).within(128) == (ord("b"),)


def test_special_tokens_among_the_texts_end_answers_as_tokens(asked: Prepared) -> None:
    tokenizer = asked.checkpoint.tokenizer
    until, tokens = until_of(asked.checkpoint, (END, "<|im_end|>"))
    assert until is not None and until.texts == (END,)
    assert tokens == (tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    assert until_of(asked.checkpoint, ("<|im_end|>", "")) == (None, tokens)


@pytest.mark.parametrize(
    ("chat", "verbatim", "text", "adds"),
    [(True, False, "a", False), (False, False, "<s>a", True), (False, True, "<s>a", False), (False, True, "a", True)],
)
def test_a_prompt_gets_special_tokens_once(chat: bool, verbatim: bool, text: str, adds: bool) -> None:
    checkpoint: Any = SimpleNamespace(tokenizer=SimpleNamespace(bos_token="<s>"))
    assert adds_special(checkpoint, text, chat, verbatim) is adds


def test_each_row_of_a_batch_ends_where_it_would_alone(asked: Prepared) -> None:
    model, decoding = asked.checkpoint.model, replace(asked.decoding, max_new_tokens=60)
    prompts = [Prompt(key, 0, tokens) for key, tokens in asked.prompts.items()]
    whole = generate(model, prompts, replace(decoding, until=None))
    found = generate(model, prompts, decoding)
    assert found == [generate(model, [prompt], decoding)[0] for prompt in prompts]
    assert decoding.until is not None
    for short, full in zip(found, whole, strict=True):
        count = decoding.until.first(full.tokens)
        assert count is not None and short.tokens == full.tokens[:count] and short.truncated
        assert short.steps == len(short.tokens) == len(short.logits)
    assert len({short.steps for short in found}) > 1


def test_a_run_that_ends_at_texts_is_certified(asked: Prepared, tmp_path: Path) -> None:
    evaluate(asked, tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.arm.certificate.status == CERTIFIED
    assert run.arm.key["until"] == '["\\n", "<|im_end|>"]'
    clean = [result for result in run.results if not result.level]
    assert all(result.text.endswith(END) and result.text.count(END) == 1 for result in clean)


def test_an_engine_that_stops_elsewhere_is_found_out(
    asked: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as early:
        early.setattr(Until, "reached", lambda self, tokens: len(tokens) == 7)
        evaluate(asked, tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert run.arm.certificate.status == INVALID_EVIDENCE
    assert "an answer was cut off at 7 tokens" in str(run.arm.certificate.problems_at(0.0))


def test_a_replay_accepts_no_other_end(asked: Prepared) -> None:
    tokens = asked.checkpoint.tokenizer("So it is\n7", add_special_tokens=False)["input_ids"]
    line = next(count for count in range(len(tokens)) if END in asked.checkpoint.tokenizer.decode(tokens[: count + 1]))
    assert _may_end(tokens[: line + 1], asked.decoding)
    assert not _may_end(tokens[:line], asked.decoding)
    assert not _may_end(tokens, asked.decoding)
    assert _may_end([tokens[0]] * asked.decoding.max_new_tokens, asked.decoding)
