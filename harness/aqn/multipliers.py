"""What sigma is multiplied by in each decoder layer, in all the kinds that the sources name (no torch)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.aqn.layer_errors import errors_of
from harness.exceptions import HarnessError
from harness.strict import Table, fill

HIGH, MEDIUM = 1.5, 1.2
DEPTH_LOW, DEPTH_HIGH = 0.4, 0.6


@dataclass(frozen=True)
class Multipliers:
    """A factor for each layer; ``default`` for those that are not named, and for what stands in no layer.

    ``late`` replaces factors from ``boundary`` (fraction of the run's steps) on: the zone schedule. Raises
    :class:`HarnessError` for factors that are negative or not finite, and where every factor is 0.
    """

    default: float = 1.0
    layers: Mapping[int, float] = field(default_factory=dict)
    late: Mapping[int, float] = field(default_factory=dict)
    boundary: float = 1.0

    def __post_init__(self) -> None:
        for where, value in (("default", self.default), *self.layers.items(), *self.late.items()):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise HarnessError(f"multiplier {value!r} of {where}", "it is a finite number from 0 up", "correct it")
        for layer in (*self.layers, *self.late):
            if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0:
                raise HarnessError(f"layer {layer!r}", "layers are numbered from 0", "correct it")
        if not 0 <= self.boundary <= 1:
            raise HarnessError(f"boundary {self.boundary:g}", "it is a fraction of the run", "give 0 to 1")
        if not any((self.default, *self.layers.values(), *self.late.values())):
            raise HarnessError("multipliers that are all 0", "nothing would be perturbed", "switch AQN off instead")

    def of(self, layer: int | None, progress: float = 0.0) -> float:
        """Return the factor of ``layer`` (None: outside of all layers) at ``progress`` (fraction of the run)."""
        if layer is None:
            return self.default
        if progress >= self.boundary and layer in self.late:
            return self.late[layer]
        return self.layers.get(layer, self.default)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary; :meth:`from_json` reads it."""
        named = {str(layer): value for layer, value in sorted(self.layers.items())}
        late = {str(layer): value for layer, value in sorted(self.late.items())}
        return {"default": self.default, "layers": named, "late": late, "boundary": self.boundary}

    @classmethod
    def from_json(cls, data: object) -> Multipliers:
        """Return the inverse of :meth:`to_json`. Raises :class:`HarnessError` for what it does not know."""
        table = Table(data, "AQN settings", path="multipliers")
        return fill(cls, table, given={part: _by_layer(table.table(part)) for part in ("layers", "late")})


def _by_layer(table: Table) -> dict[int, float]:
    found = {}
    for layer, value in table.rest().items():
        if not str(layer).isdecimal():
            raise table.fail(f"layer {layer!r}", "layers are numbered from 0, with a factor each")
        found[int(layer)] = table.in_range(str(layer), value)
    return found


def targeted(layers: Iterable[int]) -> Multipliers:
    """Return 1 in ``layers`` and 0 elsewhere."""
    return Multipliers(0.0, dict.fromkeys(layers, 1.0))


def variable(high: Iterable[int], medium: Iterable[int]) -> Multipliers:
    """Return 1.5 in ``high``, 1.2 in ``medium`` and 1 elsewhere."""
    return Multipliers(1.0, dict.fromkeys(medium, MEDIUM) | dict.fromkeys(high, HIGH))


def depth_heuristic(count: int) -> Multipliers:
    """Return 1 between 40 % and 60 % of the depth of ``count`` layers (28: layers 11 to 16), 0 elsewhere."""
    return targeted(range(math.floor(DEPTH_LOW * count), math.floor(DEPTH_HIGH * count) + 1))


def proportional(errors: Mapping[int, float]) -> Multipliers:
    """Return factors in proportion to the ``errors`` of layers, from a scan or a diagnosis; their mean is 1."""
    return Multipliers(1.0, _scaled(_checked(errors)))


def inverse(errors: Mapping[int, float]) -> Multipliers:
    """Return factors in proportion to 1 / error; their mean is 1."""
    return Multipliers(1.0, _scaled({layer: 1 / error for layer, error in _checked(errors).items()}))


def ceiling(found: Multipliers) -> Multipliers:
    """Return ``found`` divided by its largest factor: none is above 1."""
    top = max(found.default, *found.layers.values(), *found.late.values())
    layers, late = ({layer: v / top for layer, v in part.items()} for part in (found.layers, found.late))
    return Multipliers(found.default / top, layers, late, found.boundary)


def zone_schedule(
    edges: Iterable[int], middle: Iterable[int], boundary: float = 0.5, early: float = 1.0, late: float = 0.5
) -> Multipliers:
    """Return 1 in the layers of ``edges``; in those of ``middle`` ``early``, and ``late`` from ``boundary`` on."""
    middle = tuple(middle)
    both = sorted(set(edges) & set(middle))
    if both:
        raise HarnessError(f"layer {both[0]}", "it is in both zones", "give it to one")
    return Multipliers(1.0, dict.fromkeys(middle, early), dict.fromkeys(middle, late), boundary)


def _checked(errors: Mapping[int, float]) -> Mapping[int, float]:
    bad = [layer for layer, error in errors.items() if not 0 < error < math.inf]
    if bad or not errors:
        what = f"the error {errors[bad[0]]!r} of layer {bad[0]}" if bad else "no layer with an error"
        raise HarnessError(what, "factors are made of finite errors above 0", "scan the checkpoint again")
    return errors


def _scaled(values: Mapping[int, float]) -> dict[int, float]:
    mean = math.fsum(values.values()) / len(values)
    return {layer: value / mean for layer, value in values.items()}


def parse_layers(text: str) -> tuple[int, ...]:
    """Return the layers of ``14-17,20``. Raises :class:`HarnessError`."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise HarnessError(f"layers {text!r}", "they are numbers and ranges", "write 14-17,20")
        found += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(found))


FORMS = (
    "uniform, depth, targeted:L, variable:HIGH/MEDIUM, zones:EDGES/MIDDLE[/BOUNDARY/EARLY/LATE], "
    "layers:[default=D,]0=1.5,..., proportional:FILE, inverse:FILE, or ceiling: before one of them"
)


def parse_multipliers(text: str, layers: int) -> Multipliers:
    """Return the multipliers of a one-line ``text`` for a model of ``layers`` layers. Raises :class:`HarnessError`.

    ``uniform``; ``depth``; ``targeted:14-17``; ``variable:14-17/10-13,18-21`` (high / medium);
    ``zones:0-5,23-27/6-22`` (edges / middle), with ``/0.5/1/0.5`` the boundary and the factors before and after it;
    ``layers:0=1.5,1=0.5`` (others 1, or ``default=``); ``proportional:scan.json`` and ``inverse:scan.json`` of
    :func:`harness.aqn.layer_errors.errors_of`; ``ceiling:`` before any of them.
    """
    kind, _, rest = text.partition(":")
    if kind == "ceiling" and rest:
        return ceiling(parse_multipliers(rest, layers))
    maker = _MAKERS.get(kind)
    found = maker(rest, layers) if maker is not None else None
    if found is None:
        raise HarnessError(f"--multipliers {text!r}", f"it is {FORMS}", "write layers as 14-17,20")
    beyond = [layer for layer in (*found.layers, *found.late) if layer >= layers]
    if beyond:
        raise HarnessError(f"layer {max(beyond)} of --multipliers {text!r}", f"the model has {layers}", "correct it")
    return found


def _zones(rest: str, layers: int) -> Multipliers | None:
    edges, _, more = rest.partition("/")
    middle, *numbers = more.split("/")
    if not middle or len(numbers) not in (0, 3):
        return None
    return zone_schedule(parse_layers(edges), parse_layers(middle), *(_number(text) for text in numbers))


def _variable(rest: str, layers: int) -> Multipliers | None:
    high, slash, medium = rest.partition("/")
    return variable(parse_layers(high), parse_layers(medium)) if slash else None


def _named(rest: str, layers: int) -> Multipliers | None:
    if not rest:
        return None
    pairs = [part.partition("=")[::2] for part in rest.split(",")]
    default = [_number(value) for name, value in pairs if name.strip() == "default"]
    if len(default) > 1:
        raise HarnessError(f"layers:{rest}", "it has one default", "drop the others")
    factors: dict[int, float] = {}
    for name, value in pairs:
        if name.strip() == "default":
            continue
        if not name.strip().isdecimal():
            raise HarnessError(f"multiplier {name + '=' + value!r}", "it is layer=factor", "write 3=1.5")
        if int(name) in factors:
            raise HarnessError(f"layer {int(name)} of layers:{rest}", "it has two factors", "drop one")
        factors[int(name)] = _number(value)
    return Multipliers(default[0] if default else 1.0, factors)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise HarnessError(f"multiplier {text!r}", "it is a number", "write 1.5") from None


def _plain(found: Callable[[int], Multipliers]) -> Callable[[str, int], Multipliers | None]:
    return lambda rest, layers: None if rest else found(layers)


def _from_file(found: Callable[[Mapping[int, float]], Multipliers]) -> Callable[[str, int], Multipliers | None]:
    return lambda rest, layers: found(errors_of(Path(rest))) if rest else None


_MAKERS: Mapping[str, Callable[[str, int], Multipliers | None]] = MappingProxyType(
    {
        "uniform": _plain(lambda layers: Multipliers()),
        "depth": _plain(depth_heuristic),
        "targeted": lambda rest, layers: targeted(parse_layers(rest)) if rest else None,
        "variable": _variable,
        "zones": _zones,
        "layers": _named,
        "proportional": _from_file(proportional),
        "inverse": _from_file(inverse),
    }
)
