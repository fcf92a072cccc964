"""What the ``robustness`` fixture does: evaluate once, then judge as often as asked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness.baselines.book import load_named
from harness.baselines.file import Baseline
from harness.exceptions import HarnessError
from harness.gates import PASS, GatePolicy, GateResult, Judgement, LevelComparison, compare_levels, gate
from harness.pytest_plugin.plugin import PROPERTY
from harness.record import Arm
from harness.reports.tables import percent
from harness.runs.loaded import Run, is_run, load_run
from harness.spec import EvalSpec, default_levels, nearest, parse_levels, parse_noise
from harness.stats import Interval

MARKER_FIELDS = ("task", "data", "items", "noise", "noise_levels", "noise_seeds")
Properties = list[tuple[str, object]]


def named_baseline(config: pytest.Config) -> Baseline:
    """The baseline of ``--baseline`` under ``--baselines-dir``."""
    return load_named(Path(config.getoption("--baselines-dir")), config.getoption("--baseline"))


def base_spec(baseline: Baseline | None) -> EvalSpec:
    """The specification of ``baseline``; the default one where there is none, or it is external."""
    if baseline is None or baseline.spec is None:
        return EvalSpec("arith")
    return EvalSpec.from_json(dict(baseline.spec))


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Bad input fails the test with one line instead of a traceback."""
    try:
        yield
    except (HarnessError, OSError, ValueError) as error:
        pytest.fail(f"harness: {error}", pytrace=False)


class Comparison:
    """One level against another; its methods assert and say why."""

    def __init__(self, found: LevelComparison, properties: Properties) -> None:
        self.found = found
        self._properties = properties

    @property
    def difference(self) -> Interval | None:
        """Accuracy difference level - reference (fraction) with its one-sided 95 % bounds."""
        return self.found.difference

    def drop_at_most(self, limit: float) -> bool:
        """True where the drop is shown to be below ``limit`` (fraction); else fails the test with the verdict
        FAIL, INCONCLUSIVE or INVALID and its reasons."""
        with _one_line():
            judgement = self.found.judge(limit)
        against = "clean" if self.found.against == 0 else f"{100 * self.found.against:g} %"
        _note(
            self._properties, self.found.level, judgement.verdict, self.found.n, self.difference, f"against {against}"
        )
        return _demand(judgement, f"{self.found.label} at {100 * self.found.level:g} %")


