"""A dataclass made of a table by its annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from harness.exceptions import HarnessError
from harness.strict import WRITTEN, Table, fill, to_plain

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class Part:
    size: int
    name: str = "p"


@dataclass(frozen=True)
class Whole:
    rate: float
    part: Part
    kind: Literal["red", "blue"] = "red"
    on: bool = False
    limit: int | None = None
    steps: tuple[int, ...] = ()
    parts: tuple[Part, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    config: Mapping[str, str | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rate > 1:
            raise HarnessError(f"rate {self.rate}", "it is a fraction", "give one")


def read(**data: Any) -> Whole:
    return fill(Whole, {"rate": 0.5, "part": {"size": 1}} | data, "recipe r.toml")


def test_all_kinds_are_read() -> None:
    assert read(rate=1) == Whole(1.0, Part(1)) and type(read(rate=1).rate) is float
    found = read(
        kind="blue",
        on=True,
        limit=3,
        steps=[1, 2],
        parts=[{"size": 2, "name": "q"}],
        shares={"a": 1},
        config={"a": 1, "b": "x", "c": True},
    )
    assert found.steps == (1, 2) and found.parts == (Part(2, "q"),) and found.shares == {"a": 1.0}
    assert (found.kind, found.on, found.limit) == ("blue", True, 3)
    assert found.config == {"a": 1.0, "b": "x", "c": True}
    assert read(limit=None).limit is None, "what JSON calls null"
    assert fill(Part, Table({"size": 3}, "x")) == Part(3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"rte": 1}, "recipe r.toml: unknown key 'rte'; nothing reads it; did you mean 'rate'?"),
        ({"part": {}}, "recipe r.toml, [part]: no size; it is needed"),
        ({"part": {"sizee": 1}}, "recipe r.toml, [part]: unknown key 'sizee'; nothing reads it; did you mean 'size'?"),
        ({"part": 3}, "recipe r.toml, [part]: 3; it must be a table"),
        ({"part": {"size": 1.5}}, "[part]: size = 1.5; it must be a whole number"),
        ({"parts": [{"size": 1}, {"size": "x"}]}, "[parts[1]]: size = 'x'"),
        ({"rate": "x"}, "rate = 'x'; it must be a finite number"),
        ({"rate": 2}, "recipe r.toml: rate 2.0; it is a fraction; give one"),
        ({"kind": "blu"}, "did you mean 'blue'?"),
        ({"on": "yes"}, "on = 'yes'; it must be true or false"),
        ({"limit": "x"}, "limit = 'x'; it must be a whole number"),
        ({"steps": 3}, "steps = 3; it must be a list"),
        ({"steps": [1, True]}, "steps[1] = True; it must be a whole number"),
        ({"shares": {"a": "x"}}, "[shares]: a = 'x'; it must be a finite number"),
        ({"config": {"a": [1]}}, "[config]: a = [1]; it must be a text or a finite number or true or false"),
        ({"config": {"a": float("inf")}}, "[config]: a = inf"),
    ],
)
def test_what_does_not_fit_is_one_line(data: dict[str, Any], words: str) -> None:
    with pytest.raises(HarnessError) as caught:
        read(**data)
    assert words in str(caught.value)
    assert str(caught.value).startswith("recipe r.toml")


def test_a_misspelt_key_is_told_before_what_is_missing_for_it() -> None:
    with pytest.raises(HarnessError, match="unknown key 'szie'; nothing reads it; did you mean 'size'"):
        fill(Part, {"szie": 1}, "x")
    with pytest.raises(HarnessError, match="x: no size; it is needed"):
        fill(Part, {}, "x")


@dataclass(frozen=True)
class Noted:
    name: str
    rate: float
    note: str | None = None
    kept: str | None = field(default=None, metadata=WRITTEN)


def test_a_stored_table_is_taken_as_it_stands_and_comes_back() -> None:
    """A whole number stays one: the checksum of a file is over its text."""
    data = {"name": "", "rate": 1, "kept": None}
    found = fill(Noted, Table(data, "x", stored=True))
    assert found == Noted("", 1) and type(found.rate) is int and to_plain(found) == data
    with pytest.raises(HarnessError, match="name = ''; it must be a text that is not empty"):
        fill(Noted, data, "x")


@pytest.mark.parametrize(("key", "value"), [("name", 1), ("name", None), ("rate", True), ("rate", "1"), ("note", 2)])
def test_a_stored_table_is_held_to_its_types(key: str, value: Any) -> None:
    with pytest.raises(HarnessError, match=rf"{key} = {value!r}; it must be a (text|number)"):
        fill(Noted, Table({"name": "a", "rate": 1.0} | {key: value}, "x", stored=True))


def test_the_dataclass_of_a_table_becomes_that_table_again() -> None:
    data = {"rate": 0.5, "part": {"size": 1, "name": "q"}, "kind": "blue", "on": True, "steps": [1, 2]}
    whole = fill(Whole, data)
    assert to_plain(whole) == data | {"parts": [], "shares": {}, "config": {}}
    assert fill(Whole, to_plain(whole)) == whole
