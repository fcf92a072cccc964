"""Names and values for several tasks, as a user writes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.spec.several import for_tasks, split_names

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]


@pytest.mark.parametrize(
    ("values", "tasks", "found"),
    [
        (("x",), ("a",), {"a": "x"}),
        (("a=x",), ("a",), {"a": "x"}),
        (("b=x",), ("a",), {"a": "b=x"}),
        (("b=x", "a=y=z"), ("a", "b"), {"b": "x", "a": "y=z"}),
        ((), ("a", "b"), {}),
    ],
)
def test_a_value_is_for_the_task_that_it_names(values: tuple, tasks: tuple, found: dict) -> None:
    assert for_tasks("--data", values, tasks) == found


@pytest.mark.parametrize(
    ("values", "words"), [(("x",), "write --data a=x"), (("c=x",), "which task"), (("a=x", "a=y"), "has x already")]
)
def test_a_value_without_a_task_is_refused(refusal: Refusal, values: tuple, words: str) -> None:
    assert words in refusal(for_tasks, "--data", values, ("a", "b"))


def test_names_are_split_at_commas(refusal: Refusal) -> None:
    assert split_names("--task", "a, b") == ("a", "b")
    assert "none is empty" in refusal(split_names, "--task", "a,,b")
    assert "named twice" in refusal(split_names, "--task", "a,b,a")
