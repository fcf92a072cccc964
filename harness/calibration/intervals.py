"""Are the intervals what they say? Coverage of each, simulated or computed, beside intervals that are not."""

from __future__ import annotations

from collections.abc import Callable

from harness.calibration.binary import bootstrap_cells, pair_cells, proportion_cells
from harness.calibration.coverage import FAST, THOROUGH, Coverage, Effort, Stage
from harness.calibration.seeds import other_cells, seed_cells

__all__ = ["FAST", "THOROUGH", "Coverage", "Effort", "Stage", "coverage_stages", "run_stage", "unproven"]

SHOWN_FAILING_BELOW = 0.9
"""An interval that is shown failing has a coverage below this in some cell."""


def coverage_stages(effort: Effort = FAST) -> tuple[Stage, ...]:
    """Return every stage of the coverage tables, in the order of the report; nothing runs yet."""
    return (
        proportion_cells(effort),
        pair_cells(effort),
        bootstrap_cells(effort),
        seed_cells(effort),
        other_cells(effort),
    )


def run_stage(stage: Stage, advance: Callable[[int], None] | None = None) -> tuple[Coverage, ...]:
    """Simulate every cell of ``stage``; ``advance(1)`` is called after each. Equal calls give equal results."""
    found: list[Coverage] = []
    for cell in stage.cells:
        found += cell()
        if advance is not None:
            advance(1)
    return tuple(found)


def unproven(found: tuple[Coverage, ...]) -> tuple[str, ...]:
    """Return the names of intervals that are shown as failing but did not fail anywhere."""
    least: dict[str, float] = {}
    for cell in found:
        if cell.shown:
            least[cell.interval] = min(least.get(cell.interval, 1.0), cell.share.estimate)
    return tuple(name for name, share in least.items() if share >= SHOWN_FAILING_BELOW)
