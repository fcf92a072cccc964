"""When a layer counts as damaged: against what its format gives on Gaussian data, and by the sources' fixed limits.

All limits are here. The calibrated policy asks whether the data suit the format; the sources' policy asks for
absolute figures, some of which a 4-bit format cannot reach on any data of this shape, so that it is always shown with
the list of those. Source of the fixed limits: the project's review of its sources, sections "choosing what to do about
a quantization format" and "when to use AQN and how strong".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.diagnostics.scan_result import LayerScan, Metrics, ModuleScan, ScanResult, combine
from harness.diagnostics.scan_spec import CALIBRATED, SOURCES

SQNR_MARGIN_DB = 1.0
"""A loss of 1 dB is 26 % more error energy. Chance does not come near it: a module of 4,096 Gaussian elements scatters
by 0.1 to 0.2 dB (standard deviation, by format), one of 768 by 0.3 dB."""

SHARE_RATIO, SHARE_MARGIN = 1.5, 0.01
"""Dead zone and saturation may reach 1.5 times what Gaussian data give, and 1 percentage point beyond: heavier tails
move both by a few tenths, and a format with almost none of either would else be flagged for a handful of elements."""

LEAST_SQNR_DB, MOST_DEAD_ZONE, MOST_SATURATION, MOST_RELATIVE = 20.0, 0.05, 0.01, 0.10
"""The sources' limits: SQNR in dB, the others as fractions."""

FEW_LAYERS, MANY_LAYERS = 0.10, 0.30
"""The sources' shares of problematic layers between which their strategy changes."""

NAN_FLAG = "NaN or infinite values"


@dataclass(frozen=True)
class Verdict:
    """What a policy says of one format: the flagged layers with their reasons, and one sentence.

    ``unattainable`` lists the limits of the sources that this format does not meet on Gaussian data either.
    """

    policy: str
    format: str
    what: str
    layers: int
    flagged: dict[str, tuple[str, ...]]
    summary: str
    unattainable: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Flagged layers as a fraction of all."""
        return len(self.flagged) / self.layers if self.layers else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {
            **vars(self),
            "flagged": {name: list(reasons) for name, reasons in self.flagged.items()},
            "unattainable": list(self.unattainable),
            "share": self.share,
        }


def calibrated_flags(metrics: Metrics, expected: Metrics, nonfinite: int = 0) -> tuple[str, ...]:
    """Return why the calibrated policy flags a tensor, nothing where it does not; the relative error is not asked."""
    found = [NAN_FLAG] if nonfinite else []
    if metrics.sqnr_db < expected.sqnr_db - SQNR_MARGIN_DB:
        found.append(f"SQNR {expected.sqnr_db - metrics.sqnr_db:.1f} dB below Gaussian")
    for word, value, usual in (
        ("dead zone", metrics.dead_zone, expected.dead_zone),
        ("saturation", metrics.saturation, expected.saturation),
    ):
        if value > SHARE_RATIO * usual + SHARE_MARGIN:
            found.append(f"{word} {100 * value:.1f} % where Gaussian gives {100 * usual:.1f} %")
    return tuple(found)


def sources_flags(metrics: Metrics, nonfinite: int = 0) -> tuple[str, ...]:
    """Return which of the sources' limits a tensor breaks."""
    found = [NAN_FLAG] if nonfinite else []
    if metrics.sqnr_db < LEAST_SQNR_DB:
        found.append(f"SQNR {metrics.sqnr_db:.1f} < {LEAST_SQNR_DB:g} dB")
    for word, value, most in (
        ("dead zone", metrics.dead_zone, MOST_DEAD_ZONE),
        ("saturation", metrics.saturation, MOST_SATURATION),
        ("relative error", metrics.mean_relative, MOST_RELATIVE),
    ):
        if value > most:
            found.append(f"{word} {100 * value:.1f} > {100 * most:g} %")
    return tuple(found)


def judge(result: ScanResult, policy: str, fmt: str, what: str) -> Verdict:
    """Return what ``policy`` says of the layers of ``result`` under ``fmt``."""
    layers = result.layers(fmt, what)
    if policy == CALIBRATED:
        return _calibrated(result, fmt, what, layers)
    assert policy == SOURCES
    return _sources(fmt, what, layers)


def sigma_guide(sqnr: float, dead_zone: float) -> tuple[str, str]:
    """Return the sources' strength and priority of adaptive quantization noise at an SQNR (dB) and dead zone
    (fraction)."""
    if math.isnan(sqnr):
        return "unknown", "nothing was measured"
    if sqnr < 18:
        return "0.05 -> 0.0005", "critical"
    if sqnr <= 20 and dead_zone > 0.10:
        return "0.02 -> 0.0005", "recommended"
    if sqnr <= 22:
        return "0.01 -> 0.0001", "optional"
    return "none", "skip"


def module_flags(module: ModuleScan) -> tuple[str, ...]:
    """Return why the calibrated policy flags a module."""
    return calibrated_flags(module.metrics, module.expected, module.nonfinite)


def layer_flags(layer: LayerScan) -> tuple[str, ...]:
    """Return why the calibrated policy flags a block: its own reasons, else those of its modules by name."""
    own = calibrated_flags(layer.metrics, layer.expected, layer.nonfinite)
    if own:
        return own
    return tuple(
        f"{module.module.removeprefix(layer.group + '.')}: {reason}"
        for module in layer.modules
        for reason in module_flags(module)
    )


def _calibrated(result: ScanResult, fmt: str, what: str, layers: Sequence[LayerScan]) -> Verdict:
    flagged = {layer.group: reasons for layer in layers if (reasons := layer_flags(layer))}
    name = result.full_name(fmt)
    if flagged:
        come = "comes" if len(flagged) == 1 else "come"
        summary = f"{len(flagged)} of {len(layers)} layers {come} through {name} worse than Gaussian data"
    else:
        summary = f"all {len(layers)} layers come through {name} as well as Gaussian data"
    return Verdict(CALIBRATED, fmt, what, len(layers), flagged, summary)


def _sources(fmt: str, what: str, layers: Sequence[LayerScan]) -> Verdict:
    flagged = {layer.group: reasons for layer in layers if (reasons := sources_flags(layer.metrics, layer.nonfinite))}
    share = len(flagged) / len(layers) if layers else 0.0
    if share < FEW_LAYERS:
        strategy = "mixed precision: keep them in FP16"
    elif share <= MANY_LAYERS:
        strategy = "mixed: FP16 for the worst, AQN for the moderate"
    else:
        strategy = "reconsider the format, try MXFP8"
    known = [layer.metrics for layer in layers if not math.isnan(layer.metrics.sqnr_db)]
    middle = median([metrics.sqnr_db for metrics in known]) if known else math.nan
    dead = median([metrics.dead_zone for metrics in known]) if known else math.nan
    sigma, priority = sigma_guide(middle, dead)
    summary = (
        f"{len(flagged)} of {len(layers)} layers problematic ({100 * share:.0f} %): {strategy}; "
        f"noise guide at the median SQNR of {middle:.1f} dB: sigma {sigma} ({priority})"
    )
    return Verdict(SOURCES, fmt, what, len(layers), flagged, summary, sources_flags(expected_of(layers)))


def expected_of(layers: Sequence[LayerScan]) -> Metrics:
    """Return what the format gives on Gaussian data of the scales of all ``layers`` together."""
    modules = [module for layer in layers for module in layer.modules]
    return combine((module.expected, module.energy, float(module.error.elements)) for module in modules)
