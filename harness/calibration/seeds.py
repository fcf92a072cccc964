"""Coverage of the intervals over several seeds, training runs, and continuous scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from harness.calibration.coverage import (
    ACCURACIES,
    ALPHA,
    Cell,
    Coverage,
    Effort,
    Setting,
    Stage,
    holds_truth,
    simulated,
)
from harness.calibration.naive import pooled_rows
from harness.stats.bootstrap import private_generator
from harness.stats.checks import Floats
from harness.stats.continuous import continuous_mean, perplexity_ratio
from harness.stats.hierarchical import hierarchical_mean
from harness.stats.interval import Interval
from harness.stats.means import mean_ratio, paired_mean, score_mean
from harness.stats.two_way import two_way_mean
from harness.stats.two_way_ratio import two_way_ratio

SEEDS = 5
TRAINING_SEEDS = (3, 5, 10)
CONCENTRATION = 1.6
"""Of the beta distribution of the items' probabilities: most items are nearly always right or wrong."""

_FEW = (0.93, 1.0)
"""Pinned coverage where few items leave the least half-width to decide."""

_Method = tuple[str, Callable[[Floats], Interval | None], tuple[float, float] | None]
"""Name, interval of one simulated matrix, and its pinned coverage; ``None``: shown failing."""


def _simulate(
    draw: Callable[[np.random.Generator], Floats],
    truth: float,
    methods: tuple[_Method, ...],
    setting: Setting,
    count: int,
) -> tuple[Coverage, ...]:
    rng = private_generator(0, f"{setting}")
    covered = [0] * len(methods)
    for _ in range(count):
        scores = draw(rng)
        for index, (_, interval, _) in enumerate(methods):
            covered[index] += holds_truth(interval(scores), truth)
    return tuple(
        Coverage(name, setting, simulated(hits, count), count, pinned or (0.0, 1.0), shown=pinned is None)
        for (name, _, pinned), hits in zip(methods, covered, strict=True)
    )


def _abilities(rng: np.random.Generator, n: int, accuracy: float) -> Floats:
    if accuracy in (0.0, 1.0):
        return np.full(n, accuracy)
    return rng.beta(accuracy * CONCENTRATION, (1 - accuracy) * CONCENTRATION, n)


def _independent(n: int, accuracy: float, count: int) -> tuple[Coverage, ...]:
    """Draws keyed by item: every cell is drawn by itself, and the items differ."""

    def draw(rng: np.random.Generator) -> Floats:
        return (rng.random((n, SEEDS)) < _abilities(rng, n, accuracy)[:, None]).astype(np.float64)

    # few items that are nearly all right are skewed: their t interval is short of 95 %
    regular = n * min(accuracy, 1 - accuracy) >= 20
    methods: tuple[_Method, ...] = (
        ("item means (t)", lambda x: score_mean(x.mean(axis=1), ALPHA), (0.93, 0.97) if regular else (0.88, 1.0)),
        ("pooled rows", lambda x: pooled_rows(x, ALPHA), None),
    )
    return _simulate(draw, accuracy, methods, Setting(n, accuracy, f"{SEEDS} seeds, draws by item"), count)


def _shared(n: int, accuracy: float, spread: float, count: int) -> tuple[Coverage, ...]:
    """Draws shared by all items: a seed shifts every item of an arm; the difference of two such arms is 0 in truth."""

    def draw(rng: np.random.Generator) -> Floats:
        ability = 0.1 + 0.8 * _abilities(rng, n, accuracy)  # leaves room for the shifts
        sides = []
        for _ in range(2):
            shift = np.clip(rng.normal(0.0, spread, SEEDS), -0.1, 0.1)
            sides.append(rng.random((n, SEEDS)) < ability[:, None] + shift[None, :])
        return sides[0].astype(np.float64) - sides[1]

    pinned = (0.93, 0.97) if n >= 200 else _FEW
    methods: tuple[_Method, ...] = (
        ("two-way item x seed", lambda x: two_way_mean(x, ALPHA), pinned),
        ("item means (seeds fixed)", lambda x: paired_mean(x.mean(axis=1), ALPHA), None),
        ("pooled rows", lambda x: pooled_rows(x, ALPHA), None),
    )
    return _simulate(draw, 0.0, methods, Setting(n, accuracy, f"{SEEDS} shared seeds, seed sd {spread:g}"), count)


