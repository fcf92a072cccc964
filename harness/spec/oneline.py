"""The one-line form of a specification: ``ERROR[(args)] [@ selector:value ...]``, both ways.

``spike(0.001, magnitude=20) @ op:linear,matmul layers:0,14-17 key:shared``. The selectors and the order in which they
are printed are those of :data:`harness.spec.selectors.SELECTORS`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_type_hints

from harness.exceptions import NoiseSpecError
from harness.spec.errors import ErrorModel, error_model, make_error
from harness.spec.noise import NoiseSpec
from harness.spec.selectors import LISTS, SELECTORS
from harness.spec.tokens import ONCE
from harness.text import nearest

_NUMBERS = ((int, "an integer"), (float, "a number"))


def parse_noise(text: str) -> NoiseSpec:
    """Return the specification written as ``relative_gaussian(0.05) @ op:linear,matmul key:item``; inverse of ``str``.

    Arguments of the error model are positional, in the order of its fields, or ``name=value``. Raises
    :class:`NoiseSpecError`.
    """
    head, at, tail = text.partition("@")
    error = _parse_error(head.strip(), text)
    words = tail.split()
    if at and not words:
        raise NoiseSpecError(f"noise {text!r}", "no selector follows the @", "write for example @ op:linear")
    given: dict[str, Any] = {}
    for word in words:
        selector, colon, value = _split(word)
        if not colon or not value:
            raise NoiseSpecError(
                f"{word!r} in {text!r}", "each selector is name:value", "write for example op:linear,matmul"
            )
        if selector not in SELECTORS:
            raise NoiseSpecError(f"unknown selector {selector!r} in {text!r}", nearest(selector, SELECTORS))
        if selector in given:
            raise NoiseSpecError(f"{word!r} in {text!r}", "each selector may be given once", f"keep one {selector}:")
        given[selector] = _integer(value) if selector == "seed" else value
    return spec_of(error, given)


def _split(word: str) -> tuple[str, str, str]:
    """Selector, colon and value; ``once`` and ``once:N`` are values of ``tokens`` that may stand alone."""
    return ("tokens", ":", word) if word.partition(":")[0] == ONCE else word.partition(":")


def parse_noises(text: str) -> tuple[NoiseSpec, ...]:
    """Return the specifications of ``text``, separated by ``;``, none of them empty or given twice.

    Raises :class:`NoiseSpecError`.
    """
    parts = [part.strip() for part in text.split(";")]
    if not all(parts):
        raise NoiseSpecError(f"noise {text!r}", "no specification between semicolons may be empty", "drop the ;")
    return distinct(parse_noise(part) for part in parts)


def spec_of(error: ErrorModel, given: Mapping[str, Any]) -> NoiseSpec:
    """Return the specification of ``error`` and known selectors; a value of several is comma-separated text or a list.

    Raises :class:`NoiseSpecError`.
    """
    fields: dict[str, Any] = {
        SELECTORS[selector]: _entries(selector, value) if selector in LISTS else value
        for selector, value in given.items()
    }
    return NoiseSpec(error, **fields)


def distinct(specs: Iterable[NoiseSpec]) -> tuple[NoiseSpec, ...]:
    """Return ``specs``; raises :class:`NoiseSpecError` where one is given twice."""
    found: list[NoiseSpec] = []
    for spec in specs:
        if spec in found:
            raise NoiseSpecError(f"noise {str(spec)!r}", "it is given twice", "give each specification once")
        found.append(spec)
    return tuple(found)


def _parse_error(head: str, text: str) -> ErrorModel:
    match = re.fullmatch(r"(\w+)(?:\(([^()]*)\))?", head)
    if match is None:
        raise NoiseSpecError(
            f"noise {text!r}", "it reads error_model(scale) @ op:NAME", "relative_gaussian @ op:linear"
        )
    name, arguments = match.groups()
    model = error_model(name)
    if arguments is None or model is None:
        return make_error(name, {})
    return make_error(name, _parse_arguments(model, arguments))


def _parse_arguments(model: type[ErrorModel], text: str) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(model)]
    given: dict[str, Any] = {}
    named = False
    for position, word in enumerate(text.split(",")):
        left, equals, right = (part.strip() for part in word.partition("="))
        named = named or bool(equals)
        value = right if equals else left
        if not value or (named and not equals):
            raise NoiseSpecError(
                f"argument {word.strip()!r} of {model.name}({text})",
                "arguments are values in order, then name=value",
                "write for example spike(0.001, magnitude=10)",
            )
        if not equals and position >= len(names):
            raise NoiseSpecError(
                f"{model.name}({text})", f"it takes at most {len(names)} arguments", f"in order: {', '.join(names)}"
            )
        name = left if equals else names[position]
        if name in given:
            raise NoiseSpecError(f"{name} in {model.name}({text})", "it is given twice", f"keep one {name}")
        given[name] = _argument(model, name, value) if name in names else value
    return given


def _argument(model: type[ErrorModel], name: str, text: str) -> float | int | str:
    hint = get_type_hints(model)[name]
    for kind, word in _NUMBERS:
        if hint is kind or kind in get_args(hint):
            try:
                return kind(text)
            except ValueError:
                raise NoiseSpecError(
                    f"{name} {text!r} of {model.name}", f"a {name} is {word}", f"write {model.example(name)}"
                ) from None
    return text


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise NoiseSpecError(f"noise seed {text!r}", "a seed is an integer >= 0", "write seed:0") from None


def _entries(selector: str, value: Any) -> tuple[Any, ...]:
    found = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or "" in found:
        raise NoiseSpecError(
            f"{selector}:{value}", "it is a list in which nothing is empty", "separate the entries by single commas"
        )
    return tuple(_layers(entry) for entry in found) if selector == "layers" else tuple(found)


def _layers(entry: object) -> tuple[int, int]:
    """A number or ``FIRST-LAST`` -> inclusive range."""
    if isinstance(entry, int) and not isinstance(entry, bool):
        return entry, entry
    # 19 digits: all that NoiseSpec may accept, and still an integer that Python reads
    match = re.fullmatch(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", entry) if isinstance(entry, str) else None
    if match is None:
        raise NoiseSpecError(
            f"layers {entry!r}", "a layer is a number or a range FIRST-LAST", "write for example layers:0,14-17"
        )
    first, last = match.groups(default=match[1])
    return int(first), int(last)
