"""The noise of one actor or reference: which pass is perturbed, whose rows they are, and what was counted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from harness.engines.sessions import Sessions, open_sessions
from harness.noise.ledger import process_name
from harness.training.injection import ACTOR, INDEPENDENT, SAME, TRAINING_FORWARD
from harness.training.recipe import Recipe
from harness.training.verl_plugin.gradients import Flow, cut, watched
from harness.training.verl_plugin.keys import draw_seed
from harness.training.verl_plugin.placed import placed
from harness.training.verl_plugin.plans import CONTROL, PassPlan


@dataclass
class Pass:
    """What happened in one pass since the last report: micro-batches, sequences, and the counts of every site.

    ``gradients`` is what flowed back through quantized modules, of the last of the updates.
    """

    micro_batches: int = 0
    sequences: int = 0
    counts: list[dict[str, Any]] = field(default_factory=list)
    gradients: Flow = field(default_factory=dict)


class ActorNoise:
    """Perturbs the passes that have a plan; the others run untouched, without a hook, and are counted all the same.

    ``probe`` names the pass that the driver runs apart from training, None where it trains.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, plans: Mapping[str, PassPlan]) -> None:
        self.step = 0
        self.probe: str | None = None
        self._model = model
        self._plans = {name: _placed(plan, model) for name, plan in plans.items()}
        self._quantization = recipe.quantization
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
        with open_sessions(self._model, plan.noise, plan.quantizers) as sessions, self._gradients(name, plan):
            self._open = plan, sessions
            try:
                yield
            finally:
                self._open = None
        self._passes[name].counts += [asdict(count) for count in sessions.drain(plan.level)]

    @contextlib.contextmanager
    def _gradients(self, name: str, plan: PassPlan) -> Iterator[None]:
        """Measure what flows back through quantized modules while training, or cut it where the recipe says so."""
        part = self._quantization
        if name != TRAINING_FORWARD or part is None or not plan.quantizers:
            yield
            return
        # a weight and its input are two sites of one module
        sites = {site.module: site.module for quantizer in plan.quantizers for site in quantizer.sites}
        inputs = {site.module: None for each in plan.quantizers if each.spec.at != "weight" for site in each.sites}
        with contextlib.ExitStack() as stack:
            if not part.straight_through:
                stack.enter_context(cut(self._model, list(inputs), part.point))
            flow = stack.enter_context(watched(self._model, sites))
            yield
        self._passes[name].gradients = flow

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
        draws = INDEPENDENT if self.probe == CONTROL else self._draws
        seed = draw_seed(self._seed, self.step, ACTOR, draws)
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


def _placed(plan: PassPlan, model: nn.Module) -> PassPlan:
    return PassPlan(placed(plan.noise, model), tuple(placed(each, model) for each in plan.quantizers), plan.level)
