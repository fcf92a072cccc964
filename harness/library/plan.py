"""Calls that tell what a noise would perturb and what a gate could detect, before anything runs: ``harness plan``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.baselines.book import load_named
from harness.baselines.file import Baseline
from harness.checkpoints.modes import MERGED
from harness.exceptions import HarnessError
from harness.gates.forecast import (
    ASSUMED_DISCORDANCE,
    Forecast,
    forecast,
    forecast_tasks,
    joint_odds,
    joint_sentence,
)
from harness.gates.forecast_divergence import DivergenceForecast, both_odds, both_sentence, forecast_divergences
from harness.gates.keys import asked_with
from harness.gates.perplexity import check_rules
from harness.gates.policy import GatePolicy
from harness.gates.tasks import check_together
from harness.library.divergence import measured
from harness.library.gate_both import reference_of
from harness.library.gate_tasks import by_task
from harness.spec import ATTENTIONS, DTYPES, NoiseSpec, nearest
from harness.spec.reading import read_noises


@dataclass(frozen=True)
class PlanOptions:
    """How the model is had: ``tokens`` of the forward pass to count for, and what an evaluation is told as well.

    Noise limited to some tokens has a share of a sequence: of ``tokens`` in its prompt and ``new_tokens`` generated
    ones (None: no share is told).

    Raises :class:`HarnessError` on a value outside its range.
    """

    tokens: int = 1
    base: Path | None = None
    adapter: str = MERGED
    attention: str = "auto"
    dtype: str = "float32"
    device: str | None = None
    new_tokens: int | None = None

    def __post_init__(self) -> None:
        """Check every value that is not checked when the model is loaded."""
        if self.new_tokens is not None and self.new_tokens < 1:
            raise HarnessError(f"--new-tokens {self.new_tokens}", "an answer has at least one token", "give 1 or more")
        if self.tokens < 1:
            raise HarnessError(f"--tokens {self.tokens}", "a pass has at least one token", "give 1 or more")
        for option, known in (("attention", ATTENTIONS), ("dtype", DTYPES)):
            value = getattr(self, option)
            if value not in known:
                raise HarnessError(f"--{option} {value}", nearest(value, known))


@dataclass(frozen=True)
class Power:
    """What a gate against a baseline can tell at each level, and as a whole."""

    levels: tuple[Forecast, ...]
    asked: str = ""
    """With what the items are asked, where they are not asked as they stand."""
    distributions: tuple[DivergenceForecast, ...] = ()
    """What it can tell of distributions, where these are judged too."""

    @property
    def sentence(self) -> str:
        """The odds of the whole gate in words."""
        return both_sentence(self.levels, self.distributions) if self.distributions else joint_sentence(self.levels)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        levels = [level.to_json() for level in self.levels]
        beside: dict[str, Any] = {"asked_with": self.asked} if self.asked else {}
        if self.distributions:
            beside["distributions"] = [level.to_json() for level in self.distributions]
        return {"power": levels, "whole_gate": both_odds(self.levels, self.distributions).to_json(), **beside}


def plan(
    noise: str | Sequence[NoiseSpec],
    checkpoint: Path | str | None = None,
    config: Path | str | None = None,
    options: PlanOptions | None = None,
) -> dict[str, Any]:
    """Return as JSON types what ``noise`` perturbs in a ``checkpoint``, or in the model of a ``config`` alone.

    ``noise`` is one specification, several separated by ``;``, a ``.toml`` file, or the objects. For each: sites,
    expected injections, the share of the matrix products, an estimate of the cost, and what is left alone and why.

    Raises :class:`harness.exceptions.HarnessError`, also unless exactly one of ``checkpoint`` and ``config`` is given.
    """
    if (checkpoint is None) == (config is None):
        raise HarnessError("a plan", "it is made for a checkpoint or for a configuration", "give exactly one of them")
    options = options or PlanOptions()
    noises = read_noises(noise) if isinstance(noise, str) else tuple(noise)
    from harness.evaluate.planning import from_checkpoint, from_config, plan_report

    if checkpoint is not None:
        source = from_checkpoint(Path(checkpoint), noises, vars(options))
    else:
        source = from_config(Path(str(config)), noises, vars(options))
    return plan_report(source, noises, options.tokens, options.new_tokens)


def power(
    baseline: Baseline | Path | str,
    policy: GatePolicy | None = None,
    discordance: float = ASSUMED_DISCORDANCE,
    baselines_dir: Path | str = "baselines",
    divergences: Path | None = None,
) -> Power:
    """Return what a gate under ``policy`` against ``baseline`` (a file, or a name in ``baselines_dir``) can tell.

    ``discordance`` is the share of outcomes that differ between two runs, where the baseline has one draw (fraction);
    ``divergences`` the reference of distributions of a policy with a ``kl_margin`` (default: the one beside the
    baseline). Raises :class:`harness.exceptions.HarnessError`.
    """
    policy = policy or GatePolicy()
    held = baseline if isinstance(baseline, Baseline) else load_named(Path(baselines_dir), str(baseline))
    check_rules(policy, [held.arm.key])
    levels = sorted(policy.levels or held.arm.outcomes)
    policy.check_judged(levels)
    reference = reference_of(policy, held, baseline, divergences, Path(baselines_dir))
    beside = () if reference is None else forecast_divergences(measured(reference), policy, levels)
    alarms = len(levels) + len(beside) if beside else None
    return Power(forecast(held.arm, policy, discordance, alarms), asked_with(held.arm.key), beside)


@dataclass(frozen=True)
class TasksPower:
    """What a gate over the baselines of several tasks can tell: of each, and as a whole."""

    tasks: Mapping[str, Power]

    @property
    def levels(self) -> tuple[Forecast, ...]:
        """Those of all tasks."""
        return tuple(level for each in self.tasks.values() for level in each.levels)

    @property
    def sentence(self) -> str:
        """The odds of the whole gate in words."""
        return joint_sentence(self.levels, len(self.tasks))

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for strict JSON."""
        tasks = {task: each.to_json() for task, each in self.tasks.items()}
        return {"tasks": tasks, "whole_gate": joint_odds(self.levels).to_json()}


def power_tasks(
    baselines: Sequence[Baseline | Path | str],
    policy: GatePolicy | None = None,
    discordance: float = ASSUMED_DISCORDANCE,
    baselines_dir: Path | str = "baselines",
) -> TasksPower:
    """Return what a gate under one ``policy`` over the ``baselines`` of several tasks can tell.

    Alarms are adjusted over the levels of all of them. The rest is as in :func:`power`.
    """
    policy = policy or GatePolicy()
    check_together(policy)
    held = by_task(
        [each if isinstance(each, Baseline) else load_named(Path(baselines_dir), str(each)) for each in baselines]
    )
    check_rules(policy, [each.arm.key for each in held.values()])
    policy.check_judged({level for each in held.values() for level in policy.levels or each.arm.outcomes})
    found = forecast_tasks({task: each.arm for task, each in held.items()}, policy, discordance)
    return TasksPower({task: Power(levels, asked_with(held[task].arm.key)) for task, levels in found.items()})
