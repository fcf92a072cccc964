"""From the values of a scorer to the scored part of a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from harness.exceptions import HarnessError
from harness.record import RIGHT, TRUNCATED, UNPARSED, WRONG
from harness.scorers import Asked, Judged, Scorer, Scores, judged

pytestmark = pytest.mark.unit
ITEM = Asked("i0", "Which letter?")


@dataclass(frozen=True)
class Fixed(Scorer):
    """Gives what it is told to."""

    values: Mapping[str, Any]
    read: Any = "b"
    name: str = "fixed"
    primary: str = "letter"

    def score(self, text: str, reference: str, item: Asked) -> Scores:
        assert item == ITEM
        return Scores(self.values, self.read)


@pytest.mark.parametrize(
    ("value", "truncated", "expected"),
    [
        (1, False, (1.0, RIGHT, "b")),
        (0.0, False, (0.0, WRONG, "b")),
        (None, False, (None, UNPARSED, None)),
        (True, True, (None, TRUNCATED, None)),
    ],
)
def test_the_primary_value_decides(value: Any, truncated: bool, expected: tuple[Any, ...]) -> None:
    values = {"shared": 0.25, "letter": value}
    number = None if value is None else float(value)
    assert judged(Fixed(values), "b", "b", ITEM, truncated) == Judged(*expected, {"shared": 0.25, "letter": number})


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"values": {"words": 1.0}}, "no value 'letter', its primary one"),
        ({"values": {"letter": 0.5}}, "letter = 0.5; right is 1, wrong is 0"),
        ({"values": {"letter": 1.0, "words": 7}}, r"words = 7.0; a value is a fraction in \[0, 1\] or None"),
        ({"values": {"letter": 1.0, "words": float("nan")}}, "words = nan"),
        ({"values": {"letter": 1.0}, "read": 5}, "the answer 5; it is text or None"),
        ({"values": {"letter": "b"}}, "ValueError"),
        ({"values": None}, "AttributeError"),
    ],
)
def test_values_that_break_a_rule_are_refused_in_one_line(given: dict[str, Any], why: str) -> None:
    with pytest.raises(HarnessError, match=f"scorer 'fixed' on item i0; it gave .*{why}") as caught:
        judged(Fixed(**given), "b", "b", ITEM, False)
    assert "\n" not in str(caught.value)
