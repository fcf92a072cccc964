"""The number formats as rows of data: elements, the scales of blocks, and which block shares a scale.

Sources: OCP Microscaling Formats (MX) specification v1.0 for the MX rows; NVIDIA's description of NVFP4 (E2M1
elements, an E4M3 scale for 16 of them, one float32 scale for the tensor); OCP 8-bit floating point specification for
E4M3 and E5M2. Integers are symmetric: int8 has no -128, int4 no -8.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from harness import extensions
from harness.text import nearest

SCALE_RULES = ("floor", "even", "ceil", "rceil")
"""How the power of two of an MX block follows from its largest magnitude; floor is the one of the OCP specification."""

ROUNDINGS = ("nearest_even", "toward_zero", "stochastic")

WHOLE = 0
"""The extent of a block that takes all of a dimension."""

UNSCALED, POWER_OF_TWO, REAL, TWO_LEVEL = "none", "e8m0", "fp32", "fp8_e4m3 x fp32"
"""Kinds of scale: none; a power of two (E8M0); float32; E4M3 for each block and float32 for the whole tensor."""

SMALLEST_POWER, LARGEST_POWER = -127, 127
"""The exponents of E8M0, which has neither zero nor sign nor infinity."""


@dataclass(frozen=True)
class Element:
    """The values of one element: +-m * 2**(e - ``mantissa_bits``), e >= ``smallest_exponent``, at most ``largest``.

    m is an integer below 2**(mantissa_bits + 1), at least half of that unless e is the smallest exponent. An integer
    format has a single exponent. ``dtype`` is the torch dtype of a format that torch casts to, None elsewhere.
    """

    name: str
    bits: int
    mantissa_bits: int
    smallest_exponent: int
    largest: float
    dtype: str | None = None

    @property
    def largest_exponent(self) -> int:
        """floor(log2(largest)): the ``emax`` of the OCP specification."""
        return math.frexp(self.largest)[1] - 1

    @property
    def step(self) -> float:
        """The smallest positive value."""
        return math.ldexp(1.0, self.smallest_exponent - self.mantissa_bits)

    @property
    def magnitudes(self) -> tuple[float, ...]:
        """Every magnitude in increasing order, from 0; for formats of at most 8 bits."""
        found = [0.0]
        while found[-1] < self.largest:
            last = found[-1]
            binade = max(math.frexp(last)[1] - 1, self.smallest_exponent) if last else self.smallest_exponent
            found.append(last + math.ldexp(1.0, binade - self.mantissa_bits))
        return tuple(found)


@dataclass(frozen=True)
class Format:
    """A number format for tensors: its elements, and what a block of ``rows`` x ``columns`` of them is scaled by.

    Columns run along the contraction dimension, the last one; :data:`WHOLE` is the whole dimension.
    """

    name: str
    element: Element
    scale: str = UNSCALED
    columns: int = 1
    rows: int = 1
    note: str = ""

    @property
    def has_scale_rule(self) -> bool:
        """True where the scale is a power of two, for which several rules exist."""
        return self.scale == POWER_OF_TWO

    @property
    def is_tiled(self) -> bool:
        """True where a block spans several rows, or the whole tensor shares a scale by definition."""
        return self.rows != 1

    @property
    def bits_per_element(self) -> float:
        """Storage of an element and its share of the block's scale, in bits; whole dimensions count as free."""
        shared = {UNSCALED: 0, POWER_OF_TWO: 8, REAL: 16, TWO_LEVEL: 8}[self.scale]
        size = self.rows * self.columns
        return self.element.bits + (shared / size if size else 0.0)

    def full_name(self, scale_rule: str | None = None) -> str:
        """Return the name with its scale rule: ``mxfp4 (scale rule floor)``; the name alone where there is none."""
        return f"{self.name} (scale rule {scale_rule or SCALE_RULES[0]})" if self.has_scale_rule else self.name


def _table(*rows: Element) -> Mapping[str, Element]:
    return MappingProxyType({row.name: row for row in rows})


ELEMENTS: Mapping[str, Element] = _table(
    Element("fp4_e2m1", 4, 1, 0, 6.0),
    Element("fp6_e2m3", 6, 3, 0, 7.5),
    Element("fp6_e3m2", 6, 2, -2, 28.0),
    Element("fp8_e4m3", 8, 3, -6, 448.0, "float8_e4m3fn"),
    Element("fp8_e5m2", 8, 2, -14, 57344.0, "float8_e5m2"),
    Element("bf16", 16, 7, -126, math.ldexp(255.0, 120), "bfloat16"),
    Element("fp16", 16, 10, -14, 65504.0, "float16"),
    Element("int8", 8, 6, 6, 127.0),
    Element("int4", 4, 2, 2, 7.0),
    Element("mx_int8", 8, 6, 0, 127 / 64),
)
"""Element formats; ``mx_int8`` is the INT8 of the MX specification, whose values are multiples of 1/64."""

