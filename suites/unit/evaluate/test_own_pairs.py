"""The repository's own minimal pairs are sound: each one a pair, no sentence twice, eight of every kind."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.evaluate.tasks import load_task
from harness.scorers.likelihood import choices_of

pytestmark = pytest.mark.unit
PAIRS = Path(__file__).resolve().parents[3] / "fixtures" / "pairs" / "pairs.jsonl"


def test_they_are_read_as_pairs_of_eight_kinds() -> None:
    items = load_task("blimp", PAIRS).items()
    assert list(Counter(item.cluster for item in items).values()) == [8] * 8
    sentences = [sentence for item in items for sentence in choices_of(item.reference)[0]]
    assert len(set(sentences)) == 2 * len(items) == 128
    assert all(sentence[0].isupper() and sentence[-1] in ".?" and sentence.isascii() for sentence in sentences)
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    assert all(set(row) == {"UID", "sentence_good", "sentence_bad"} for row in rows)
