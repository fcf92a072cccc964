"""The bound on counts of two libraries: an element apart is none, a token row without noise is one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.record import SiteCount
from suites.agreeing import apart

pytestmark = pytest.mark.unit
COLUMNS, ROWS = 64, 10_000
SITE = SiteCount("layers.0.up", "linear", 0.05, rows=ROWS, elements=ROWS * COLUMNS, changed=int(0.997 * ROWS * COLUMNS))


def test_an_element_that_cancels_in_one_library_is_no_difference():
    assert apart([SITE], [replace(SITE, changed=SITE.changed - 1)]) == []
    halves = [
        replace(SITE, rows=ROWS // 2, elements=SITE.elements // 2, changed=c, process=p)
        for c, p in ((9, "a"), (SITE.changed - 9, "b"))
    ]
    assert apart(halves, [SITE]) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"changed": SITE.changed - COLUMNS}, "changed"),
        ({"changed": SITE.changed + COLUMNS}, "changed"),
        ({"rows": ROWS - 1}, "rows"),
        ({"elements": SITE.elements + 1}, "elements"),
        ({"site": "layers.1.up"}, "only in one"),
        ({"op": "linear:weight"}, "only in one"),
        ({"level": 0.1}, "only in one"),
        ({"direction": "backward"}, "only in one"),
    ],
)
def test_what_is_more_is_named(change, words):
    found = apart([replace(SITE, **change)], [SITE])
    assert found and all(words in each for each in found)


def test_where_the_effect_depends_on_the_data_only_what_ran_is_compared():
    assert apart([replace(SITE, changed=0)], [SITE], changed=False) == []
    assert apart([replace(SITE, rows=1)], [SITE], changed=False)
