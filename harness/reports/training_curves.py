"""The curves of a training run as SVG files: score, distance of rollout and actor, gradient, entropy, answers, AQN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.reports.line_chart import Axis, Series, chart, write_chart


@dataclass(frozen=True)
class Curve:
    """One chart: its file, its title, its axis, and metric -> name of the series."""

    file: str
    title: str
    axis: Axis
    metrics: Mapping[str, str]


CURVES = (
    Curve("reward", "Reward of the rollouts", Axis("mean score"), {"critic/score/mean": "training rollouts"}),
    Curve(
        "apart",
        "Rollout against actor",
        Axis("k3_kl, nats per token (magnitude)", log=True),
        {"rollout_corr/k3_kl": "training rollouts", "robust/validation_k3_kl": "clean validation"},
    ),
    Curve("gradient", "Gradient norm", Axis("norm before clipping", log=True), {"actor/grad_norm": "actor"}),
    Curve("entropy", "Entropy", Axis("nats per token"), {"actor/entropy": "actor"}),
    Curve(
        "length", "Length of answers", Axis("tokens"), {"response_length/mean": "mean", "response_length/max": "max"}
    ),
    Curve("sigma", "AQN", Axis("sigma of the rollouts"), {"robust/aqn_sigma": "sigma"}),
)
VALIDATION = Curve("validation", "Validation, greedy", Axis("mean score"), {})


def curves(metrics: Mapping[int, Mapping[str, Any]], validations: Sequence[tuple[int, float]]) -> dict[str, str]:
    """Return file name -> SVG of every curve of which ``metrics`` (by step) tell."""
    found = {}
    for curve in CURVES:
        series = tuple(Series(name, _points(metrics, metric, curve.axis.log)) for metric, name in curve.metrics.items())
        found[f"{curve.file}.svg"] = _drawn(curve, series)
    found[f"{VALIDATION.file}.svg"] = _drawn(VALIDATION, (Series("clean", tuple(validations)),))
    return {name: svg for name, svg in found.items() if svg}


def write_curves(
    folder: Path, metrics: Mapping[int, Mapping[str, Any]], validations: Sequence[tuple[int, float]]
) -> tuple[Path, ...]:
    """Write :func:`curves` into ``folder``; return the files."""
    drawn = curves(metrics, validations)
    for name, svg in drawn.items():
        write_chart(folder / name, svg)
    return tuple(folder / name for name in drawn)


def _points(metrics: Mapping[int, Mapping[str, Any]], name: str, log: bool) -> tuple[tuple[float, float], ...]:
    told = ((step, float(metrics[step][name])) for step in sorted(metrics) if name in metrics[step])
    return tuple((float(step), abs(value) if log else value) for step, value in told)


def _drawn(curve: Curve, series: Sequence[Series]) -> str:
    shown = [each for each in series if any(curve.axis.shows(value) for _, value in each.points)]
    return chart(curve.title, Axis("step"), curve.axis, shown) if shown else ""
