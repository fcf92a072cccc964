"""Dose and effect of AQN: accuracy, KL from the clean model per token and entropy against sigma, paired by item.

Every draw is applied to the model in memory and taken back; its dose is proven as everywhere. Items share the noise of
a draw, so that intervals span both items and draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.aqn.config import AqnConfig, constant
from harness.aqn.dose_file import OFF, state_of
from harness.aqn.holder import ModuleHolder
from harness.aqn.session import Aqn
from harness.aqn.targets import KINDS, LINEAR, NORMS, Targets, kind_of
from harness.diagnostics.aqn_fit import Fit, fit_kl
from harness.diagnostics.aqn_pairs import TASK as PAIRS
from harness.diagnostics.aqn_pairs import PairProbe, load_pairs
from harness.diagnostics.aqn_probe import AnswerProbe, Probe
from harness.diagnostics.scan_store import ScanStore
from harness.evaluate.checkpoint import load_checkpoint
from harness.evaluate.prepared import prepare
from harness.exceptions import HarnessError
from harness.noise import environment
from harness.progress import Silent, Watcher
from harness.spec import EvalSpec
from harness.stats import Interval, two_way_mean, wilson
from harness.stats.checks import REAL

CLEAN, DRAW = "clean", "draw"


@dataclass(frozen=True)
class ResponseSpec:
    """What to measure: the evaluation (its items and task), the sigmas, the draws of each, the groups of targets."""

    checkpoint: Path
    evaluation: EvalSpec
    sigmas: tuple[float, ...]
    draws: int = 5
    groups: tuple[str, ...] = ("norms", "linears")
    mode: str = "absolute"
    seed: int = 0
    batch_size: int = 64
    prefix: str | None = None

    def __post_init__(self) -> None:
        if len(self.sigmas) < 2 or list(self.sigmas) != sorted(set(self.sigmas)):
            raise HarnessError(f"sigmas {list(self.sigmas)}", "they are two or more, rising", "write 0.001,0.01,0.1")
        if self.draws < 1:
            raise HarnessError(f"--draws {self.draws}", "each sigma needs one at least", "give 5")
        if self.batch_size < 1:
            raise HarnessError(f"--batch-size {self.batch_size}", "a batch holds at least one item", "give 1 or more")
        for sigma in self.sigmas:
            constant(sigma)
        if self.prefix is not None and self.evaluation.task != PAIRS:
            raise HarnessError(f"--prefix with --task {self.evaluation.task}", f"it is for {PAIRS}", "drop it")

    def to_json(self) -> dict[str, Any]:
        """Return what the numbers depend on."""
        names = ("sigmas", "draws", "groups", "mode", "seed")
        found = {name: getattr(self, name) for name in names}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in found.items()}


@dataclass(frozen=True)
class Cell:
    """One sigma on one group: intervals over items and draws. ``accuracy`` and ``change`` (noisy less clean) are
    fractions, ``kl`` and ``entropy`` nats per token. ``relative`` is the largest sigma / spread of a layer."""

    group: str
    sigma: float
    layers: int
    relative: float
    kl: Interval
    entropy: Interval
    accuracy: float
    change: Interval
    conditional: bool

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        numbers = {name: getattr(self, name) for name in ("group", "sigma", "layers", "relative", "accuracy")}
        intervals = {name: getattr(self, name).to_json() for name in ("kl", "entropy", "change")}
        return numbers | intervals | {"conditional": self.conditional}


@dataclass(frozen=True)
class Response:
    """All cells, the clean figures, and for every group the prediction KL(sigma) and whether it held."""

    spec: ResponseSpec
    items: int
    tokens: int
    accuracy: Interval
    entropy: float
    cells: tuple[Cell, ...]
    fits: Mapping[str, Fit] = field(default_factory=dict)
    dtype: str = "float32"

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        clean = {"accuracy": self.accuracy.to_json(), "entropy": self.entropy}
        return {
            "spec": self.spec.to_json(),
            "task": self.spec.evaluation.task,
            "items": self.items,
            "tokens": self.tokens,
            "dtype": self.dtype,
            "clean": clean,
            "cells": [cell.to_json() for cell in self.cells],
            "fits": {group: fit.to_json() for group, fit in self.fits.items()},
        }


def respond(spec: ResponseSpec, out: Path | None = None, watcher: Watcher | None = None) -> Response:
    """Measure as ``spec`` says; with ``out``, every finished draw is kept there and not done again.

    Raises :class:`HarnessError` for bad input, for a dose that is not met, and in a process whose ``HARNESS_NOISE``
    would perturb the clean arm too.
    """
    environment.refuse("a dose response")
    watcher = watcher or Silent()
    probe, model, identity = _prepared(spec)
    identity |= {"aqn response": spec.to_json(), "items": probe.keys}
    with ScanStore.open(out, identity) as store:
        _measure(spec, probe, model, store, watcher)
        return _judged(spec, store)


def _prepared(spec: ResponseSpec) -> tuple[Probe, Any, dict[str, Any]]:
    """The items, the model, and what identifies both."""
    evaluation = spec.evaluation
    if evaluation.task == PAIRS:
        pairs, dataset = load_pairs(evaluation.data, evaluation.items, evaluation.item_seed)
        checkpoint = load_checkpoint(spec.checkpoint, evaluation.dtype)
        state = state_of(checkpoint.source)
        pair_probe = PairProbe(checkpoint, pairs, spec.prefix, spec.batch_size)
        key = {"task": PAIRS, "dataset": dataset, "dtype": evaluation.dtype, "prefix": pair_probe.prefix}
        probe: Probe = pair_probe
    else:
        prepared = prepare(spec.checkpoint, evaluation)
        if prepared.requests:
            rule, way_out = "a dose response generates answers", f"--task {PAIRS} takes minimal pairs, as of BLiMP"
            raise HarnessError(f"--task {evaluation.task} scores given texts", rule, way_out)
        checkpoint, state, key = prepared.checkpoint, prepared.aqn, prepared.key
        probe = AnswerProbe(prepared, spec.batch_size)
    if state != OFF:
        raise HarnessError(f"checkpoint {spec.checkpoint}", "it is a perturbed copy", "give the clean one")
    return probe, checkpoint.model, {"key": key, "weights": checkpoint.fingerprint}


def _cases(spec: ResponseSpec) -> list[tuple[str, float, int]]:
    return [(group, sigma, draw) for group in spec.groups for sigma in spec.sigmas for draw in range(spec.draws)]


def _key(case: tuple[str, float, int]) -> tuple[str, ...]:
    return (DRAW, *map(str, case))


def _measure(spec: ResponseSpec, probe: Probe, model: Any, store: ScanStore, watcher: Watcher) -> None:
    cases = _cases(spec)
    left = [case for case in cases if store.get(*_key(case)) is None]
    if not left and store.get(CLEAN) is not None:
        return
    items = len(probe.keys)
    watcher.cost(f"{len(left)} of {len(cases)} draws to measure, each over {items} items")
    watcher.stage(CLEAN, items)
    store.add(asdict(probe.clean(watcher.advance)), CLEAN)
    watcher.stage("draws", len(cases) * items, (len(cases) - len(left)) * items)
    for group, sigma, draw in left:
        config = AqnConfig(constant(sigma), _targets(group, model), mode=spec.mode, seed=spec.seed + draw, force=True)
        aqn = Aqn(ModuleHolder(model), config)
        with aqn.applied(0) as dose:
            layers = dose.layers
        found = probe.under(lambda aqn=aqn: aqn.applied(0), watcher.advance)  # type: ignore[misc]
        largest = max(layer.relative for layer in layers)
        store.add(asdict(found) | {"layers": len(layers), "relative": largest}, *_key((group, sigma, draw)))


def _targets(group: str, model: Any) -> Targets:
    if group in KINDS:
        return Targets((group,))
    if group == "linears":
        return Targets((LINEAR,))
    there = {kind_of(type(module)) for module in model.modules()}
    return Targets(tuple(kind for kind in NORMS if kind in there) or NORMS)


def _judged(spec: ResponseSpec, store: ScanStore) -> Response:
    clean = store.get(CLEAN)
    cells = []
    for group in spec.groups:
        for sigma in spec.sigmas:
            draws = [store.get(*_key((group, sigma, draw))) for draw in range(spec.draws)]
            cells.append(_cell(group, sigma, clean, draws))
    fits = {
        group: fit_kl(spec.sigmas, [cell.kl.estimate for cell in cells if cell.group == group]) for group in spec.groups
    }
    right = clean["right"]
    return Response(
        spec,
        items=len(right),
        tokens=clean["tokens"],
        accuracy=wilson(sum(right), len(right)),
        entropy=sum(clean["entropy"]) / len(right),
        cells=tuple(cells),
        fits=fits,
        dtype=spec.evaluation.dtype,
    )


def _cell(group: str, sigma: float, clean: Mapping[str, Any], draws: Sequence[Mapping[str, Any]]) -> Cell:
    def table(name: str) -> list[list[float]]:
        return [list(row) for row in zip(*(draw[name] for draw in draws), strict=True)]

    changes = [[noisy - before for noisy in row] for before, row in zip(clean["right"], table("right"), strict=True)]
    kl = two_way_mean(table("kl"), limits=REAL)
    right = sum(sum(draw["right"]) for draw in draws)
    return Cell(
        group,
        sigma,
        draws[0]["layers"],
        max(draw["relative"] for draw in draws),
        kl,
        two_way_mean(table("entropy"), limits=REAL),
        right / (len(draws) * len(clean["right"])),
        two_way_mean(changes),
        kl.conditional,
    )
