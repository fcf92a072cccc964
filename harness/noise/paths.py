"""Module paths: globs over whole components, layer numbers, adapters, and the words for messages about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise

from harness.text import nearest

CONTAINERS = frozenset(
    {
        *("layers", "layer", "h", "blocks", "block"),
        *("decoder_layers", "encoder_layers", "decoder_blocks", "encoder_blocks"),
    }
)
"""Names under which models number their blocks."""

ADAPTERS = ("base_layer", "lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector")
"""Path components by which peft wraps a module: the wrapped module and the parts of the adapter."""

MOST_NAMES = 3
_ANY = "**"


def layer_of(path: str) -> int | None:
    """Return the number of the block that ``path`` lies in (the outermost where blocks are nested), None outside of
    them.

    ``model.layers.2.experts.7.w1`` -> 2, ``lm_head`` -> None.
    """
    for container, number in pairwise(path.split(".")):
        if container in CONTAINERS and number.isascii() and number.isdecimal():
            return int(number)
    return None


def matches(pattern: str, path: str, *, whole: bool) -> bool:
    """Return True where ``pattern``, a glob per component, matches a contiguous run of the components of ``path``.

    ``**`` stands for any number of components, also none. With ``whole`` the run must end at the last component
    (``module:``); without it, everything below a match matches too (``include:``, ``exclude:``): ``layers.2`` is
    all of layer 2 and nothing of layer 20.
    """
    globs = (_ANY, *pattern.split("."), *(() if whole else (_ANY,)))
    return _match(globs, tuple(path.split(".")))


def _match(globs: Sequence[str], names: Sequence[str]) -> bool:
    if not globs:
        return not names
    if globs[0] == _ANY:
        return any(_match(globs[1:], names[start:]) for start in range(len(names) + 1))
    return bool(names) and fnmatchcase(names[0], globs[0]) and _match(globs[1:], names[1:])


def matching(patterns: Iterable[str], path: str, *, whole: bool) -> tuple[str, ...]:
    """Return those of ``patterns`` that match ``path``, in order."""
    return tuple(pattern for pattern in patterns if matches(pattern, path, whole=whole))


def adapter_parts(path: str) -> tuple[str, ...]:
    """Return the components of ``path`` that peft makes, empty for a module of the model itself."""
    return tuple(part for part in path.split(".") if part in ADAPTERS)


def enumerated(paths: Sequence[str]) -> str:
    """Return at most three names and how many there are beyond them."""
    shown = ", ".join(paths[:MOST_NAMES])
    return shown if len(paths) <= MOST_NAMES else f"{shown} and {len(paths) - MOST_NAMES} more"


def range_text(ranges: Iterable[tuple[int, int]]) -> str:
    """Return ``14-17,20``: inclusive ranges as a specification writes them."""
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in ranges)


def layers_text(paths: Iterable[str]) -> str:
    """Return the layers that ``paths`` lie in, as ranges: ``layers here: 0-27``."""
    ranges: list[tuple[int, int]] = []
    for number in sorted({layer for path in paths if (layer := layer_of(path)) is not None}):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return f"layers here: {range_text(ranges) or 'none'}"


def nearest_name(word: str, known: Iterable[str]) -> str:
    """Return the known name that differs in case only, else the nearest one."""
    names = list(known)
    same = next((name for name in names if name.lower() == word.lower()), None)
    return f"did you mean {same!r}?" if same else nearest(word, names)


def nearest_path(pattern: str, paths: Iterable[str]) -> str:
    """Return what ``pattern`` may have meant: the component nearest to its unknown one, else the nearest path."""
    known = list(paths)
    components = list(dict.fromkeys(part for path in known for part in path.split(".")))
    for glob in pattern.split("."):
        if glob == _ANY or any(fnmatchcase(component, glob) for component in components):
            continue
        if glob.isdecimal():
            return layers_text(known)
        return nearest_name(glob, [component for component in components if not component.isdecimal()])
    # every component exists, but not in this order: blocks are alike, so one line stands for all of them
    alike = dict.fromkeys(".".join("*" if part.isdecimal() else part for part in path.split(".")) for path in known)
    return nearest(pattern, alike)
