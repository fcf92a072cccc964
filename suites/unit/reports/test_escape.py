"""What a model wrote is shown and does nothing: no element in Markdown, nothing that steers a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console

from harness.reports.page import Heading, Lines, Page, Part, Passage, Prose, Table, Texts, Verdict
from harness.reports.render.escape import fenced, inline, line
from harness.reports.render.markdown import markdown
from harness.reports.render.terminal import show, text_lines
from harness.text import one_line, visible

pytestmark = pytest.mark.unit

MARKUP = (
    *(
        "*x*",
        "**x**",
        "_x_",
        "__x__",
        "a_b_c",
        "~~x~~",
        "`x`",
        "``x`",
        "<b>x</b>",
        "<!-- x",
        "<script>x</script>",
        "<x",
    ),
    *(
        "[x](http://y)",
        "![x](y)",
        "[x]: /y",
        "[x][y]",
        "[^1]",
        "<http://y>",
        "http://y.de",
        "www.y.de",
        "a@b.de",
        "@bob",
    ),
    *(
        "# x",
        "x #",
        "#",
        "> x",
        "- x",
        "+ x",
        "-",
        "1. x",
        "1)",
        "---",
        "===",
        "***",
        "```",
        "~~~",
        "    x",
        "\tx",
        "- [ ] x",
    ),
    *(
        "|",
        "\\|",
        "\\",
        "a | b",
        "| --- |",
        "x\n---",
        "x\n\n# y",
        "a\n| b",
        "&lt;",
        "&#42;",
        "$x$",
        "$$",
        "\\(x\\)",
        "!",
        ":x:",
    ),
    *(
        "\x1b[31m",
        "\x1b]8;;http://y\x07x\x1b]8;;\x07",
        "\u202e",
        "\u2066",
        "\x00",
        "\r",
        "\x85",
        "\u2028",
        "\ud800",
        "\U000e0041",
    ),
)
WRITTEN = st.lists(st.one_of(st.sampled_from(MARKUP), st.text(max_size=6), st.characters()), max_size=6).map("".join)
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def shown(text: str) -> str:
    """The letters that are to be seen of ``text``, spaces and the joiner behind an at sign aside."""
    return "".join(one_line(text).split())


def read(tokens: Iterable[Token]) -> tuple[set[str], str]:
    """The kinds of all tokens, text and white space aside, and all that is seen."""
    kinds, seen = set(), []
    for token in tokens:
        for each in token.children or [token]:
            if each.type in ("text", "code_inline", "fence", "text_special", "html_inline", "html_block"):
                seen.append(each.content)
            kinds.add(each.type)
        kinds.add(token.type)
    return kinds - {"text", "inline"}, "".join("".join(seen).replace("@\u2060", "@").split())


def elements(document: str) -> tuple[set[str], str]:
    return read(PARSER.parse(document))


def block(kind: str) -> set[str]:
    return {f"{kind}_open", f"{kind}_close"}


CELLS = set().union(*map(block, ("table", "thead", "tbody", "tr", "th", "td")))


@settings(max_examples=60)
@given(WRITTEN)
def test_a_text_is_itself_on_a_line_in_a_list_and_in_a_cell(text: str) -> None:
    lines = elements(line(text))
    assert lines[0] <= block("paragraph") and lines[1] == shown(text)
    listed = elements(f"- {line(text)}\n- {line(text)}")
    assert listed[0] <= block("bullet_list") | block("list_item") | block("paragraph")
    assert listed[1] == 2 * shown(text)
    cells = elements("\n".join(["| a | b |", "| --- | --- |", f"| {inline(text)} | {inline(text)} |"]))
    assert cells == (CELLS, "ab" + 2 * shown(text))
    heading = elements(f"## {line(text)}")
    assert heading == (block("heading"), shown(text))


@settings(max_examples=40)
@given(WRITTEN)
def test_a_whole_page_has_the_elements_of_its_parts_alone(text: str) -> None:
    parts: tuple[Part, ...] = (
        *(Heading(f"h {text}"), Table.of(text, ("a", f"b{text}"), [(text, text)]), Lines((text, text)), Prose(text)),
        *(Prose(f"x{text}x", strong=True), Texts((Passage(text, text, text, text),))),
    )
    kinds, _ = elements(markdown(Page.of(text, *parts, notes=[text], verdict=Verdict("PASS", text, text))))
    allowed = (*("paragraph", "heading", "bullet_list", "list_item", "strong"),)
    assert kinds <= CELLS | {"fence"} | set().union(*map(block, allowed))


@settings(max_examples=40)
@given(WRITTEN, st.text("`\n x", max_size=12))
def test_a_fence_holds_the_whole_text(text: str, ticks: str) -> None:
    (token,) = PARSER.parse(fenced(text + ticks))
    assert (token.type, token.content) == ("fence", visible(text + ticks, "\n\t") + "\n")


@pytest.mark.parametrize("text", ["http://y.de", "see HTTPS://y", "ftp://y", "www.y.de", "a@b.de", "@bob", "x@bob"])
def test_bare_addresses_and_mentions_are_broken_up(text: str) -> None:
    """What GitHub links by itself: parsers of CommonMark alone do not."""
    written = line(text)
    assert not re.search(r"\w://|www\.|@\w", written)
    assert elements(written) == (block("paragraph"), text.replace(" ", ""))


def test_what_needs_no_escape_is_left_readable() -> None:
    for text in (
        "81.5 [77.1, 85.2]",
        "-6.0 [-9.1, +0.0]",
        "layers.0.up_proj",
        "< 0.01",
        "5 %: a, b (c)",
        "a@ b",
        "R&D",
    ):
        assert inline(text) == line(text) == text
    assert (line("> 99.99"), inline("> 99.99"), inline("layers.*.up")) == (r"\> 99.99", "> 99.99", r"layers.\*.up")


@settings(max_examples=40)
@given(WRITTEN)
def test_nothing_steers_a_terminal(text: str) -> None:
    parts: tuple[Part, ...] = (
        *(Table.of(text, ("a", f"b{text}"), [(text, text)]), Lines((text,)), Prose(text, strong=True)),
        Texts((Passage(text, text, text, text),)),
    )
    page = Page.of(text, *parts, notes=[text], verdict=Verdict("PASS", text))
    for width in (60, 100):
        file = io.StringIO()
        show(page, Console(file=file, width=width, force_terminal=True, color_system=None))
        assert visible(file.getvalue(), "\n") == file.getvalue()
        assert text_lines(page, width)[-1].startswith("verdict: PASS")


def test_no_text_forges_a_verdict() -> None:
    """A line of its own is ours alone."""
    forged = "x\nverdict: PASS  (one level)"
    page = Page.of("t", Lines((forged,)), Table.of("t", ("a",), [(forged,)]), Texts((Passage("clean", forged),)))
    for width in (60, 100):
        assert not any(found.startswith("verdict") for found in text_lines(page, width))


def test_what_steers_is_seen() -> None:
    assert visible("a\x1b[31mb\r\n\tc\x00\u202e", "\n\t") == "a\\x1b[31mb\\r\n\tc\\x00\\u202e"
    assert visible("Größe ≤ 5, 👩\u200d🔬") == "Größe ≤ 5, 👩\u200d🔬"
    assert one_line("a\nb\tc\rd") == "a b c\\rd"


@pytest.mark.parametrize(
    "text", ["`" * 10**6, "*" * 10**5, "a_" * 10**5, "[](" * 10**5, "\u202e" * 10**5, "&x" * 10**5]
)
def test_a_huge_text_is_escaped_in_one_pass(text: str) -> None:
    assert len(fenced(text)) > len(text) and len(inline(text[: 10**5])) >= 10**5


def test_a_terminal_shows_what_lies_around_the_mark_of_a_huge_text() -> None:
    texts = Texts((Passage("clean", "a" * 10**6 + "here", "x", "there" + "b" * 10**6),))
    shown = "\n".join(text_lines(Page.of("t", texts), 60))
    assert "here>>x<<there" in shown.replace("\n", "").replace(" ", "") and len(shown) < 25_000
    assert shown.count("[990,00") == 2
