"""What all error models have in common: a name, fields that are checked, a strength that a noise level sets."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

from harness.exceptions import NoiseSpecError
from harness.spec.formats import Recipe
from harness.text import number_text

RELATIVE, ABSOLUTE = "relative", "absolute"
"""Kinds of Gaussian error: y + level * y * z and y + level * z."""


@dataclass(frozen=True)
class ErrorModel:
    """What all error models have. ``strength`` names the field that a noise level sets, None where there is none.

    ``unit`` says what that field and the noise levels are in: ``fraction``, or ``value`` for the unit of y.
    ``random`` models draw; ``fresh`` models draw anew on every call; ``row_statistic`` models use the largest
    magnitude or the standard deviation of a token's row, so that they need rows of full width. Numbers are kept as
    floats. Fields outside their range, or of another type, raise :class:`NoiseSpecError`.

    What audits and replays need to know of a model stands here too. ``gaussian`` is ``relative`` for y + level * y * z
    and ``absolute`` for y + level * z, where z can be recovered from a result; else empty. ``per_row`` is False where
    draws belong to features, so that rows of different keys get the same. ``rough`` models are no smooth function of a
    value: its last bit may move the result by a whole step. ``breaks`` ones may make NaN or infinity of a number.
    ``not_replayed`` says in words why no second computation can repeat the noise; empty where one can.

    The formulas, as ``module:function`` that is loaded when it is needed (here is no torch): ``computed_by`` is
    ``(model, x, key, strength) -> tensor`` of :func:`harness.numerics.error_models.perturb`, ``replayed_by`` the same
    ``(model, x, rows, columns, strength) -> tensor`` written a second time, of
    :func:`harness.noise.replay.errors.perturbed`; empty only where ``not_replayed`` says why.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    expected: ClassVar[str]
    strength: ClassVar[str | None] = None
    unit: ClassVar[str] = "fraction"
    fresh: ClassVar[bool] = False
    random: ClassVar[bool] = True
    row_statistic: ClassVar[bool] = False
    gaussian: ClassVar[str] = ""
    per_row: ClassVar[bool] = True
    rough: ClassVar[bool] = False
    breaks: ClassVar[bool] = False
    not_replayed: ClassVar[str] = ""
    computed_by: ClassVar[str] = ""
    replayed_by: ClassVar[str] = ""

    @property
    def level(self) -> float | None:
        """The value of the strength field; None where it is left to the noise level, 1.0 where there is no such
        field (the model is then on)."""
        value: float | None = 1.0 if self.strength is None else getattr(self, self.strength)
        return value

    def at(self, level: float) -> ErrorModel:
        """Return the same model at the strength ``level``. A model without a strength field is on at any level above
        0."""
        if self.strength is None:
            return self
        return dataclasses.replace(self, **{self.strength: level})

    @property
    def without_level(self) -> ErrorModel:
        """The same model with its strength left to the noise level."""
        return self if self.strength is None else dataclasses.replace(self, **{self.strength: None})

    def expected_relative_rms(self, level: float) -> float | None:
        """Return the RMS of (y' - y) / y to expect at ``level`` (fraction), None where it depends on the data."""
        return level if self.gaussian == RELATIVE else None

    def expected_rms(self, level: float) -> float | None:
        """Return the RMS of y' - y (unit of y) to expect at ``level``, None where it depends on the data."""
        return level if self.gaussian == ABSOLUTE else None

    def expected_share(self, level: float) -> float | None:
        """Return the share of all elements (fraction) that ``level`` changes, None where it depends on the data."""
        return None

    @property
    def draws_per_row(self) -> bool:
        """True where two rows of different keys must not get the same noise."""
        return self.random and self.per_row

    @property
    def recipe(self) -> Recipe | None:
        """The format, scale rule and rounding of models that round to a format; None for all others."""
        return None

    @property
    def grid_step(self) -> float:
        """The largest relative distance (fraction) of neighbours on the grid that results lie on; 0 without a grid."""
        return 0.0

    def __str__(self) -> str:
        words = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == self.strength:
                if value is not None:
                    words.append(number_text(value))
            elif value != field.default:
                words.append(f"{field.name}={number_text(value) if isinstance(value, int | float) else value}")
        return f"{self.name}({', '.join(words)})" if words else self.name

    def _refuse(self, field: str, rule: str, way_out: str) -> NoiseSpecError:
        return NoiseSpecError(f"{field} {getattr(self, field)!r} of {self.name}", rule, way_out)

    def _number(self, field: str, low: float, high: float, rule: str, *, without: float | None = None) -> None:
        """Checks that a number is finite and in [low, high], ``without`` that end, and keeps it as a float.

        None passes for a strength.
        """
        value = getattr(self, field)
        if value is None and field == self.strength:
            return
        number = _finite(value)
        if number is None or not low <= number <= high or number == without:
            raise self._refuse(field, rule, f"write for example {self.example(field)}")
        object.__setattr__(self, field, number)

    @classmethod
    def example(cls, field: str) -> str:
        """Return a specification that sets the number ``field``: ``spike(0.05, magnitude=1)``."""
        words = [] if cls.strength is None else ["0.05"]
        return f"{cls.name}({', '.join(words if field == cls.strength else [*words, f'{field}=1'])})"


def _finite(value: object) -> float | None:
    """``value`` as a float, None for what is not a finite number; -0.0 becomes 0.0, which prints alike."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value) + 0.0
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
