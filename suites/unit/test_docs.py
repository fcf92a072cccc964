"""The pages of ``docs``: each is listed once in the index by kind, and no link leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
INDEX = (DOCS / "README.md").read_text(encoding="utf-8")
KINDS = ("Tutorial", "How to", "Reference", "Explanation")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
PROMISED = (
    *("evidence", "statistics", "engines", "checkpoints", "scan", "compare", "claims", "measured", "formats"),
    *("decisions", "noise-reference", "aqn"),
)
"""Pages that must exist, whatever is moved."""


def test_the_index_has_every_page_once_under_its_kind() -> None:
    assert re.findall(r"^## (.+)$", INDEX, re.M) == list(KINDS)
    _, *sections = re.split(r"^## .+$", INDEX, flags=re.M)
    listed = [name for section in sections for name in LINK.findall(section)]
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md") if page.name != "README.md")
    assert {f"{name}.md" for name in PROMISED} <= set(listed)


@pytest.mark.parametrize(
    "page", sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]), ids=lambda page: page.name
)
def test_no_link_leads_nowhere(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_a_page_has_one_title(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    assert text.startswith("# ") and len(re.findall(r"^# ", text, re.M)) == 1
