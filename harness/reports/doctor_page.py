"""The page of what works in this environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.reports.page import Lines, Page, Table

HEADER = ("part", "state", "needed", "detail")
ABILITIES_HEADER = ("what", "name", "here", "why not")


def doctor_page(diagnosis: Mapping[str, Any]) -> Page:
    """Return the page of :meth:`harness.doctor.examining.Diagnosis.to_json`: parts, abilities, the one repair."""
    found = [
        (each["part"], each["state"], "yes" if each["needed"] else "no", each["detail"])
        for each in diagnosis["findings"]
    ]
    able = [
        (each["kind"], each["name"], "runs" if each["runs"] else "no", each["why"]) for each in diagnosis["abilities"]
    ]
    lines, repair = [], diagnosis["repair"]
    if repair is not None:
        lines.append(f"{'to add what is missing' if repair['adds'] else 'to repair it'}: {repair['command']}")
    lacking = diagnosis["lacking"]
    lines.append(f"needed and not working: {', '.join(lacking)}" if lacking else "everything that is needed works")
    return Page.of(
        "What works here",
        Table.of("What works here", HEADER, found, spare=("needed",)),
        Table.of("What can run here", ABILITIES_HEADER, able),
        Lines.of(lines),
    )
