"""What reports say of weights that were quantized before."""

from __future__ import annotations

import pytest

from harness.runs.dequantized import FIELD, dequantized_sentence

pytestmark = pytest.mark.unit
WAS = {"format": "GGUF Q4_1", "file": "m.gguf"}


def test_what_is_said_follows_from_the_manifest() -> None:
    assert dequantized_sentence({"path": "x"}) is None
    same = dequantized_sentence({FIELD: WAS | {"unchanged": True}})
    assert same == dequantized_sentence({FIELD: WAS})  # a scan does not compare
    assert same == "its weights are dequantized GGUF Q4_1 values (m.gguf), not those that it was trained to"
    changed = dequantized_sentence({FIELD: WAS | {"unchanged": False}})
    assert changed is not None and changed.endswith("(m.gguf) and changed since")
