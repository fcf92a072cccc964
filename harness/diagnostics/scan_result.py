"""The result of a scan as plain data (no torch): modules, layers, the effect of each layer, and where it came from."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.quant_error import QuantError, sqnr_db
from harness.spec.formats import find_format

SCHEMA_VERSION = 1
OUTSIDE = "outside the layers"
"""The group of the modules that lie in no numbered block."""

_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Metrics:
    """The metrics that policies judge by (fractions and dB), as measured or as expected on Gaussian data."""

    sqnr_db: float
    dead_zone: float
    saturation: float
    mean_relative: float

    def to_json(self) -> dict[str, Any]:
        """Return NaN and infinity as their names, which JSON has no numbers for."""
        return plain(asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Metrics:
        """Return the inverse of :meth:`to_json`."""
        return cls(**{name: float(value) for name, value in data.items()})


@dataclass(frozen=True)
class ModuleScan:
    """One tensor, or the inputs of one module, under one format.

    ``module`` is the path in the model (of a part that the model fuses: the stored name), ``group`` the block that it
    lies in, ``what`` weights or activations, ``format`` a row of :data:`harness.spec.formats.FORMATS`. ``shape`` and
    ``dtype`` are those stored, for activations (tokens, features). ``digest`` are 16 hex digits of SHA-256 over dtype,
    shape and bytes of the weight. ``nonfinite`` counts NaN and infinite elements; ``rms`` is of the finite ones.
    ``expected`` is what the format gives on Gaussian data whose rows have the same root mean squares and length.
    """

    module: str
    group: str
    what: str
    format: str
    shape: tuple[int, ...]
    dtype: str
    digest: str
    nonfinite: int
    rms: float
    error: QuantError
    expected: Metrics

    @property
    def metrics(self) -> Metrics:
        """The measured ones that policies judge by."""
        error = self.error
        return Metrics(error.sqnr_db, error.dead_zone, error.saturation, error.mean_relative)

    @property
    def energy(self) -> float:
        """Sum of squares of the finite elements."""
        finite = self.error.elements - self.error.spoiled
        return self.rms**2 * finite if finite else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("error", "expected")}
        return {
            **plain(own | {"shape": list(self.shape)}),
            "error": self.error.to_json(),
            "expected": self.expected.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModuleScan:
        """Return the inverse of :meth:`to_json`."""
        return cls(
            **{
                **data,
                "shape": tuple(data["shape"]),
                "rms": float(data["rms"]),
                "error": QuantError.from_json(data["error"]),
                "expected": Metrics.from_json(data["expected"]),
            }
        )


@dataclass(frozen=True)
class LayerScan:
    """All modules of one block together, under one format: energies and counts added up."""

    group: str
    what: str
    format: str
    modules: tuple[ModuleScan, ...]
    metrics: Metrics
    expected: Metrics

    @property
    def nonfinite(self) -> int:
        """NaN and infinite elements in the block."""
        return sum(module.nonfinite for module in self.modules)

    @property
    def margin_db(self) -> float:
        """Measured minus expected SQNR in dB: negative is worse than Gaussian data."""
        return self.metrics.sqnr_db - self.expected.sqnr_db


@dataclass(frozen=True)
class LayerEffect:
    """What quantizing one block alone does to the model's own answers.

    ``kl`` (nats) is the mean over items of the item's mean over its answer positions of KL(clean || quantized), the
    model fed its own clean greedy answer; ``accuracy`` that of greedy answers with the block quantized;
    ``difference`` its paired difference to clean, lost and gained items counted. Intervals are dictionaries with
    ``estimate``, ``low`` and ``high``, each bound one-sided 95 %, items being the clusters.
    """

    group: str
    format: str
    what: str
    items: int
    positions: int
    kl: Mapping[str, Any]
    accuracy: Mapping[str, Any]
    difference: Mapping[str, Any]
    lost: int
    gained: int
    changed_answers: int

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        return plain(asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LayerEffect:
        """Return the inverse of :meth:`to_json`."""
        return cls(**data)


@dataclass(frozen=True)
class ScanResult:
    """Everything a scan found.

    ``checkpoint`` holds path, model class and the SHA-256 of weights and settings; ``settings`` what the numbers
    depend on; ``excluded`` maps every stored tensor that was not scanned to the reason; ``unmeasured`` what has
    weights but whose inputs cannot be reached; ``clean`` the accuracy without quantization.
    """

    checkpoint: Mapping[str, Any]
    settings: Mapping[str, Any]
    modules: tuple[ModuleScan, ...]
    effects: tuple[LayerEffect, ...] = ()
    excluded: Mapping[str, str] = field(default_factory=dict)
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    clean: Mapping[str, Any] | None = None

    @property
    def formats(self) -> tuple[str, ...]:
        """The names of the formats, in the order asked for."""
        return tuple(self.settings["formats"])

    def full_name(self, name: str) -> str:
        """Return the format with its scale rule: ``mxfp4 (scale rule floor)``."""
        return find_format(name).full_name(self.settings["scale_rules"][name])

    @property
    def measured(self) -> tuple[str, ...]:
        """``weights``, ``activations`` or both, as far as there are modules."""
        return tuple(dict.fromkeys(module.what for module in self.modules))

    def layers(self, fmt: str, what: str) -> tuple[LayerScan, ...]:
        """Return the blocks under one format, in the order of the model."""
        groups: dict[str, list[ModuleScan]] = {}
        for module in self.modules:
            if (module.format, module.what) == (fmt, what):
                groups.setdefault(module.group, []).append(module)
        return tuple(_layer(group, groups[group]) for group in sorted(groups, key=natural))

    def ranked_effects(self, fmt: str) -> tuple[LayerEffect, ...]:
        """Return the effects under one format, the largest KL first; what is not a number comes before all."""
        found = [effect for effect in self.effects if effect.format == fmt]
        return tuple(sorted(found, key=lambda effect: -_largest(effect.kl["estimate"])))

    def to_json(self) -> dict[str, Any]:
        """Return the stored form; verdicts and layers are added by the report, since they follow from it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "checkpoint": dict(self.checkpoint),
            "settings": dict(self.settings),
            "modules": [module.to_json() for module in self.modules],
            "effects": [effect.to_json() for effect in self.effects],
            "excluded": dict(self.excluded),
            "unmeasured": dict(self.unmeasured),
            "clean": None if self.clean is None else dict(self.clean),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ScanResult:
        """Return the inverse of :meth:`to_json`; raises ValueError for another schema version."""
        if data.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"schema version {data.get('schema_version')!r}; this harness reads {SCHEMA_VERSION}")
        return cls(
            data["checkpoint"],
            data["settings"],
            tuple(ModuleScan.from_json(module) for module in data["modules"]),
            tuple(LayerEffect.from_json(effect) for effect in data["effects"]),
            data["excluded"],
            data["unmeasured"],
            data["clean"],
        )


