"""The error models as data: what is done to a value, with which parameters, and what that should cost.

The formulas themselves live where ``computed_by`` and ``replayed_by`` say. In the formulas below y is an element,
``row`` the elements of one token (the last dimension), z a standard normal draw, u a uniform draw in [0, 1). Rates,
scales of relative models, thresholds and margins are fractions; ``step``, ``limit``, ``value`` and the scales of
absolute models are in the unit of y. Every model keeps NaN and infinity as they are.

Each class states in ``formula`` what it computes and in ``expected`` the relative error to expect. Only where that
does not depend on the data is it a number (``expected_relative_rms``: root mean square of (y' - y) / y over non-zero
elements, a fraction); everywhere else the ledger's measurement is the figure.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from harness import extensions
from harness.exceptions import NoiseSpecError
from harness.spec.error_base import ABSOLUTE, RELATIVE, ErrorModel
from harness.spec.faults import BitFlips, FaultMix, StuckLane
from harness.spec.formats import ROUNDINGS, UNSCALED, Recipe
from harness.text import nearest


@dataclass(frozen=True)
class RelativeGaussian(ErrorModel):
    """y + scale * y * z. The expected relative error (RMS) is ``scale``, a fraction.

    ``None`` leaves the scale to the noise level.
    """

    scale: float | None = None

    name = "relative_gaussian"
    computed_by = "harness.numerics.error_models:_relative_gaussian"
    replayed_by = "harness.noise.replay.errors:_relative_gaussian"
    formula = "y + scale * y * z"
    expected = "scale"
    strength = "scale"
    gaussian = RELATIVE

    def __post_init__(self) -> None:
        self._number("scale", 0, math.inf, "a scale is a finite fraction >= 0")


@dataclass(frozen=True)
class Nondeterministic(RelativeGaussian):
    """y + scale * y * z with a fresh z on every call, even under the same key: for diagnostics of instability.

    A rerun of the whole run repeats its draws; a second call within it, and a recomputation, does not.
    """

    name = "nondeterministic"
    formula = "y + scale * y * z, z drawn anew on every call"
    fresh = True
    not_replayed = "draws anew at every call, so no second computation can repeat it"
    replayed_by = ""  # the caller supplies fresh keys to the same formula


@dataclass(frozen=True)
class AbsoluteGaussian(ErrorModel):
    """y + scale * z; ``scale`` in the unit of y. Expected: scale / RMS(y) as a ratio of energies."""

    scale: float | None = None

    name = "absolute_gaussian"
    computed_by = "harness.numerics.error_models:_absolute_gaussian"
    replayed_by = "harness.noise.replay.errors:_absolute_gaussian"
    formula = "y + scale * z"
    expected = "scale / RMS(y), as the root of error energy over signal energy"
    strength = "scale"
    gaussian = ABSOLUTE
    unit = "value"

    def __post_init__(self) -> None:
        self._number("scale", 0, math.inf, "a scale is a finite number >= 0")


@dataclass(frozen=True)
class SystematicBias(ErrorModel):
    """y + sign(y) * scale: away from zero by a constant, ``scale`` in the unit of y (the absolute variant).

    Source: ``systematic_bias`` of the ancestor's hw_error_injection. Zero stays zero.
    """

    scale: float | None = None

    name = "systematic_bias"
    computed_by = "harness.numerics.error_models:_systematic_bias"
    replayed_by = "harness.noise.replay.errors:_systematic_bias"
    rough = True
    random = False
    formula = "y + sign(y) * scale"
    expected = "scale / |y|"
    strength = "scale"
    unit = "value"

    def __post_init__(self) -> None:
        self._number("scale", 0, math.inf, "a scale is a finite number >= 0")


@dataclass(frozen=True)
class RelativeBias(ErrorModel):
    """y + scale * y: every magnitude too large by the same fraction (the relative variant)."""

    scale: float | None = None

    name = "relative_bias"
    computed_by = "harness.numerics.error_models:_relative_bias"
    replayed_by = "harness.noise.replay.errors:_relative_bias"
    random = False
    formula = "y + scale * y"
    expected = "scale"
    strength = "scale"

    def __post_init__(self) -> None:
        self._number("scale", 0, math.inf, "a scale is a finite fraction >= 0")

    def expected_relative_rms(self, level: float) -> float | None:
        """Return ``level``."""
        return level


@dataclass(frozen=True)
class SpreadBias(ErrorModel):
    """y + scale * std(row): one shift for a whole row, relative to its standard deviation.

    Source: ``bias`` of the ancestor's hardware fault simulator. ``scale`` is a fraction of the (population) standard
    deviation of the finite elements of the row.
    """

    scale: float | None = None

    name = "spread_bias"
    computed_by = "harness.numerics.error_models:_spread_bias"
    replayed_by = "harness.noise.replay.errors:_spread_bias"
    random = False
    formula = "y + scale * std(row)"
    expected = "scale * std(row) / |y|"
    strength = "scale"
    row_statistic = True

    def __post_init__(self) -> None:
        self._number("scale", 0, math.inf, "a scale is a finite fraction >= 0")


@dataclass(frozen=True)
class Truncation(ErrorModel):
    """Toward zero to a multiple of ``step`` (unit of y); step 0 changes nothing.

    Expected: for values much larger than the step the error is uniform in [0, step), so step / sqrt(3) / |y|.
    """

    step: float | None = None

    name = "truncation"
    computed_by = "harness.numerics.faults:truncation"
    replayed_by = "harness.noise.replay.errors:_truncation"
    rough = True
    random = False
    formula = "trunc(y / step) * step"
    expected = "step / (sqrt(3) |y|) for |y| >> step; 1 below the step"
    strength = "step"
    unit = "value"

    def __post_init__(self) -> None:
        self._number("step", 0, math.inf, "a step is a finite number >= 0")


@dataclass(frozen=True)
class Deadzone(ErrorModel):
    """0 where |y| < threshold * max|row|, else y; ``threshold`` a fraction of the row's largest magnitude."""

    threshold: float | None = None

    name = "deadzone"
    computed_by = "harness.numerics.faults:deadzone"
    replayed_by = "harness.noise.replay.errors:_deadzone"
    rough = True
    random = False
    formula = "0 where |y| < threshold * max|row|, else y"
    expected = "1 for the elements in the zone, 0 outside"
    strength = "threshold"
    row_statistic = True

    def __post_init__(self) -> None:
        self._number("threshold", 0, 1, "a threshold is a fraction in [0, 1)", without=1)


