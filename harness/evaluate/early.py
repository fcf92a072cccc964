"""An evaluation that stops as soon as its gate is decided: items in seeded random order, block by block."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.evaluate.prepared import Prepared
from harness.gates.early import EarlyPlan
from harness.gates.early_runs import is_finished
from harness.record import Arm
from harness.runs.loaded import Run, outcomes
from harness.runs.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EarlyStopping:
    """The rule by which an evaluation stops, and the ``baseline`` that its gate will hold it against."""

    plan: EarlyPlan
    baseline: Arm

    def ordered(self, prepared: Prepared) -> Prepared:
        """Return ``prepared`` with its items in the order in which they are evaluated; its manifest names the rule."""
        items = {item.key: item for item in prepared.items}
        return replace(prepared, items=tuple(items[key] for key in self.plan.order(set(items))), early=self.plan)

    def parts(self, prepared: Prepared, store: Store) -> Iterator[Prepared]:
        """Yield block after block of the items, each at all levels and seeds, until every judged level is decided.

        What is decided is computed from the stored records after each block, so that a resumed evaluation stops where
        an uninterrupted one does.
        """
        items = {item.key: item for item in prepared.items}
        seen: list[str] = []
        for block in self.plan.blocks(set(items)):
            yield replace(prepared, items=tuple(items[key] for key in block))
            seen += block
            found = self.plan.look(outcomes(store.results()), self.baseline.outcomes, seen, len(items))
            log.debug("%s", found.label)
            if found.decided:
                return

    def finished(self, run: Run) -> bool:
        """Return whether ``run`` was evaluated by this rule up to its end."""
        return is_finished(run, self.plan, self.baseline)
