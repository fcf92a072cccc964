"""The byte-level tokenizer reads back every text."""

from __future__ import annotations

import pytest

from harness.testing import build_tokenizer

pytestmark = pytest.mark.unit


def test_every_byte_is_a_token_and_comes_back() -> None:
    tokenizer = build_tokenizer(64)
    assert len(tokenizer) == 260
    for text in ("2 + 2 = 4\n#### 4", "äöü €"):
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text.encode()) and tokenizer.decode(ids) == text


def test_the_template_marks_the_speakers() -> None:
    text = build_tokenizer(64).apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
