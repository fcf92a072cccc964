"""The pages that can be built from what is stored, by name: one file and one row each, also from other distributions.

A page is a function from the path of a run, a scan, a baseline, ... to a :class:`harness.reports.page.Page`. Another
distribution adds one by an entry point of the group ``robustness_harness.pages``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

from harness import extensions
from harness.exceptions import HarnessError
from harness.reports.page import Page
from harness.runs.several import is_tasks
from harness.text import brief, nearest

GROUP = "robustness_harness.pages"
PAGES = {
    "baseline": "harness.reports.baseline_page:stored_page",
    "ledger": "harness.reports.run_report:ledger_page",
    "run": "harness.reports.run_report:stored_page",
    "scan": "harness.reports.scan_page:stored_page",
    "tasks": "harness.reports.tasks_page:stored_page",
}
"""Name -> where its function is; loaded when it is asked for."""
SCAN_FILE = "scan.json"


def page_names() -> tuple[str, ...]:
    """Return the names of all pages, those of other distributions last."""
    return tuple(dict.fromkeys((*PAGES, *extensions.names(GROUP))))


def usual_page(path: Path) -> str:
    """Return the name of the page that shows what is stored at ``path`` best."""
    if (path / SCAN_FILE).is_file() or path.name == SCAN_FILE:
        return "scan"
    if is_tasks(path):
        return "tasks"
    return "baseline" if path.is_file() else "run"


def build_page(name: str, path: Path) -> Page:
    """Return the page ``name`` of what is stored at ``path``.

    Raises :class:`harness.exceptions.HarnessError` for an unknown name, for what cannot be read, and for a page of
    another distribution that fails or gives something else.
    """
    outside = extensions.load(GROUP, "page", name, PAGES)
    if outside is None:
        if name not in PAGES:
            raise HarnessError(f"page {name!r}", "there is none of this name", nearest(name, page_names()))
        module, _, function = PAGES[name].partition(":")
        build = cast(Callable[[Path], Page], getattr(importlib.import_module(module), function))
        return build(path)
    where = extensions.origin_of(GROUP, name)
    try:
        found = outside(path)
    except HarnessError:
        raise
    except Exception as error:  # the code of others raises anything
        raise extensions.broken("page", name, where, brief(error)) from error
    if not isinstance(found, Page):
        raise extensions.broken("page", name, where, f"it gave {type(found).__name__}, no harness.reports.page.Page")
    return found