@dataclass(frozen=True)
class Saturation(ErrorModel):
    """Clamped to +-(1 - margin) * max|row|; ``margin`` a fraction of the row's largest magnitude."""

    margin: float | None = None

    name = "saturation"
    computed_by = "harness.numerics.faults:saturation"
    replayed_by = "harness.noise.replay.errors:_saturation"
    random = False
    formula = "clamp(y, +-(1 - margin) * max|row|)"
    expected = "at most margin, in the clamped elements only"
    strength = "margin"
    row_statistic = True

    def __post_init__(self) -> None:
        self._number("margin", 0, 1, "a margin is a fraction in [0, 1)", without=1)


@dataclass(frozen=True)
class AbsoluteSaturation(ErrorModel):
    """Clamped to +-``limit``, in the unit of y."""

    limit: float = 1.0

    name = "absolute_saturation"
    computed_by = "harness.numerics.faults:absolute_saturation"
    replayed_by = "harness.noise.replay.errors:_absolute_saturation"
    random = False
    formula = "clamp(y, +-limit)"
    expected = "1 - limit / |y| in the clamped elements"

    def __post_init__(self) -> None:
        self._number("limit", 0, math.inf, "a limit is a finite number > 0", without=0)


@dataclass(frozen=True)
class Spike(ErrorModel):
    """With probability ``rate`` an element becomes magnitude * max|row| * z."""

    rate: float | None = None
    magnitude: float = 10.0

    name = "spike"
    computed_by = "harness.numerics.faults:spike"
    replayed_by = "harness.noise.replay.errors:_spike"
    formula = "magnitude * max|row| * z where u < rate, else y"
    expected = "about magnitude * max|row| / |y| in a share rate of the elements"
    strength = "rate"
    row_statistic = True

    def __post_init__(self) -> None:
        self._number("rate", 0, 1, "a rate is a fraction in [0, 1]")
        self._number("magnitude", 0, math.inf, "a magnitude is a finite number > 0", without=0)

    def expected_share(self, level: float) -> float | None:
        """Return ``level``, the rate."""
        return level


@dataclass(frozen=True)
class StuckAt(ErrorModel):
    """A share ``rate`` of the features, fixed for the whole run, always reads ``value`` (unit of y)."""

    rate: float | None = None
    value: float = 0.0

    name = "stuck_at"
    computed_by = "harness.numerics.faults:stuck_at"
    replayed_by = "harness.noise.replay.errors:_stuck_at"
    per_row = False  # a stuck feature is stuck for every row
    formula = "value in the features with u(feature) < rate, else y"
    expected = "|value - y| / |y| in a share rate of the features"
    strength = "rate"

    def __post_init__(self) -> None:
        self._number("rate", 0, 1, "a rate is a fraction in [0, 1]")
        self._number("value", -math.inf, math.inf, "a stuck value is a finite number")


@dataclass(frozen=True)
class BitFlip(ErrorModel):
    """With probability ``rate`` bit number ``bit`` of an element is inverted; bit 0 is the lowest of the mantissa.

    fp32 has bits 0 to 31 (mantissa 0-22, exponent 23-30, sign 31), bf16 0 to 15 (0-6, 7-14, 15), fp16 0 to 15
    (0-9, 10-14, 15). A flip may make infinity or NaN.
    """

    rate: float | None = None
    bit: int = 0

    name = "bit_flip"
    computed_by = "harness.numerics.faults:bit_flip"
    replayed_by = "harness.noise.replay.errors:_bit_flip"
    rough = True
    breaks = True
    formula = "bits(y) xor (1 << bit) where u < rate, else y"
    expected = "2**(bit - mantissa bits) of the binade in a share rate, for bits of the mantissa"
    strength = "rate"

    def __post_init__(self) -> None:
        self._number("rate", 0, 1, "a rate is a fraction in [0, 1]")
        if isinstance(self.bit, bool) or not isinstance(self.bit, int) or not 0 <= self.bit <= 31:
            raise self._refuse("bit", "a bit position is an integer from 0 to 31", "write bit_flip(0.001, bit=22)")

    def expected_share(self, level: float) -> float | None:
        """Return ``level``, the rate."""
        return level


