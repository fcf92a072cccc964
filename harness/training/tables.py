"""Lays one table of settings over another: how a recipe says only what differs from its base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` with the values of ``above``: tables key by key, everything else replaced.

    A table that ``above`` gives as ``false`` is taken out.
    """
    found = dict(below)
    for key, value in above.items():
        if value is False and isinstance(found.get(key), Mapping):
            del found[key]
        elif isinstance(value, Mapping) and isinstance(found.get(key), Mapping):
            found[key] = merged(found[key], value)
        else:
            found[key] = value
    return found


def pruned(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``table`` without what says nothing: None and empty text, at every depth."""
    return {
        key: pruned(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if value is not None and value != ""
    }