_E = ELEMENTS
_ROWS = (
    *(
        Format(name, _E[name], note="element by element, saturating")
        for name in ("fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3", "fp8_e5m2", "bf16", "fp16", "int8", "int4")
    ),
    Format("mxfp4", _E["fp4_e2m1"], POWER_OF_TWO, 32),
    Format("mxfp6_e2m3", _E["fp6_e2m3"], POWER_OF_TWO, 32),
    Format("mxfp6_e3m2", _E["fp6_e3m2"], POWER_OF_TWO, 32),
    Format("mxfp8_e4m3", _E["fp8_e4m3"], POWER_OF_TWO, 32),
    Format("mxfp8_e5m2", _E["fp8_e5m2"], POWER_OF_TWO, 32),
    Format("mxint8", _E["mx_int8"], POWER_OF_TWO, 32),
    Format("mxfp4_32x32", _E["fp4_e2m1"], POWER_OF_TWO, 32, 32, "one scale for a square tile"),
    Format("nvfp4", _E["fp4_e2m1"], TWO_LEVEL, 16),
    Format("nvfp4_16x16", _E["fp4_e2m1"], TWO_LEVEL, 16, 16, "one scale for a square tile"),
    Format("int8_channel", _E["int8"], REAL, WHOLE, note="one scale per row (output channel), amax / 127"),
    Format("int4_g32", _E["int4"], REAL, 32, note="amax / 7"),
    Format("int4_g128", _E["int4"], REAL, 128, note="amax / 7"),
    Format("fp8_e4m3_tensor", _E["fp8_e4m3"], REAL, WHOLE, WHOLE, "amax / 448"),
    Format("fp8_e5m2_tensor", _E["fp8_e5m2"], REAL, WHOLE, WHOLE, "amax / 57344"),
)
FORMATS: Mapping[str, Format] = MappingProxyType({row.name: row for row in _ROWS})
"""Format name -> row, of those in the package. A new format is a new row."""

FORMAT_GROUP = "robustness_harness.formats"
"""The group of entry points by which other distributions add number formats: each names a :class:`Format`."""

ALIASES: Mapping[str, str] = MappingProxyType({"mxfp6": "mxfp6_e2m3", "mxfp8": "mxfp8_e4m3"})
"""Shorter name -> the row that it means; messages and files show the row's own name."""


def find_format(name: str) -> Format:
    """Return the row ``name`` or the one that it is an alias of, also from another distribution.

    Raises ValueError with the nearest known name, and :class:`HarnessError`, naming the distribution, for a row of
    another distribution that cannot be used.
    """
    if name == "e8m0":
        raise ValueError("format 'e8m0'; it holds scales, not values; the MX formats use it: mxfp4, mxfp8, ...")
    known = FORMATS.get(ALIASES.get(name, name))
    return _outside(name) if known is None else known


@cache  # asked for every tensor that is quantized; what raises is not kept
def _outside(name: str) -> Format:
    def fault(found: object) -> str:
        if not isinstance(found, Format):
            return "it is no harness.spec.formats.Format"
        return "" if found.name == name else f"it calls itself {found.name!r}"

    own = (*FORMATS, *ALIASES)
    found: Format | None = extensions.load_checked(FORMAT_GROUP, "number format", name, own, fault)
    if found is None:
        raise ValueError(f"unknown format {name!r}; {nearest(str(name), [*own, *extensions.names(FORMAT_GROUP)])}")
    return found


def find_scale_rule(chosen: Format, scale_rule: str | None) -> str | None:
    """Return the scale rule that ``chosen`` is used with: floor where none is given, None for formats without a rule.

    Raises ValueError for an unknown rule, and for one other than floor (the default) where there is none to choose.
    """
    if scale_rule is not None and scale_rule not in SCALE_RULES:
        raise ValueError(f"unknown scale rule {scale_rule!r}; {nearest(str(scale_rule), SCALE_RULES)}")
    if chosen.has_scale_rule:
        return scale_rule or SCALE_RULES[0]
    if scale_rule not in (None, SCALE_RULES[0]):
        raise ValueError(f"scale rule {scale_rule!r} with {chosen.name}; only power-of-two scales have one; drop it")
    return None


@dataclass(frozen=True)
class Recipe:
    """How a tensor is quantized: format, scale rule (None where the format has none) and rounding."""

    format: Format
    scale_rule: str | None
    rounding: str

    @classmethod
    def of(cls, fmt: str | Format, scale_rule: str | None = None, rounding: str = ROUNDINGS[0]) -> Recipe:
        """Check the names. Raises ValueError for an unknown one and for a scale rule that the format does not have."""
        chosen = fmt if isinstance(fmt, Format) else find_format(fmt)
        if rounding not in ROUNDINGS:
            raise ValueError(f"unknown rounding {rounding!r}; {nearest(str(rounding), ROUNDINGS)}")
        return cls(chosen, find_scale_rule(chosen, scale_rule), rounding)

    def __str__(self) -> str:
        rounding = "" if self.rounding == ROUNDINGS[0] else f", {self.rounding}"
        return f"{self.format.full_name(self.scale_rule)}{rounding}"