def natural(text: str) -> tuple[Any, ...]:
    """Return a sort key that puts layer 2 before layer 10, and what lies outside the layers last."""
    parts = _NUMBERS.split(text)
    return text == OUTSIDE, [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def short_names(groups: Iterable[str]) -> dict[str, str]:
    """Group -> what tables call it: the number alone where all numbered groups share their container."""
    names = list(dict.fromkeys(groups))
    containers = {name.rpartition(".")[0] for name in names if name != OUTSIDE}
    if len(containers) == 1:
        return {name: name if name == OUTSIDE else name.rpartition(".")[2] for name in names}
    return {name: name for name in names}


def plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``data`` with NaN and infinity as their names."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in data.items()
    }


def combine(parts: Iterable[tuple[Metrics, float, float]]) -> Metrics:
    """Return the metrics of several tensors together from (metrics, energy, elements) of each.

    Signal and error energies add up; shares are weighted by elements. What is NaN (nothing to measure) has no weight.
    """
    known = [(metrics, energy, count) for metrics, energy, count in parts if not math.isnan(metrics.sqnr_db)]
    signal = sum(energy for _, energy, _ in known)
    error = sum(energy * 10 ** (-metrics.sqnr_db / 10) for metrics, energy, _ in known)
    shares = [
        _weighted([(getattr(metrics, name), count) for metrics, _, count in known])
        for name in ("dead_zone", "saturation", "mean_relative")
    ]
    return Metrics(sqnr_db(signal, error), *shares)


def _weighted(values: Iterable[tuple[float, float]]) -> float:
    found = [(value, weight) for value, weight in values if not math.isnan(value)]
    total = sum(weight for _, weight in found)
    return sum(value * weight for value, weight in found) / total if total else math.nan


def _layer(group: str, modules: list[ModuleScan]) -> LayerScan:
    counts = [float(module.error.elements - module.error.spoiled) for module in modules]
    weighted = list(zip(modules, counts, strict=True))
    first = modules[0]
    return LayerScan(
        group,
        first.what,
        first.format,
        tuple(modules),
        combine((module.metrics, module.energy, count) for module, count in weighted),
        combine((module.expected, module.energy, count) for module, count in weighted),
    )


def _largest(value: float | None) -> float:
    return math.inf if value is None else value
