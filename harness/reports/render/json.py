"""JSON: the page as it is, for programs that show it themselves."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.reports.page import Page


def page_json(page: Page) -> dict[str, Any]:
    """Return ``page`` as JSON types; every part names its kind (``table``, ``lines``, ...)."""
    return {
        "title": page.title,
        "notes": list(page.notes),
        "verdict": None if page.verdict is None else asdict(page.verdict),
        "parts": [{"kind": type(part).__name__.lower(), **_plain(asdict(part))} for part in page.parts],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value
