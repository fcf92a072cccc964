"""Arms as they are written on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.exceptions import HarnessError
from harness.runs.named import parse_arms

pytestmark = pytest.mark.unit
EXAMPLE = "--arm a=RUN"


def test_names_and_folders_are_read() -> None:
    assert parse_arms(["a=x, y", " b =z"], EXAMPLE) == {"a": (Path("x"), Path("y")), "b": (Path("z"),)}
    assert parse_arms([], EXAMPLE) == {}


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a"], "an arm is a name and its run folders, NAME=RUN,RUN; write --arm a=RUN"),
        (["=x"], "an arm is a name"),
        (["a= ,"], "an arm is a name"),
        (["a=x,,y"], "an arm is a name"),
        (["a=x,./x"], "run x is named twice"),
        (["a=x", "a=y"], "--arm a; the arm is given twice"),
    ],
)
def test_what_is_written_otherwise_is_refused(texts: list[str], words: str) -> None:
    with pytest.raises(HarnessError) as caught:
        parse_arms(texts, EXAMPLE)
    assert words in str(caught.value).replace("run ./x", "run x")