@dataclass(frozen=True)
class FakeQuant(ErrorModel):
    """Rounded to a number format and back; the formats are the rows of :mod:`harness.spec.formats`.

    ``scale_rule`` is kept as None for formats without one, and as the rule in force for the others, so that "mxfp4"
    alone prints as ``scale_rule=floor``. Blocks run along the last dimension; on results and inputs every row has a
    tensor scale of its own, since a scale over the whole tensor would depend on what else is in the batch.
    """

    format: str = "fp8_e4m3"
    scale_rule: str | None = None
    rounding: str = ROUNDINGS[0]

    name = "fake_quant"
    computed_by = "harness.numerics.faults:fake_quant"
    replayed_by = "harness.noise.replay.errors:_fake_quant"
    rough = True
    formula = "dequantize(quantize(y, format))"
    expected = "that of the format; harness scan compares it with Gaussian data"

    def __post_init__(self) -> None:
        if not isinstance(self.format, str):
            raise self._refuse("format", "unknown format", "write for example fake_quant(mxfp4)")
        try:
            recipe = Recipe.of(self.format, self.scale_rule, self.rounding)
        except ValueError as error:
            raise NoiseSpecError(f"{error}; in {self.name}") from None
        object.__setattr__(self, "format", recipe.format.name)
        object.__setattr__(self, "scale_rule", recipe.scale_rule)

    @property
    def recipe(self) -> Recipe:
        """Format, scale rule and rounding, checked."""
        return Recipe.of(self.format, self.scale_rule, self.rounding)

    @property
    def grid_step(self) -> float:
        """The step of the format's mantissa, as a fraction of the binade."""
        return 2.0**-self.recipe.format.element.mantissa_bits

    @property
    def random(self) -> bool:  # type: ignore[override]
        """True with stochastic rounding."""
        return self.rounding == "stochastic"

    @property
    def row_statistic(self) -> bool:  # type: ignore[override]
        """True where blocks share a scale, so that an element depends on others of its row."""
        return self.recipe.format.scale != UNSCALED


_MODELS: tuple[type[ErrorModel], ...] = (
    *(RelativeGaussian, AbsoluteGaussian, SystematicBias, RelativeBias, SpreadBias, Truncation, Deadzone),
    *(Saturation, AbsoluteSaturation, Spike, StuckAt, StuckLane, BitFlip, BitFlips, FaultMix),
    *(Nondeterministic, FakeQuant),
)
ERROR_MODELS: Mapping[str, type[ErrorModel]] = MappingProxyType({model.name: model for model in _MODELS})
"""Name in a specification -> error model, of those in the package. A new one is a class here and a row."""

ERROR_GROUP = "robustness_harness.error_models"
"""The group of entry points by which other distributions add error models."""


def error_names() -> tuple[str, ...]:
    """Return the names of all error models: the package's own first, then those of other distributions."""
    return tuple(dict.fromkeys((*ERROR_MODELS, *extensions.names(ERROR_GROUP))))


def error_model(name: str) -> type[ErrorModel] | None:
    """Return the class of the error model ``name``, None where there is none.

    Raises :class:`HarnessError`, naming the distribution, for one of another distribution that cannot be used.
    """
    if name in ERROR_MODELS:
        return ERROR_MODELS[name]
    found: type[ErrorModel] | None = extensions.load_checked(
        ERROR_GROUP, "error model", name, ERROR_MODELS, lambda outside: _fault(name, outside)
    )
    return found


def _fault(name: str, outside: object) -> str:
    """What keeps ``outside`` from being an error model, empty where nothing does."""
    if not isinstance(outside, type) or not issubclass(outside, ErrorModel) or not dataclasses.is_dataclass(outside):
        return "it is no dataclass that derives from harness.spec.ErrorModel"
    lacking = [each for each in ("name", "formula", "expected", "computed_by") if not getattr(outside, each, "")]
    if lacking:
        return f"it has no {lacking[0]}"
    if outside.name != name:
        return f"it calls itself {outside.name!r}"
    if not outside.replayed_by and not outside.not_replayed:
        return "it has neither replayed_by nor not_replayed, which would say why"
    return ""


def make_error(name: str, given: Mapping[str, Any]) -> ErrorModel:
    """Return the error model ``name`` with the fields ``given``.

    Raises :class:`NoiseSpecError` for an unknown name or field and for a value that the model refuses.
    """
    model = error_model(name)
    if model is None:
        raise NoiseSpecError(f"unknown error model {name!r}", nearest(name, error_names()))
    fields = [field.name for field in dataclasses.fields(model)]
    for key in given:
        if key not in fields:
            raise NoiseSpecError(f"unknown parameter {key!r} of {name}", nearest(key, fields) if fields else "")
    return model(**given)
