"""The registry of pages: those of the package, and one that another distribution brings."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import HarnessError
from harness.reports.page import Page, Table
from harness.reports.pages import GROUP, PAGES, build_page, page_names, usual_page
from suites.distributions import write_distribution

pytestmark = pytest.mark.unit
DOCS = (Path(__file__).resolve().parents[3] / "docs" / "report-pages.md").read_text(encoding="utf-8")
EXAMPLE, PROJECT = (re.findall(rf"```{kind}\n(.*?)```", DOCS, re.DOTALL)[0] for kind in ("python", "toml"))
ROWS = {0.0: [[1]] * 20, 0.05: [[1, 1]] * 18 + [[0, 1]] * 2}
Install = Callable[[str, str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with one entry point, and a module with ``code``, where Python finds them."""

    def put(name: str, target: str, code: str) -> None:
        points, module = {GROUP: {name: target}}, target.partition(":")[0]
        folder = write_distribution(tmp_path / module, f"of_{name}", points, **{module: code})
        monkeypatch.syspath_prepend(str(folder))

    return put


@pytest.fixture
def run(tmp_path: Path, make_run: Any) -> Path:
    return Path(make_run(tmp_path / "run", ROWS))


def test_the_example_of_the_docs_is_a_page(install: Install, run: Path, cli: Any) -> None:
    assert f'[project.entry-points."{GROUP}"]\nlost = "lost_items:lost"' in PROJECT
    install("lost", "lost_items:lost", EXAMPLE)
    assert page_names() == (*PAGES, "lost")
    (table,) = build_page("lost", run).parts
    assert isinstance(table, Table) and [row[:2] for row in table.rows] == [("5 %", "0")] * 2
    said = cli("report", run, "--page", "lost", "--format", "markdown")
    assert (said.code, said.out.count("| 5 % | 0 |")) == (0, 2)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("one", "def page(path): return path", "page 'one' of of_one 1.0; it cannot be used (it gave"),
        ("two", "def page(path): return 1 / 0", "it cannot be used (ZeroDivisionError: division by zero)"),
        ("run", "def page(path): pass", "the harness has one of this name"),
    ],
)
def test_a_page_that_is_none_is_told_with_its_distribution(
    install: Install, tmp_path: Path, refusal: Callable[..., str], name: str, code: str, words: str
) -> None:
    install(name, f"outside_{name}:page", code)
    assert words in refusal(build_page, name, tmp_path, kind=HarnessError)


def test_an_unknown_page_is_told_with_the_nearest(tmp_path: Path, refusal: Callable[..., str]) -> None:
    assert "did you mean 'ledger'?" in refusal(build_page, "leger", tmp_path, kind=HarnessError)


def test_every_page_of_the_package_is_a_function_that_says_what_it_cannot_read(
    tmp_path: Path, refusal: Callable[..., str]
) -> None:
    for name in PAGES:
        assert str(tmp_path / "none") in refusal(build_page, name, tmp_path / "none", kind=HarnessError)


def test_the_usual_page_is_known_by_what_is_there(run: Path, tmp_path: Path) -> None:
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "scan.json").write_text("{}")
    (tmp_path / "b.json.gz").write_text("")
    paths = (run, tmp_path / "scan", tmp_path / "scan" / "scan.json", tmp_path / "b.json.gz")
    assert [usual_page(path) for path in paths] == ["run", "scan", "scan", "baseline"]


@pytest.mark.parametrize("name", ["run", "ledger"])
def test_a_run_is_computed_again(run: Path, name: str) -> None:
    page = build_page(name, run)
    assert isinstance(page, Page) and any(isinstance(part, Table) for part in page.brief)


def test_the_verb_refuses_what_is_no_run(cli: Any, tmp_path: Path) -> None:
    said = cli("report", tmp_path)
    assert said.code == 2 and str(tmp_path) in said.err
