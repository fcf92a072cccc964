"""Reads what a user writes for the runs of one arm: ``NAME=RUN,RUN``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.exceptions import HarnessError


def parse_arms(texts: Sequence[str], example: str) -> dict[str, tuple[Path, ...]]:
    """Return arm -> its run folders, at least one each and none twice, from one ``NAME=RUN,RUN`` per arm.

    Raises :class:`HarnessError`, with ``example`` as the way out where one is written otherwise.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for text in texts:
        name, paths = _parse_arm(text, example)
        if name in found:
            raise HarnessError(f"--arm {name}", "the arm is given twice", "give all its runs in one --arm")
        found[name] = paths
    return found


def _parse_arm(text: str, example: str) -> tuple[str, tuple[Path, ...]]:
    name, equals, rest = text.partition("=")
    parts = [part.strip() for part in rest.split(",")]
    paths = tuple(Path(part) for part in parts)
    if not equals or not name.strip() or "" in parts:
        raise HarnessError(f"--arm {text!r}", "an arm is a name and its run folders, NAME=RUN,RUN", f"write {example}")
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise HarnessError(f"--arm {text!r}", f"run {path} is named twice", "name every run once")
        seen.add(path.resolve())
    return name.strip(), paths
