"""One page in every rendering: order, notes, details, verdict, and no line wider than the terminal."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from rich.console import Console

from harness.reports.page import Figure, Heading, Lines, Page, Passage, Prose, Table, Texts, Verdict
from harness.reports.render.json import page_json
from harness.reports.render.markdown import markdown
from harness.reports.render.terminal import show, text_lines

pytestmark = pytest.mark.unit

LONG = "this sentence has so many words that no terminal of eighty columns can hold it on a single line of its own"
PAGE = Page.of(
    "A page",
    Heading("First"),
    Table.of("First", ("name", "value"), [("a|b", "1"), ("c", "2")]),
    Lines.of(["one", LONG]),
    Heading("Second", 3),
    Prose("must be seen", strong=True),
    Table("Sums", ("name", "value"), (("a", "1"),), ("all", "1")),
    Texts((Passage("clean", "four"), Passage("noisy", "f", "i", "ve ```"))),
    Prose("only in documents", detail=True),
    Figure("a curve", "<svg/>"),
    notes=["note one"],
    verdict=Verdict("FAIL", "one level", "base"),
)


def test_markdown_has_everything_once_and_in_order() -> None:
    text = markdown(PAGE)
    blocks = [
        "# A page",
        "- note one",
        "**FAIL** against base (one level)",
        "## First",
        "| name | value |\n| --- | --- |",
    ]
    blocks += ["| a\\|b | 1 |", f"- one\n- {LONG}", "### Second", "**must be seen**", "Sums:", "| all | 1 |"]
    blocks += ["```text\nfour\n```", "````text\nf>>i<<ve ```\n````", "only in documents", "a curve"]
    places = [text.index(block) for block in blocks]
    assert places == sorted(places) and text.count("First") == 1, "a table does not repeat the heading above it"
    assert text.endswith("\n") and "\n\n\n" not in text


def test_a_terminal_shows_no_details_and_the_verdict_last() -> None:
    lines = text_lines(PAGE, 80)
    assert lines[0] == "note one" and lines[-1] == "verdict: FAIL  (one level)"
    assert "only in documents" not in "\n".join(lines) and "" in lines
    assert not any(letter in "".join(lines) for letter in "│┃━") or ">>i<<" in "".join(lines)
    assert "name  value" in "\n".join(lines)


@pytest.mark.parametrize("width", [40, 80])
def test_a_terminal_folds_at_words_and_a_pipe_gets_whole_lines(width: int) -> None:
    file = io.StringIO()
    show(PAGE, Console(file=file, width=width, force_terminal=True, color_system=None))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert LONG not in lines and LONG.split() == " ".join(_between(lines, "one", "must be seen")).split()
    assert LONG in text_lines(PAGE, width)


def _between(lines: list[str], first: str, last: str) -> list[str]:
    found = [line.strip() for line in lines]
    return found[found.index(first) + 1 : found.index(last)]


def test_json_names_the_kind_of_every_part() -> None:
    found: dict[str, Any] = json.loads(json.dumps(page_json(PAGE), allow_nan=False))
    assert [part["kind"] for part in found["parts"]][:4] == ["heading", "table", "lines", "heading"]
    assert found["parts"][1]["rows"] == [["a|b", "1"], ["c", "2"]] and found["verdict"]["word"] == "FAIL"
    assert (found["title"], found["notes"]) == ("A page", ["note one"])


def test_an_empty_list_is_left_out() -> None:
    assert Page.of("t", Lines(()), Prose("x")).parts == (Prose("x"),)


def test_the_texts_beside_a_mark_are_not_dimmed_with_what_is_left_out() -> None:
    long = "x" * 10_001
    for before, dim in (("plain", ""), (long, "[1 characters]")):
        console = Console(width=100, file=io.StringIO(), record=True, color_system="truecolor", force_terminal=True)
        show(Page.of("", Texts((Passage("clean", before, "2", " after"), Passage("noisy", before, "3", "")))), console)
        styled = console.export_text(styles=True)
        dimmed = re.findall(r"\x1b\[2m([^\x1b]*)", styled)
        assert "".join(dimmed).strip().startswith(dim) if dim else not dimmed
        assert "\x1b[1;7m>>2<<" in styled


def test_a_verdict_has_its_own_colour_and_no_other() -> None:
    console = Console(width=60, file=io.StringIO(), record=True, color_system="truecolor", force_terminal=True)
    show(Page.of("", verdict=Verdict("PASS", "alpha 0.05 one-sided, for each of the many levels of a gate")), console)
    styled = console.export_text(styles=True)
    assert re.findall(r"\x1b\[([0-9;]+)m", styled) == ["1;32", "0"]
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", styled).splitlines())) <= 60
