"""The greedy loop against transformers' own, its limits, and the bookkeeping of finished sequences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.engines.generation import Completion, Decoding, Prompt, generate, left_pad
from harness.evaluate.checkpoint import Checkpoint, load_checkpoint
from harness.evaluate.prepared import Prepared, prepare
from harness.spec import EvalSpec

pytestmark = pytest.mark.unit

NEW = 40


@pytest.fixture(scope="module")
def shipped(arith: Path) -> Prepared:
    """The shipped checkpoint with six problems."""
    return prepare(arith, EvalSpec("arith", items=6, max_new_tokens=NEW))


@pytest.fixture(scope="module")
def prompts(shipped: Prepared) -> list[Prompt]:
    return [Prompt(key, 0, tokens) for key, tokens in shipped.prompts.items()]


@pytest.fixture(scope="module")
def stopping(shipped: Prepared, prompts: list[Prompt]) -> Decoding:
    """Ends at the token that the six answers first reach at the most different steps, and at the end token."""
    answers = [completion.tokens for completion in generate(shipped.checkpoint.model, prompts, shipped.decoding)]
    steps = {token: {answer.index(token) for answer in answers if token in answer} for token in sum(answers, ())}
    return replace(shipped.decoding, stop=(max(steps, key=lambda token: len(steps[token])), *shipped.decoding.stop))


def reference(checkpoint: Checkpoint, prompts: list[Prompt], decoding: Decoding) -> list[Completion]:
    """What ``model.generate`` says, cut at the first stop token."""
    ids, mask = left_pad([prompt.tokens for prompt in prompts], decoding.pad, torch.device("cpu"))
    out = checkpoint.model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=decoding.max_new_tokens,
        eos_token_id=list(decoding.stop),
        pad_token_id=decoding.pad,
    )
    found = []
    for row in out[:, ids.shape[1] :].tolist():
        end = next((index for index, token in enumerate(row) if token in decoding.stop), None)
        tokens = row[: decoding.max_new_tokens if end is None else end]
        found.append(Completion(tuple(tokens), len(tokens) + (end is not None), end is None))
    return found


def test_left_padding_puts_every_prompt_at_the_end() -> None:
    ids, mask = left_pad([(5, 6, 7), (8,)], 9, torch.device("cpu"))
    assert ids.tolist() == [[5, 6, 7], [9, 9, 8]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1]]


def test_the_same_tokens_as_generate(shipped: Prepared, prompts: list[Prompt], stopping: Decoding) -> None:
    assert len({len(prompt.tokens) for prompt in prompts}) > 1
    found = generate(shipped.checkpoint.model, prompts, stopping)
    assert len({completion.steps for completion in found}) > 2, "sequences end at different steps"
    assert found == reference(shipped.checkpoint, prompts, stopping)


def test_a_batch_gives_what_its_sequences_give_alone(
    shipped: Prepared, prompts: list[Prompt], stopping: Decoding
) -> None:
    model = shipped.checkpoint.model
    short = replace(stopping, max_new_tokens=12)
    alone = [generate(model, [prompt], short)[0] for prompt in prompts]
    assert generate(model, prompts[::-1], short) == alone[::-1]


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_limit_is_kept_and_said(shipped: Prepared, prompts: list[Prompt], limit: int) -> None:
    found = generate(shipped.checkpoint.model, prompts, replace(shipped.decoding, max_new_tokens=limit))
    assert [(len(completion.tokens), completion.steps, completion.truncated) for completion in found] == [
        (limit, limit, True)
    ] * len(prompts)


def test_an_end_token_at_the_limit_is_an_end(shipped: Prepared, prompts: list[Prompt]) -> None:
    model, decoding = shipped.checkpoint.model, replace(shipped.decoding, max_new_tokens=3)
    (free,) = generate(model, prompts[:1], decoding)
    third = replace(decoding, stop=(free.tokens[2],))
    assert free.tokens[2] not in free.tokens[:2]
    assert generate(model, prompts[:1], third) == [Completion(free.tokens[:2], 3, False)]


def test_decoding_counts_on_the_tokens_of_the_checkpoint(tiny: Path) -> None:
    found = load_checkpoint(tiny)
    decoding = prepare(tiny, EvalSpec("arith", items=1, max_new_tokens=4)).decoding
    assert decoding.stop == (found.tokenizer.eos_token_id,)
    assert decoding.pad == found.tokenizer.pad_token_id
    assert decoding.max_new_tokens == 4
