"""Line charts: well-formed SVG, axes with round ticks, and nothing drawn that has no place."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.exceptions import HarnessError
from harness.reports.line_chart import Axis, Series, chart, write_chart

pytestmark = pytest.mark.unit


def test_ticks_are_round_and_lie_within_the_axis() -> None:
    assert Axis("x").ticks(0.0, 10.0) == pytest.approx([0, 2, 4, 6, 8, 10])
    assert Axis("x", log=True).ticks(-2.0, 0.0) == pytest.approx([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
    assert Axis("x", log=True).ticks(-6.0, -1.0) == pytest.approx([10.0**n for n in range(-6, 0)])


def test_a_logarithmic_axis_has_no_place_for_0() -> None:
    assert Axis("x").shows(0.0) and not Axis("x", log=True).shows(0.0)
    assert not Axis("x").shows(math.inf) and not Axis("x").shows(math.nan)
    with pytest.raises(ValueError, match="has no point"):
        chart("t", Axis("x"), Axis("y", log=True), [Series("a", ((1.0, 0.0),))])


def test_names_are_escaped_and_every_series_is_drawn() -> None:
    series = [
        Series("a & b", ((1.0, 2.0), (2.0, 3.0)), ((1.5, 2.5), (2.5, 3.5))),
        Series("fit <1>", ((1.0, 2.0), (2.0, 2.5)), dashed=True, colour=0),
    ]
    text = chart("dose & effect", Axis("sigma"), Axis("KL"), series)
    words = [element.text for element in ElementTree.fromstring(text).iter() if element.text]
    assert {"dose & effect", "a & b", "fit <1>", "sigma", "KL"} <= set(words)
    assert text.count("stroke-dasharray") >= 1


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    write_chart(tmp_path / "a.svg", "<svg/>")
    assert (tmp_path / "a.svg").read_text() == "<svg/>"
    with pytest.raises(HarnessError):
        write_chart(tmp_path / "a.svg" / "b.svg", "<svg/>")
