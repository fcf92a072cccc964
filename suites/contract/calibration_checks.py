"""What the calibration tests ask of simulated cells."""

from __future__ import annotations

from collections.abc import Iterable

from harness.calibration.intervals import Coverage, Effort, coverage_stages, run_stage, unproven


def cells_of(effort: Effort, *names: str) -> tuple[Coverage, ...]:
    """The simulated cells of the stages named; every pinned one holds and every one shown failing fails."""
    stages = [stage for stage in coverage_stages(effort) if stage.name in names]
    assert len(stages) == len(names)
    found = tuple(cell for stage in stages for cell in run_stage(stage))
    broken = [(cell.interval, cell.setting, cell.share, cell.pinned) for cell in found if not cell.holds]
    assert not broken
    assert unproven(found) == ()
    return found


def shares(found: Iterable[Coverage], interval: str, least_n: int = 0, spread: str = "") -> list[float]:
    """Coverages of ``interval`` from ``least_n`` items on, in settings that mention ``spread``."""
    return [
        cell.share.estimate
        for cell in found
        if cell.interval == interval and cell.setting.n >= least_n and spread in cell.setting.spread
    ]


def mean(values: list[float]) -> float:
    assert values
    return sum(values) / len(values)
