"""The strict table: every kind of value, its range, its place in the message, and what nobody took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.exceptions import CheckpointError, HarnessError
from harness.strict import Table, unknown_key

pytestmark = pytest.mark.unit


def refusal(read: Callable[[], Any], failure: type[HarnessError] = HarnessError) -> str:
    with pytest.raises(failure) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_kind_of_value_is_read() -> None:
    table = Table(
        {"a": "x", "b": 3, "c": 0.5, "d": True, "e": ["p", "q"], "f": {"n": "m"}, "g": [{"h": 1}], "i": {"j": 1.5}},
        "file t",
    )
    assert (table.text("a"), table.whole("b"), table.number("c", 0, 1), table.flag("d")) == ("x", 3, 0.5, True)
    assert table.texts("e") == ("p", "q")
    assert table.mapping("f", ["n", "o"]) == {"n": "m"}
    assert [each.whole("h") for each in table.tables("g")] == [1]
    assert table.settings("i") == {"j": 1.5}
    assert "z" not in table
    assert (table.text("z", ""), table.whole("z", default=4), table.number("z", default=2), table.flag("z", False)) == (
        *("", 4, 2.0),
        False,
    )
    table.done()


WRONG: dict[str, tuple[Any, Callable[[Table], Any], str]] = {
    "text": (3, lambda t: t.text("k"), "k = 3; it must be a text that is not empty; correct it"),
    "empty": (" ", lambda t: t.text("k"), "k = ' '; it must be a text that is not empty"),
    "choice": ("rde", lambda t: t.choice("k", ["red", "blue"]), "it is one of red, blue; did you mean 'red'?"),
    "number": ("1", lambda t: t.number("k"), "k = '1'; it must be a finite number"),
    "truth as number": (True, lambda t: t.number("k"), "k = True; it must be a finite number"),
    "nan": (float("nan"), lambda t: t.number("k"), "k = nan; it must be a finite number"),
    "beyond every float": (10**400, lambda t: t.number("k"), "it must be a finite number"),
    "range": (2, lambda t: t.number("k", 0, 1), "k = 2; it must lie between 0 and 1"),
    "least": (-1, lambda t: t.number("k", 0), "k = -1; it must be at least 0"),
    "most": (2, lambda t: t.number("k", high=1), "k = 2; it must be at most 1"),
    "whole": (1.0, lambda t: t.whole("k"), "k = 1.0; it must be a whole number of at least 0"),
    "truth as whole": (True, lambda t: t.whole("k"), "k = True; it must be a whole number"),
    "whole range": (9, lambda t: t.whole("k", 1, 8), "k = 9; it must be a whole number of at least 1 and at most 8"),
    "too large": (
        2**63,
        lambda t: t.whole("k"),
        "it must be a whole number of at least 0 and at most 9223372036854775807",
    ),
    "flag": (1, lambda t: t.flag("k"), "k = 1; it must be true or false"),
    "texts": ("x", lambda t: t.texts("k"), "k = 'x'; it must be a list of texts"),
    "no texts": ([], lambda t: t.texts("k"), "no k; at least one is needed"),
    "text twice": (["x", "x"], lambda t: t.texts("k"), "an entry is given twice"),
    "table": (3, lambda t: t.table("k"), "file t, [k]: 3; it must be a table"),
    "tables": ({}, lambda t: t.tables("k"), "k; it must be a list of tables, [[k]]"),
    "one of the tables": ([{}, 3], lambda t: t.tables("k"), "file t, k 2: 3; it must be a table"),
    "mapping": (
        {"nme": "x"},
        lambda t: t.mapping("k", ["name"]),
        "[k]: unknown key 'nme'; nothing reads it; did you mean 'name'?",
    ),
    "mapping's value": ({"name": 3}, lambda t: t.mapping("k", ["name"]), "[k]: name = 3; it must be a text"),
    "settings": ({"x": [1]}, lambda t: t.settings("k"), "[k]: x = [1]; it must be a text, a finite number, true"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_wrong_is_named_with_its_place(name: str) -> None:
    value, read, words = WRONG[name]
    found = refusal(lambda: read(Table({"k": value}, "file t")))
    assert words in found
    assert found.startswith("file t")


def test_what_is_missing_is_named() -> None:
    for read in (Table.text, Table.number, Table.whole, Table.flag):
        assert refusal(lambda read=read: read(Table({}, "file t"), "k")) == "file t: no k; it is needed; correct it"


def test_nested_tables_name_the_whole_path() -> None:
    inner = Table({"a": {"b": {"c": 1}}}, "file t", "write it anew", CheckpointError).table("a").table("b")
    assert refusal(lambda: inner.text("c"), CheckpointError).startswith("file t, [a.b]: c = 1; it must be a text")
    assert str(inner.fail("x", "y")) == "file t, [a.b]: x; y; write it anew"


def test_what_nobody_took_is_refused_with_the_nearest_name_or_all() -> None:
    table = Table({"margn": 1, "b": 2}, "file t")
    assert "margin" not in table
    table.take("b")
    assert refusal(table.done) == "file t: unknown key 'margn'; nothing reads it; did you mean 'margin'?"
    assert str(unknown_key("", "zzz", ["margin", "b"])) == "unknown key 'zzz'; nothing reads it; known: margin, b"
    rest = Table({"x": 1}, "")
    assert rest.rest() == {"x": 1}
    rest.done()


def test_a_long_value_is_shortened() -> None:
    assert len(refusal(lambda: Table({"k": "x" * 1000}, "file t").number("k"))) < 140