class Robustness:
    """The fixture's object. ``marker`` holds the arguments of ``@pytest.mark.robustness``."""

    def __init__(self, config: pytest.Config, marker: Mapping[str, Any], properties: Properties) -> None:
        for name in marker:
            if name not in MARKER_FIELDS:
                pytest.fail(f"robustness({name}=...): no such argument; {nearest(name, MARKER_FIELDS)}", pytrace=False)
        if not config.getoption("--checkpoint"):
            pytest.fail("the robustness fixture needs --checkpoint PATH; no evidence, no verdict", pytrace=False)
        self._config = config
        self._marker = marker
        self._properties = properties

    @cached_property
    def baseline(self) -> Baseline | None:
        """The baseline of ``--baseline``, or None where none was given."""
        return named_baseline(self._config) if self._config.getoption("--baseline") else None

    @cached_property
    def spec(self) -> EvalSpec:
        """What is evaluated: command line before marker before baseline before defaults."""
        base = base_spec(self.baseline)
        changes: dict[str, Any] = {}
        for field, option in (("task", "task"), ("data", "data"), ("items", "items"), ("noise_seeds", "noise_seeds")):
            given = self._config.getoption(option)
            changes[field] = given if given is not None else self._marker.get(field)
        changes["engine"] = self._config.getoption("engine")
        noise = parse_noise(self._marker["noise"]) if "noise" in self._marker else base.noise
        changes["noise"] = noise
        levels = self._config.getoption("--noise-levels")
        if levels is not None:
            changes["levels"] = parse_levels(levels, noise.error)
        elif "noise_levels" in self._marker:
            changes["levels"] = tuple(self._marker["noise_levels"])
        elif noise.error.strength is None:
            changes["levels"] = default_levels(noise.error)
        return replace(base, **{name: value for name, value in changes.items() if value is not None})

    @cached_property
    def run(self) -> Run:
        """The stored run of the checkpoint, evaluated now or taken from an earlier or parallel one."""
        from harness.cli.gate_verb import default_run_folder

        checkpoint = Path(self._config.getoption("--checkpoint"))
        # not rootpath: pytest guesses that from existing paths on its command line, --checkpoint among them
        folder = self._config.invocation_params.dir / self._config.getoption("--robustness-dir")
        with _one_line():
            out = default_run_folder(checkpoint, self.spec, folder)
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{out.name}.lock"):
                finished = load_run(out) if is_run(out) else None
                if finished is not None and finished.complete:
                    return finished
                return self._evaluate(checkpoint, out)

    def _evaluate(self, checkpoint: Path, out: Path) -> Run:
        from harness.cli.evaluation import evaluate_with_progress

        capture = self._config.pluginmanager.getplugin("capturemanager")
        if capture is None or hasattr(self._config, "workerinput"):
            return evaluate_with_progress(checkpoint, self.spec, out)
        with capture.global_and_fixture_disabled():
            return evaluate_with_progress(checkpoint, self.spec, out)

    def compare(self, level: float, against: str | float = "clean") -> Comparison:
        """``level`` against ``"clean"`` or another level of the same checkpoint, paired by item (fractions)."""
        with _one_line():
            reference = 0.0 if against == "clean" else float(against)
            return Comparison(compare_levels(self.run.arm, level, reference), self._properties)

    def gate(self, level: float, margin: float | None = None) -> bool:
        """True where ``level`` PASSes against ``--baseline``; else fails the test with verdict and reasons."""
        result = self._gate_result(self._config.getoption("--margin") if margin is None else margin)
        entry = next((entry for entry in result.levels if entry.level == level), None)
        if entry is None:
            pytest.fail(f"INVALID: the baseline has no level {level:g}", pytrace=False)
        _note(self._properties, level, entry.verdict, entry.n, entry.difference, result.baseline["label"])
        return _demand(Judgement(entry.verdict, entry.reasons), f"level {100 * level:g} %")

    def _gate_result(self, margin: float) -> GateResult:
        if self.baseline is None:
            pytest.fail("robustness.gate needs --baseline NAME; no evidence, no verdict", pytrace=False)
        with _one_line():
            return gate(self.run.arm, restricted(self.baseline.arm, self.run), GatePolicy(margin=margin))

    def accuracy(self, level: float) -> Interval:
        """Accuracy at ``level`` (fraction) with its one-sided 95 % bounds."""
        from harness.gates.pairing import pair
        from harness.gates.parts import accuracy

        problems = self.run.arm.certificate.problems_at(level)
        if problems:
            pytest.fail(f"INVALID level {100 * level:g} %: {'; '.join(problems)}", pytrace=False)
        cells = self.run.arm.outcomes[level]
        pairs = pair(cells, cells)
        return accuracy(pairs.means()[0], pairs.binary, 0.05)


def restricted(arm: Arm, run: Run) -> Arm:
    """``arm`` without the levels, items and seeds that ``run`` was not asked for: choosing fewer is no gap."""
    identity = run.manifest["identity"]
    items, levels = set(identity["items"]), set(identity["levels"])
    kept = {
        level: {
            item: {seed: outcome for seed, outcome in row.items() if level == 0 or seed < identity["noise_seeds"]}
            for item, row in cells.items()
            if item in items
        }
        for level, cells in arm.outcomes.items()
        if level in levels
    }
    return replace(arm, outcomes=kept)


def _demand(judgement: Judgement, subject: str) -> bool:
    if judgement.verdict == PASS:
        return True
    pytest.fail(f"{judgement.verdict} {subject}: " + "; ".join(judgement.reasons), pytrace=False)


def _note(
    properties: Properties, level: float, verdict: str, n: int, difference: Interval | None, against: str
) -> None:
    row = {
        "level": level,
        "verdict": verdict,
        "n": n,
        "difference": None if difference is None else difference.to_json(),
        "against": against,
    }
    properties.append((PROPERTY, json.dumps(row)))


def summary_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table of the terminal summary, levels ascending."""
    lines = [f"{'level':>6}  {'verdict':<13}{'n':>5}  {'difference pp':<24}against"]
    for row in sorted(rows, key=lambda row: (row["against"], row["level"])):
        lines.append(
            f"{100 * row['level']:>4g} %  {row['verdict']:<13}{row['n']:>5}  "
            f"{percent(row['difference'], signed=True):<24}{row['against']}"
        )
    return lines
