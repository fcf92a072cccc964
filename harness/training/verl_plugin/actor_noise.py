"""The noise of one actor or reference: which pass is perturbed, whose rows they are, and what was counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from harness.engines.sessions import Sessions, open_sessions
from harness.noise.ledger import process_name
from harness.training.injection import ACTOR, SAME
from harness.training.recipe import Recipe
from harness.training.verl_plugin.keys import draw_seed
from harness.training.verl_plugin.plans import PassPlan


@dataclass
class Pass:
    """What happened in one pass since the last report: micro-batches, sequences, and the counts of every site."""

    micro_batches: int = 0
    sequences: int = 0
    counts: list[dict[str, Any]] = field(default_factory=list)


class ActorNoise:
    """Perturbs the passes that have a plan; the others run untouched, without a hook, and are counted all the same."""

    def __init__(self, model: nn.Module, recipe: Recipe, plans: Mapping[str, PassPlan]) -> None:
        self.step = 0
        self._model = model
        self._plans = plans
        self._draws = SAME if recipe.noise is None else recipe.noise.draws
        self._seed = recipe.run.seed
        self._passes: dict[str, Pass] = {}
        self._open: tuple[PassPlan, Sessions] | None = None
        self._micro = 0

    @contextlib.contextmanager
    def during(self, name: str) -> Iterator[None]:
        """Run the pass ``name`` inside: its hooks are there from here to the end of its backward."""
        plan = self._plans.get(name)
        self._passes.setdefault(name, Pass())
        self._name = name
        if plan is None:
            yield
            return
        with open_sessions(self._model, plan.noise, plan.quantizers) as sessions:
            self._open = plan, sessions
            try:
                yield
            finally:
                self._open = None
        self._passes[name].counts += [asdict(count) for count in sessions.drain(plan.level)]

    @contextlib.contextmanager
    def rows(self, items: Sequence[str]) -> Iterator[None]:
        """Name the sequences of the micro-batch that runs inside."""
        done = self._passes[self._name]
        done.micro_batches += 1
        done.sequences += len(items)
        self._micro += 1
        if self._open is None:
            yield
            return
        plan, sessions = self._open
        seed = draw_seed(self._seed, self.step, ACTOR, self._draws)
        with sessions.noise.step(self.step, self._micro), sessions.batch(items, [seed] * len(items), plan.level):
            yield

    def report(self) -> dict[str, Any]:
        """Return what was done since the last report, by pass, and forget it; plain data."""
        done, self._passes = self._passes, {}
        return {
            "process": process_name(),
            "side": ACTOR,
            "step": self.step,
            "passes": {name: asdict(each) for name, each in done.items()},
            "sites": {name: [site.name for site in plan.noise.sites] for name, plan in self._plans.items()},
        }
