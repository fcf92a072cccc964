"""Entry points of other distributions: found by name, refused in one line."""

from __future__ import annotations

import sys
from importlib import metadata
from types import ModuleType

import pytest

from harness import extensions
from harness.exceptions import HarnessError

pytestmark = pytest.mark.unit
GROUP = "robustness_harness.tests"


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch):
    """Declares entry points: ``point(name="module:attribute")``."""

    def declare(**points: str) -> None:
        found = [metadata.EntryPoint(name, value, GROUP) for name, value in points.items()]

        def chosen(group: str, name: str | None = None) -> list[metadata.EntryPoint]:
            return [each for each in found if group == GROUP and name in (None, each.name)]

        monkeypatch.setattr(extensions.metadata, "entry_points", chosen)

    module = ModuleType("their_module")
    module.thing, module.nothing = object(), None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_module", module)
    return declare


def test_what_is_declared_is_found_and_loaded(point) -> None:
    point(b="their_module:thing", a="their_module:nothing")
    assert extensions.names(GROUP) == ("a", "b")
    assert extensions.load(GROUP, "thing", "b", ()) is sys.modules["their_module"].thing
    assert extensions.load(GROUP, "thing", "c", ()) is None
    assert extensions.origin_of(GROUP, "b") == "an unknown distribution" and extensions.origin_of(GROUP, "c") == ""


@pytest.mark.parametrize(
    ("value", "own", "words"),
    [
        ("their_module:thing", ("x",), "the harness has one of this name"),
        ("their_module:missing", (), "it cannot be used (AttributeError"),
        ("no_such_module:thing", (), "it cannot be used (ModuleNotFoundError"),
        ("their_module:nothing", (), "it cannot be used (it is None)"),
    ],
)
def test_what_cannot_be_used_is_one_line(point, value: str, own: tuple[str, ...], words: str) -> None:
    point(x=value)
    with pytest.raises(HarnessError) as caught:
        extensions.load(GROUP, "thing", "x", own)
    assert words in str(caught.value) and "\n" not in str(caught.value)
