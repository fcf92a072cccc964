"""The tables and sentences of a scan, as rows of text (no torch)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.diagnostics.policies import Verdict, judge, layer_flags, module_flags, sources_flags
from harness.diagnostics.scan_result import LayerScan, ModuleScan, ScanResult, short_names
from harness.diagnostics.scan_spec import CALIBRATED, POLICIES, SOURCES
from harness.reports.plan_page import left_out_rows
from harness.reports.tables import percent
from harness.runs.dequantized import dequantized_sentence

GAUSSIAN = "Gaussian"
LAYER_HEADER = (
    *("layer", "modules", "SQNR dB", f"{GAUSSIAN} dB", "difference dB", f"dead zone % ({GAUSSIAN})"),
    *(f"saturated % ({GAUSSIAN})", "mean relative %", CALIBRATED, SOURCES),
)
MODULE_HEADER = (
    *("module", "layer", "SQNR dB", f"{GAUSSIAN} dB", "difference dB", "dead zone %", "saturated %"),
    *("median relative %", "cosine", "RMS", "NaN / Inf", CALIBRATED),
)
LAYER_SPARE = (
    *(
        "mean relative %",
        "modules",
        f"saturated % ({GAUSSIAN})",
        f"dead zone % ({GAUSSIAN})",
        f"{GAUSSIAN} dB",
        SOURCES,
    ),
)
MODULE_SPARE = (
    *("RMS", "median relative %", "cosine", "saturated %", "dead zone %", "layer", f"{GAUSSIAN} dB", "NaN / Inf"),
)
EFFECT_SPARE = ("answers changed", "lost / gained", "accuracy %")
EFFECT_HEADER = ("layer alone", "KL nats", "accuracy %", "difference pp", "lost / gained", "answers changed")
LEFT_OUT_HEADER = ("tensor", "count", "reason")
HOW = (
    "Gaussian: what the format gives on Gaussian rows of the same root mean squares and length. Relative errors count "
    "every element of the dead zone as 100 %: reported, not used by the calibrated policy."
)
HOW_EFFECT = (
    "Each layer quantized alone, ranked by KL; in brackets one-sided 95 % bounds over items. Lost / gained: items right"
    " only before / only with it."
)
_OK = "ok"
_FIGURES = re.compile(r" [-+\d].*")
_SHOWN = 8


def checkpoint_line(result: ScanResult) -> str:
    """Return what was scanned, in one line."""
    checkpoint = result.checkpoint
    adapter = checkpoint["adapter"]
    with_adapter = f", adapter {adapter['mode']} on {adapter['base']}" if adapter else ""
    return f"{checkpoint['model']} ({checkpoint['path']}{with_adapter}), weights {checkpoint['weights'][:16]}"


def origin_line(result: ScanResult) -> str | None:
    """Return what is said first of a checkpoint whose weights were quantized before; None for any other."""
    said = dequantized_sentence(result.checkpoint)
    return f"{result.checkpoint['path']}: {said}" if said else None


def title(result: ScanResult, fmt: str, what: str) -> str:
    """Return ``weights in mxfp4 (scale rule floor)``."""
    return f"{what} in {result.full_name(fmt)}"


def ranked_layers(result: ScanResult, fmt: str, what: str) -> list[LayerScan]:
    """Return the layers, the flagged ones first, by how far they fall below Gaussian data."""
    layers = result.layers(fmt, what)
    return sorted(layers, key=lambda layer: (not layer_flags(layer), _worst_first(layer.margin_db)))


def layer_rows(result: ScanResult, fmt: str, what: str) -> list[tuple[str, ...]]:
    """Return one row for each layer, worst first."""
    layers = ranked_layers(result, fmt, what)
    names = short_names(layer.group for layer in layers)
    return [
        (
            names[layer.group],
            str(len(layer.modules)),
            *_decibels(layer),
            _beside(layer.metrics.dead_zone, layer.expected.dead_zone),
            _beside(layer.metrics.saturation, layer.expected.saturation),
            _percent(layer.metrics.mean_relative),
            _words(layer_flags(layer)),
            _words(sources_flags(layer.metrics, layer.nonfinite)),
        )
        for layer in layers
    ]


def module_rows(result: ScanResult, fmt: str, what: str) -> list[tuple[str, ...]]:
    """Return one row for each module, worst first."""
    modules = [module for module in result.modules if (module.format, module.what) == (fmt, what)]
    modules.sort(key=lambda module: (not module_flags(module), _worst_first(_margin(module))))
    names = short_names(module.group for module in modules)
    return [
        (
            module.module,
            names[module.group],
            decimal(module.metrics.sqnr_db, 2),
            decimal(module.expected.sqnr_db, 2),
            decimal(_margin(module), 2, signed=True),
            _percent(module.metrics.dead_zone),
            _percent(module.metrics.saturation),
            _percent(module.error.median_relative),
            decimal(module.error.cosine, 5),
            f"{module.rms:.3g}",
            f"{module.nonfinite:,}",
            _words(module_flags(module)),
        )
        for module in modules
    ]


def effect_rows(result: ScanResult, fmt: str) -> list[tuple[str, ...]]:
    """Return one row for each layer quantized alone, the largest KL first."""
    effects = result.ranked_effects(fmt)
    names = short_names(effect.group for effect in effects)
    return [
        (
            names[effect.group],
            kl_text(effect.kl),
            percent(effect.accuracy),
            percent(effect.difference, signed=True),
            f"{effect.lost} / {effect.gained}",
            f"{effect.changed_answers} of {effect.items}",
        )
        for effect in effects
    ]


def effect_title(result: ScanResult, fmt: str) -> str:
    """Return what is quantized and on what it was measured."""
    first = next(effect for effect in result.effects if effect.format == fmt)
    what = "weights and activations" if first.what == "both" else first.what
    task = (result.settings["task"] or {}).get("name")
    return (
        f"One layer's {what} in {result.full_name(fmt)}: {first.items} items of {task}, {first.positions:,} positions"
    )


def verdicts(result: ScanResult) -> list[Verdict]:
    """Return both policies for every format and what was measured."""
    return [
        judge(result, policy, fmt, what) for fmt in result.formats for what in result.measured for policy in POLICIES
    ]


def verdict_lines(result: ScanResult, fmt: str, what: str) -> list[str]:
    """Return both policies in sentences, with what the fixed limits cannot tell."""
    calibrated, sources = (judge(result, policy, fmt, what) for policy in POLICIES)
    lines = [f"{CALIBRATED}: {_summary(result, calibrated)}", f"{SOURCES}: {sources.summary}"]
    if sources.unattainable:
        beyond = {word(limit) for limit in sources.unattainable}
        idle = sum({word(reason) for reason in reasons} <= beyond for reasons in sources.flagged.values())
        said = (
            f", so that {idle} of the {len(sources.flagged)} flags alone say nothing of the checkpoint" if idle else ""
        )
        lines.append(
            f"{SOURCES}: limits that {result.full_name(fmt)} does not meet on Gaussian data either{said}: "
            f"{', '.join(sources.unattainable)}"
        )
    return lines


def summary_lines(result: ScanResult, policy: str) -> list[str]:
    """Return the last word of the policy that was chosen, a line for each format and what was measured."""
    return [
        f"{policy} policy, {title(result, fmt, what)}: {_summary(result, judge(result, policy, fmt, what))}"
        for fmt in result.formats
        for what in result.measured
    ]


def nonfinite_line(result: ScanResult) -> str | None:
    """Return a warning where weights or activations hold NaN or infinity."""
    spoiled = {(module.what, module.module): module.nonfinite for module in result.modules if module.nonfinite}
    if not spoiled:
        return None
    (what, first), count = next(iter(spoiled.items()))
    return (
        f"warning: {sum(spoiled.values()):,} NaN or infinite values in {len(spoiled)} tensors, the first is {first} "
        f"({what}, {count:,}); their blocks are in no metric"
    )


def clean_line(result: ScanResult) -> str:
    """Return accuracy without quantization."""
    return f"clean accuracy: {percent(result.clean)} %"


def left_out(result: ScanResult) -> list[tuple[str, ...]]:
    """Return what was not scanned, alike tensors in one row."""
    return left_out_rows({**result.excluded, **result.unmeasured})


def kl_text(interval: Mapping[str, Any]) -> str:
    """Return ``0.0152 [0.0093, 0.0233]``."""
    values = [interval[name] for name in ("estimate", "low", "high")]
    if values[0] is None:
        return "no number"
    return "{} [{}, {}]".format(*(small(value) for value in values))


def small(value: float | None) -> str:
    """Return a divergence with two or three digits that matter, without an exponent where it can be read."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.1e}" if 0 < abs(value) < 1e-4 else f"{value:.4f}"


