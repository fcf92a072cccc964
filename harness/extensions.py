"""What other installed distributions add to the harness: entry points, found by group and loaded by name.

Nothing is cached, so that what was just installed is there. Standard library only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from importlib import metadata
from typing import Any

from harness.exceptions import HarnessError


def names(group: str) -> tuple[str, ...]:
    """Return the names of all entry points of ``group``, sorted, each once."""
    return tuple(sorted({point.name for point in metadata.entry_points(group=group)}))


def load(group: str, kind: str, name: str, own: Collection[str]) -> Any:
    """Return the object behind the entry point ``name`` of ``group``, None where no distribution has one.

    ``kind`` says in messages what it is ("task"); ``own`` are the names that the package has itself. Raises
    :class:`HarnessError` naming the distribution where a name is taken, by the package or by another distribution,
    and where the object cannot be loaded.
    """
    points = list(metadata.entry_points(group=group, name=name))
    if not points:
        return None
    origins = sorted(origin(point) for point in points)
    if name in own or len(points) > 1:
        taken = "the harness has one of this name" if name in own else "a name may be given once"
        raise HarnessError(
            f"{kind} {name!r} of {' and '.join(origins)}", taken, f"uninstall {origins[-1]} or rename its {kind}"
        )
    try:
        found = points[0].load()
    except (Exception, SystemExit) as error:  # the code of others raises anything; its exit code is no verdict
        raise broken(kind, name, origins[0], f"{type(error).__name__}: {error}") from error
    if found is None:
        raise broken(kind, name, origins[0], "it is None")
    return found


def load_checked(group: str, kind: str, name: str, own: Collection[str], fault: Callable[[Any], str]) -> Any:
    """Do as :func:`load`; ``fault`` says what keeps the object from being a ``kind``, an empty text where nothing does.

    Raises :class:`HarnessError` with those words too, naming the distribution.
    """
    found = load(group, kind, name, own)
    wrong = "" if found is None else fault(found)
    if wrong:
        raise broken(kind, name, origin_of(group, name), wrong)
    return found


def resolve(reference: str) -> Any:
    """Return the object that ``reference`` (``module:name``) names, its module imported where it was not yet."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def broken(kind: str, name: str, where: str, why: str) -> HarnessError:
    """Return the error that says in one line why the ``kind`` called ``name`` of a distribution cannot be used."""
    return HarnessError(f"{kind} {name!r} of {where}", f"it cannot be used ({why:.200})", "repair or uninstall it")


def origin(point: metadata.EntryPoint) -> str:
    """Return the distribution that brings ``point``, with its version: ``my-tasks 1.0``."""
    return "an unknown distribution" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def distributions(**named: tuple[str, str]) -> dict[str, tuple[str, ...]]:
    """Return what of ``named`` (kind -> group and name) comes from another distribution: kind -> the distribution."""
    found = {}
    for kind, (group, name) in named.items():
        points = metadata.entry_points(group=group, name=name)
        brought = tuple(sorted({point.dist.name for point in points if point.dist is not None}))
        if brought:
            found[kind.replace("_", " ")] = brought
    return found


def origin_of(group: str, name: str) -> str:
    """Return the distribution of the entry point ``name`` of ``group``; empty where there is none."""
    return next((origin(point) for point in metadata.entry_points(group=group, name=name)), "")
