"""One draw of a run, named by the beginning of an item's hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import HarnessError
from harness.runs.draw import find_draw
from harness.runs.loaded import Run, load_run

pytestmark = pytest.mark.unit


@pytest.fixture
def run(tmp_path: Path, make_run: Any) -> Run:
    return load_run(make_run(tmp_path / "run", {0.0: [[1], [0]], 0.05: [[1, 0], [0, 0]]}))


def test_a_unique_beginning_is_enough(run: Run) -> None:
    draw = find_draw(run, "i1", 0.05, 1)
    assert (draw.item, draw.level, draw.seed) == ("i1", 0.05, 1)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (("i", 0.0, 0), "it means i0, i1; give more of the hash"),
        (("x", 0.0, 0), "no item of the run begins so"),
        (("i0", 0.1, 0), "the run has the levels 0, 0.05"),
        (("i0", 0.05, 2), "at level 0.05 the run has the seeds 0, 1"),
        (("i0", 0.0, 1), "at level 0 the run has the seeds 0"),
    ],
)
def test_what_the_run_has_instead_is_named(run: Run, wanted: tuple[str, float, int], words: str) -> None:
    with pytest.raises(HarnessError) as caught:
        find_draw(run, *wanted)
    assert words in str(caught.value)