def decimal(value: float, digits: int, signed: bool = False) -> str:
    """Return a number, a dash for NaN, ``inf`` where nothing changed; never ``-0.00``."""
    if math.isnan(value):
        return "-"
    return f"{value:{'+' if signed else ''}z.{digits}f}"


def word(reason: str) -> str:
    """Return the name of the limit without its figures: ``dead zone``, ``mlp.down_proj: SQNR``."""
    return _FIGURES.sub("", reason)


def _words(reasons: Sequence[str]) -> str:
    """``SQNR, dead zone``: the figures stand in other columns."""
    return ", ".join(word(reason) for reason in reasons) or _OK


def _percent(value: float) -> str:
    return decimal(100 * value, 2)


def _beside(value: float, expected: float) -> str:
    """``8.55 (8.39)``: measured, and what Gaussian data give."""
    return f"{_percent(value)} ({_percent(expected)})"


def _decibels(layer: LayerScan) -> tuple[str, str, str]:
    measured, expected = layer.metrics.sqnr_db, layer.expected.sqnr_db
    return decimal(measured, 2), decimal(expected, 2), decimal(layer.margin_db, 2, signed=True)


def _margin(module: ModuleScan) -> float:
    return module.metrics.sqnr_db - module.expected.sqnr_db


def _worst_first(margin: float) -> float:
    return -math.inf if math.isnan(margin) else margin


def _summary(result: ScanResult, verdict: Verdict) -> str:
    if verdict.policy != CALIBRATED or not verdict.flagged:
        return verdict.summary
    names = short_names(layer.group for layer in result.layers(verdict.format, verdict.what))
    shown = [names[group] for group in verdict.flagged]
    more = "" if len(shown) <= _SHOWN else f" and {len(shown) - _SHOWN} more"
    numbers = "layer " if shown[0].isdigit() else ""
    return f"{verdict.summary}: {numbers}{', '.join(shown[:_SHOWN])}{more}"