def _retention(n: int, accuracy: float, spread: float, count: int) -> tuple[Coverage, ...]:
    """Draws shared by all items, beside one clean outcome per item: items that are right without noise stay right with
    probability 0.8, others become right with 0.2, and a seed shifts them all."""

    def draw(rng: np.random.Generator) -> Floats:
        clean = (rng.random(n) < accuracy).astype(np.float64)
        shift = np.clip(rng.normal(0.0, spread, SEEDS), -0.2, 0.2)
        noisy = rng.random((n, SEEDS)) < np.where(clean > 0, 0.8, 0.2)[:, None] + shift[None, :]
        return np.column_stack([clean, noisy.astype(np.float64)])

    truth = 0.8 + 0.2 * (1 - accuracy) / accuracy
    methods: tuple[_Method, ...] = (
        ("two-way retention", lambda x: two_way_ratio(x[:, 1:], x[:, 0], ALPHA), (0.93, 0.97) if n >= 200 else _FEW),
        ("retention over items (seeds fixed)", lambda x: mean_ratio(x[:, 1:].mean(axis=1), x[:, 0], ALPHA), None),
    )
    return _simulate(draw, truth, methods, Setting(n, accuracy, f"retention, seed sd {spread:g}"), count)


def seed_cells(effort: Effort) -> Stage:
    """Return per-item means where draws are independent, the two-way variance where they are shared, beside pooled
    rows."""
    cells: list[Cell] = [partial(_independent, n, a, effort.matrices) for n in effort.sizes for a in ACCURACIES]
    cells += [partial(_shared, n, a, s, effort.matrices) for n in effort.sizes for a, s in effort.shared_cells]
    cells += [partial(_retention, n, a, s, effort.ratios) for n in effort.sizes for a, s in effort.ratio_cells]
    return Stage("noise seeds", tuple(cells))


def _training(runs: int, n: int, count: int) -> tuple[Coverage, ...]:
    """Training runs with a standard deviation of 3 points, noise seeds of 1 point, items in between."""

    def draw(rng: np.random.Generator) -> Floats:
        run = rng.normal(0.0, 0.03, (runs, 1, 1))
        noise = rng.normal(0.0, 0.01, (runs, 3, 1))
        return np.clip(run + noise + rng.normal(0.0, 0.3, (runs, 3, n)), -1, 1)

    def rows(cube: Floats) -> Interval:
        return pooled_rows(cube.reshape(-1, n).T, ALPHA)

    methods: tuple[_Method, ...] = (
        ("training seed -> noise seed -> item (t)", lambda x: hierarchical_mean(x, ALPHA), (0.93, 0.97)),
        ("pooled rows", rows, None),
    )
    setting = Setting(n, None, f"{runs} training seeds, sd 0.03; 3 noise seeds, sd 0.01")
    return _simulate(draw, 0.0, methods, setting, count)


def _rewards(n: int, count: int) -> tuple[Coverage, ...]:
    """Differences of unbounded rewards with heavy tails (Student's t with 4 degrees of freedom)."""
    methods: tuple[_Method, ...] = (("continuous mean (t)", lambda x: continuous_mean(x, ALPHA), (0.93, 0.985)),)
    return _simulate(lambda rng: rng.standard_t(4, n), 0.0, methods, Setting(n, None, "rewards, heavy tails"), count)


def _perplexities(n: int, count: int) -> tuple[Coverage, ...]:
    """Log-likelihoods of items of 5 to 60 tokens; the second arm is 0.02 nats per token better."""

    def draw(rng: np.random.Generator) -> Floats:
        tokens = rng.integers(5, 61, n).astype(np.float64)
        change = -0.02 * tokens + rng.normal(0.0, 0.3, n) * np.sqrt(tokens)
        return np.stack([change - 2 * tokens, -2 * tokens, tokens])

    methods: tuple[_Method, ...] = (
        (
            "perplexity ratio (log)",
            lambda x: perplexity_ratio(x[0], x[1], x[2], ALPHA),
            (0.9, 0.97) if n < 50 else (0.925, 0.97),
        ),
    )
    return _simulate(draw, float(np.exp(0.02)), methods, Setting(n, None, "5 to 60 tokens per item"), count)


def other_cells(effort: Effort) -> Stage:
    """Return the training runs, rewards and perplexity."""
    cells: list[Cell] = [partial(_training, r, 200, effort.matrices) for r in TRAINING_SEEDS]
    cells += [partial(_rewards, n, effort.matrices) for n in effort.sizes]
    cells += [partial(_perplexities, n, effort.matrices) for n in effort.sizes]
    return Stage("training runs and continuous scores", tuple(cells))
