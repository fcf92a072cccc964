"""Token ids of contexts and continuations: the rules of lm-evaluation-harness, and its own code where it is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.engines.generation import Forced
from harness.evaluate.checkpoint import Checkpoint, load_checkpoint
from harness.evaluate.request_tokens import RequestTokens, check_requests
from harness.evaluate.tasks import Item
from harness.evaluate.tasks.base import Continuation

pytestmark = pytest.mark.long

END, BOS = 258, 259


@pytest.fixture(scope="module")
def checkpoint(tiny: Path) -> Checkpoint:
    return load_checkpoint(tiny)


def ids(checkpoint: Checkpoint, text: str) -> tuple[int, ...]:
    return tuple(checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize(
    ("context", "continuation", "parts"),
    [
        ("", " it", ("<|im_end|>", " it")),
        ("", "<|im_end|> it", ("<|im_end|>", " it")),
        ("Q:", " it", ("Q:", " it")),
        ("Q:  ", "it", ("Q:", "  it")),
        ("Q:\n", "it", ("Q:", "\nit")),
    ],
)
def test_the_rules(checkpoint: Checkpoint, context: str, continuation: str, parts: tuple[str, str]) -> None:
    found = RequestTokens(checkpoint).of(Continuation(context, continuation))
    assert found == Forced(*(ids(checkpoint, part) for part in parts))


@pytest.mark.parametrize(("asked", "number"), [(None, END), ("<|bos|>", BOS), ("259", BOS), ("<|endoftext|>", 256)])
def test_the_prefix_is_the_beginning_the_end_or_what_is_asked_for(
    checkpoint: Checkpoint, asked: str | None, number: int
) -> None:
    tokens = RequestTokens(checkpoint, asked)
    assert tokens.prefix == number and tokens.prefix_text.endswith(f"({number})")
    assert tokens.of(Continuation("", " it")).context == (number,)


@pytest.mark.parametrize("asked", ["<|none|>", "260", "-1", "", "it is"])
def test_what_is_no_token_is_refused(checkpoint: Checkpoint, refusal: Callable[..., str], asked: str) -> None:
    assert f"--prefix-token {asked}" in refusal(RequestTokens, checkpoint, asked)


@pytest.mark.parametrize(("context", "continuation"), [("Q:", ""), ("", ""), ("", "<|im_end|>"), ("  ", "it")])
def test_nothing_to_score_is_refused(
    checkpoint: Checkpoint, refusal: Callable[..., str], context: str, continuation: str
) -> None:
    assert "no token of its own" in refusal(RequestTokens(checkpoint).of, Continuation(context, continuation))


def test_what_is_too_long_is_refused_by_its_question(checkpoint: Checkpoint, refusal: Callable[..., str]) -> None:
    item = Item("key", "How long?", "", "")
    context = checkpoint.context
    assert context is not None
    check_requests(checkpoint, {"key": [Forced((1,) * context, (2,))]}, [item])
    text = refusal(check_requests, checkpoint, {"key": [Forced((1,) * context, (2, 3))]}, [item])
    assert "'How long?'" in text and str(context) in text


def test_a_token_beyond_the_embedding_is_refused(checkpoint: Checkpoint, refusal: Callable[..., str]) -> None:
    item = Item("key", "How?", "", "")
    assert "holds token 300" in refusal(check_requests, checkpoint, {"key": [Forced((1,), (300,))]}, [item])


@pytest.fixture(scope="module")
def published(tiny: Path) -> Any:
    """The published code on the same checkpoint."""
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    return huggingface.HFLM(pretrained=str(tiny), device="cpu", dtype="float32", batch_size=4)


@pytest.mark.parametrize("context", ["", "Q:", "Q: ", "Two\n\n", "<|im_end|>Q:", " x"])
@pytest.mark.parametrize("continuation", [" it", "it is", "\u00e9", "<|im_end|>it"])
def test_the_published_code_gives_the_same(
    checkpoint: Checkpoint, published: Any, context: str, continuation: str
) -> None:
    asked: list[tuple[list[int], list[int]]] = []
    published._loglikelihood_tokens = lambda requests, **_: asked.extend((c, k) for _, c, k in requests)
    published.loglikelihood([type("Instance", (), {"args": (context, continuation)})])
    found = RequestTokens(checkpoint).of(Continuation(context, continuation))
    assert asked == [(list(found.context), list(found.continuation))]
