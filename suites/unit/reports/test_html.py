"""HTML shows texts letter by letter, loads nothing, and says what the page says, in its order."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.reports.page import Figure, Heading, Lines, Page, Passage, Prose, Table, Texts, Verdict
from harness.reports.render.html import html
from suites.unit.conftest import Said

pytestmark = pytest.mark.unit

EVIL = """<script>alert(1)</script>&amp;"' onload=x <img src=http://a/b.png>\x1b[31m\u202e"""


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: Page) -> _Elements:
    reader = _Elements()
    reader.feed(html(page))
    return reader


def full(text: str) -> Page:
    return Page.of(
        text,
        Heading(text),
        Lines((text,)),
        Prose(text),
        Prose(text, strong=True),
        Table(text + "!", (text, "n"), ((text, "1"),), total=(text, "2"), legend=text),
        Texts((Passage(text, text, text, text),)),
        notes=(text,),
        verdict=Verdict(text, text, text),
    )


def test_no_text_becomes_an_element_or_steers() -> None:
    plain, evil = read(full("words")), read(full(EVIL))
    assert [tag for tag, _ in plain.elements] == [tag for tag, _ in evil.elements]
    assert not any(name.startswith("on") or name in ("src", "href") for _, attrs in evil.elements for name in attrs)
    shown = "".join(evil.text)
    assert "\x1b" not in shown and "\u202e" not in shown and shown.count("<script>alert(1)</script>") > 10
    assert "\\x1b[31m\\u202e" in shown


def test_nothing_is_loaded_and_a_phone_is_thought_of() -> None:
    text = html(full("words"))
    assert "default-src 'none'" in text and "width=device-width" in text and "overflow-x: auto" in text
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)


def test_the_parts_stand_in_their_order() -> None:
    figure = Figure("a curve", "<svg></svg>")
    page = Page.of("T", Heading("one"), Lines(("a", "b")), Heading("two", 3), figure, notes=("first",))
    found = [tag for tag, _ in read(page).elements if tag not in ("html", "head", "meta", "title", "style", "body")]
    assert found == ["h1", "div", "ul", "li", "h2", "ul", "li", "li", "h3", "figure", "svg", "figcaption"]


def test_a_verdict_is_said_in_words_and_numbers_are_flush_right() -> None:
    rows = (("5 %", "1,000", "-0.1 [-2.0, +1.5]", "a 1"),)
    reader = read(Page.of("T", Table("t", ("level", "n", "pp", "text"), rows), verdict=Verdict("FAIL", "Holm", "b")))
    assert "FAIL" in reader.text and any(attrs.get("class") == "verdict fail" for _, attrs in reader.elements)
    assert [attrs.get("class") for tag, attrs in reader.elements if tag == "td"] == ["n", "n", "n", None]


def test_a_part_that_is_unknown_is_an_error() -> None:
    with pytest.raises(TypeError, match="no HTML for str"):
        html(Page("T", ("words",)))  # type: ignore[arg-type]


def test_the_verb_writes_a_file(cli: Callable[..., Said], make_run: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {0.0: [[1]] * 20})
    file = tmp_path / "page.html"
    said = cli("report", run, "--html", file)
    assert said.code == 0 and said.out == f"report: {file}\n" and "Accuracy by noise level" in file.read_text()
    both = cli("report", run, "--html", file, "--format", "json")
    assert both.code == 2 and "a page is shown in one way" in both.err
    lost = cli("report", run, "--html", tmp_path / "no" / "page.html")
    assert lost.code == 2 and lost.err.count("\n") == 1
