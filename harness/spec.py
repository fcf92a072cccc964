"""What goes in: the noise specification and the evaluation specification (standard library only).

Scales and levels are fractions: 0.05 is 5 % relative noise.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.exceptions import HarnessError, NoiseSpecError

OPS = {
    "linear": ("linear",),
    "qk": ("qk",),
    "pv": ("pv",),
    "rotary": ("rotary",),
    "matmul": ("qk", "pv"),
}
"""Operator names of a specification -> the operators they stand for (``matmul`` is attention's two products)."""

PROFILES = {"linear": ("linear",), "matmul": ("linear", "qk", "pv")}
KEY_MODES = ("item", "shared")
SCORERS = ("strict", "flexible")
ATTENTIONS = ("auto", "eager", "sdpa")
DTYPES = ("float32", "bfloat16", "float16")
ENGINES = ("transformers",)
DEFAULT_BATCH = 64
"""Sequences decoded together; no result depends on it."""


def nearest(word: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?`` for the closest known word, else the list of them."""
    choices = list(known)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(choices)}"


def number_text(value: float) -> str:
    """The shortest text that reads back as exactly ``value``: ``0``, ``0.05``."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


@dataclass(frozen=True)
class RelativeGaussian:
    """y -> y + scale * y * z with z ~ N(0, 1); the expected relative error (RMS) is ``scale``, a fraction.

    ``None`` leaves the scale to the noise level.
    """

    scale: float | None = None

    name = "relative_gaussian"

    def __post_init__(self) -> None:
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale >= 0):
            raise NoiseSpecError(
                f"scale {self.scale!r} of {self.name}",
                "a scale is a finite fraction >= 0",
                "write for example relative_gaussian(0.05)",
            )

    def __str__(self) -> str:
        return self.name if self.scale is None else f"{self.name}({number_text(self.scale)})"


ErrorModel = RelativeGaussian
ERROR_MODELS: dict[str, type[ErrorModel]] = {RelativeGaussian.name: RelativeGaussian}


@dataclass(frozen=True)
class NoiseSpec:
    """An error model, the operators it acts on and the way its draws are keyed.

    ``key`` is ``item`` (draws differ between items and are independent) or ``shared`` (one "chip": every item
    at a token position sees the same draws, so that noise seeds are crossed with items).
    """

    error: ErrorModel = RelativeGaussian()
    ops: tuple[str, ...] = PROFILES["linear"]
    key: str = "item"

    def __post_init__(self) -> None:
        if not self.ops:
            raise NoiseSpecError("no operator in the noise specification", "at least one is needed", "add op:linear")
        for op in self.ops:
            if op not in OPS:
                raise NoiseSpecError(f"unknown operator {op!r}", "an operator is one of the table", nearest(op, OPS))
        asked = {base for op in self.ops for base in OPS[op]}
        # in the order of the table: the same operators are the same measurement, however they are listed
        object.__setattr__(self, "ops", tuple(op for op in OPS if op in asked))
        if self.key not in KEY_MODES:
            raise NoiseSpecError(
                f"unknown key mode {self.key!r}", "key:item or key:shared", nearest(self.key, KEY_MODES)
            )

    def with_scale(self, scale: float) -> NoiseSpec:
        """The same specification with the error model's scale set (fraction)."""
        return replace(self, error=replace(self.error, scale=scale))

    def __str__(self) -> str:
        key = "" if self.key == "item" else f" key:{self.key}"
        return f"{self.error} @ op:{','.join(self.ops)}{key}"


def parse_noise(text: str) -> NoiseSpec:
    """The specification written as ``relative_gaussian(0.05) @ op:linear,matmul key:item``; inverse of ``str``.

    ``profile:linear`` and ``profile:matmul`` stand for their operators. Raises :class:`NoiseSpecError`.
    """
    head, _, tail = text.partition("@")
    settings: dict[str, Any] = {"error": _parse_error(head.strip(), text)}
    for word in tail.split():
        name, colon, value = word.partition(":")
        if not colon or not value:
            raise NoiseSpecError(f"{word!r} in {text!r}", "each selector is name:value", "write for example op:linear")
        if name not in ("op", "profile", "key"):
            raise NoiseSpecError(f"unknown selector {name!r} in {text!r}", nearest(name, ("op", "profile", "key")))
        field = {"op": "ops", "profile": "ops", "key": "key"}[name]
        if field in settings:
            raise NoiseSpecError(f"{word!r} in {text!r}", "op, profile and key may be given once (op or profile)")
        settings[field] = _parse_selector(name, value)
    return NoiseSpec(**settings)


def _parse_error(head: str, text: str) -> ErrorModel:
    match = re.fullmatch(r"([a-z_]+)(?:\(([^()]*)\))?", head)
    if match is None:
        raise NoiseSpecError(
            f"noise {text!r}", "it reads error_model(scale) @ op:NAME", "relative_gaussian @ op:linear"
        )
    name, scale = match.groups()
    if name not in ERROR_MODELS:
        raise NoiseSpecError(f"unknown error model {name!r}", nearest(name, ERROR_MODELS))
    if scale is None:
        return ERROR_MODELS[name]()
    try:
        return ERROR_MODELS[name](float(scale))
    except ValueError:
        raise NoiseSpecError(f"scale {scale!r} of {name}", "a scale is a number", f"write {name}(0.05)") from None


def _parse_selector(name: str, value: str) -> str | tuple[str, ...]:
    if name == "key":
        return value
    if name == "op":
        return tuple(value.split(","))
    if value not in PROFILES:
        raise NoiseSpecError(f"unknown profile {value!r}", nearest(value, PROFILES))
    return PROFILES[value]


@dataclass(frozen=True)
class EvalSpec:
    """Everything an evaluation does, apart from the checkpoint and where its records go.

    ``items`` counts items (None: all); ``noise_seeds`` counts seeds 0..n-1 per noisy level; ``levels`` are
    fractions in [0, 1), sorted, and level 0 is the clean one. ``data`` is the text of a path, or None.
    """

    task: str
    data: str | None = None
    items: int | None = 200
    item_seed: int = 0
    levels: tuple[float, ...] = (0.0, 0.05, 0.10)
    noise_seeds: int = 5
    noise: NoiseSpec = NoiseSpec()
    scorer: str | None = None
    max_new_tokens: int | None = None
    attention: str = "auto"
    dtype: str = "float32"
    engine: str = "transformers"
    positive_control: bool = True

    def __post_init__(self) -> None:
        if self.items is not None and self.items < 1:
            raise HarnessError(f"--items {self.items}", "at least one item is needed", "give a positive number")
        if self.noise_seeds < 1:
            raise HarnessError(f"--noise-seeds {self.noise_seeds}", "at least one seed is needed", "give 1 or more")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise HarnessError(f"--max-new-tokens {self.max_new_tokens}", "at least one token must be generated")
        object.__setattr__(self, "levels", check_levels(self.levels))
        for option, value, known in (
            ("--scorer", self.scorer, SCORERS),
            ("--attention", self.attention, ATTENTIONS),
            ("--dtype", self.dtype, DTYPES),
            ("--engine", self.engine, ENGINES),
        ):
            if value is not None and value not in known:
                raise HarnessError(f"{option} {value}", nearest(value, known))
        if self.noise.error.scale is not None:
            raise NoiseSpecError(
                f"the noise {self.noise} has a scale and --noise-levels gives another",
                "the scale may come from one place only",
                f"write {replace(self.noise, error=replace(self.noise.error, scale=None))} or drop --noise-levels",
            )

    def seeds_at(self, level: float) -> tuple[int, ...]:
        """The noise seeds run at ``level``: one where there is no noise, else 0..noise_seeds-1."""
        return (0,) if level == 0 else tuple(range(self.noise_seeds))

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, the noise as its one line."""
        return asdict(self) | {"noise": str(self.noise), "levels": list(self.levels)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EvalSpec:
        """The inverse of :meth:`to_json`."""
        return cls(**{**data, "noise": parse_noise(data["noise"]), "levels": tuple(data["levels"])})


def check_levels(levels: Iterable[float]) -> tuple[float, ...]:
    """The levels, sorted; each a fraction in [0, 1), none twice, 0 among them (the clean reference)."""
    found = tuple(sorted(level + 0.0 for level in levels))  # -0.0 becomes 0.0
    for level in found:
        if not (math.isfinite(level) and 0 <= level < 1):
            raise HarnessError(f"noise level {level:g}", "a level is a fraction in [0, 1)", "5 % is written 0.05")
    if len(set(found)) != len(found):
        raise HarnessError(f"noise levels {found}", "a level is given twice", "give each level once")
    if not found or found[0] != 0:
        raise HarnessError(f"noise levels {found}", "level 0 is the clean reference of all others", "add 0")
    return found


def parse_levels(text: str) -> tuple[float, ...]:
    """``"0,0.05,0.10"`` -> levels; raises :class:`HarnessError` for what is not a list of fractions."""
    try:
        return check_levels(float(part) for part in text.split(","))
    except ValueError:
        raise HarnessError(f"noise levels {text!r}", "a comma-separated list of fractions", "0,0.05,0.10") from None
