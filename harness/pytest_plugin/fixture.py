"""What the ``robustness`` fixture does: evaluate once, then judge as often as asked."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import pytest

from harness.baselines.file import Baseline
from harness.exceptions import HarnessError, NotComparableError
from harness.gates import INVALID, PASS, GatePolicy, GateResult, LevelComparison, LevelVerdict, compare_levels
from harness.gates.perplexity import is_continuous, refuse_continuous
from harness.library.gate import attempt_of
from harness.pytest_plugin.evaluations import Evaluations, policy_of
from harness.pytest_plugin.rows import NATS, PROPERTY, VERDICT_PROPERTY, points
from harness.pytest_plugin.settings import SETTINGS
from harness.reports.run_report import run_report, write_reports
from harness.runs.attempts import count_attempt
from harness.runs.loaded import Run
from harness.spec import EvalSpec
from harness.stats import Interval

Properties = list[tuple[str, object]]


@dataclass(frozen=True)
class _Judged:
    """A run against the baseline; ``attempts`` says how often it was gated."""

    run: Run
    result: GateResult
    attempts: str

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.result.notes, *([self.attempts] if self.attempts else []))


_GATED = pytest.StashKey[dict[str, _Judged]]()
"""The verdicts of this process by what was given: every level of a gate asks for the same one."""


def refuse_rerun(request: pytest.FixtureRequest) -> None:
    """Fail a test that runs again after it has judged, whichever plugin repeats it."""
    said = [str(value) for name, value in request.node.user_properties if name == VERDICT_PROPERTY]
    if said:
        refused = f"{said[0]}: a rerun of a statistical test is refused, its first verdict stands; run without reruns"
        raise pytest.fail.Exception(refused, pytrace=False)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Bad input fails the test with one line instead of a traceback; what lacks evidence is INVALID."""
    try:
        yield
    except NotComparableError as error:
        raise pytest.fail.Exception(f"{INVALID}: {error}", pytrace=False) from None
    except (HarnessError, OSError, ValueError) as error:
        raise pytest.fail.Exception(f"harness: {error}", pytrace=False) from None


class Comparison:
    """One level against another; its methods assert and say why. It has no truth value of its own."""

    def __init__(self, found: LevelComparison, note: _Note) -> None:
        self.found = found
        self.judged = False
        self._note = note

    @property
    def difference(self) -> Interval | None:
        """Accuracy difference level - reference (fraction) with its one-sided 95 % bounds."""
        return self.found.difference

    def drop_at_most(self, limit: float) -> bool:
        """Return True where the drop is shown to be below ``limit`` (fraction); else fails the test with the verdict
        FAIL, INCONCLUSIVE or INVALID and its reasons."""
        self.judged = True
        with _one_line():
            judgement = self.found.judge(limit)
        return self._note.demand(
            judgement.verdict,
            judgement.reasons,
            level=self.found.level,
            limit=limit,
            n=self.found.n,
            difference=self.difference,
            against=self.against,
            alpha=self.found.alpha,
        )

    @property
    def against(self) -> str:
        """The other level in words."""
        return "clean" if self.found.against == 0 else f"{100 * self.found.against:g} %"

    def __bool__(self) -> NoReturn:
        raise TypeError(f"a comparison is no verdict; {_JUDGE}")


_JUDGE = "judge it: assert robustness.compare(0.05).drop_at_most(0.03)"


class _Note:
    """Writes what was judged into the test's report, and fails the test unless it is PASS."""

    def __init__(self, properties: Properties, common: Mapping[str, Any]) -> None:
        self._properties, self._common = properties, dict(common)

    def demand(
        self, verdict: str, reasons: Sequence[str], *, difference: Interval | None, n: int, **other: Any
    ) -> bool:
        row = {
            "verdict": verdict,
            "n": n,
            "difference": None if difference is None else difference.to_json(),
            **other,
            "reasons": list(reasons),
            **self._common,
        }
        self._properties += [(PROPERTY, json.dumps(row)), (VERDICT_PROPERTY, f"{verdict} {points(row)}")]
        if verdict == PASS:
            return True
        raise pytest.fail.Exception(f"{verdict} {points(row)}: " + "; ".join(reasons), pytrace=False)


class Robustness:
    """The fixture's object. ``marker`` holds the arguments of ``@pytest.mark.robustness``."""

    def __init__(self, config: pytest.Config, marker: Mapping[str, Any], properties: Properties) -> None:
        self._config, self._marker, self._properties = config, marker, properties
        self._comparisons: list[Comparison] = []
        if not self._evaluations.given["checkpoint"]:
            lacking = "the robustness fixture needs --robustness-checkpoint=PATH; no evidence, no verdict"
            raise pytest.fail.Exception(lacking, pytrace=False)

    @cached_property
    def _evaluations(self) -> Evaluations:
        return self._with()

    def _with(self, **call: Any) -> Evaluations:
        with _one_line():
            return Evaluations(self._config, self._config.stash[SETTINGS].given(self._marker, **call))

    @cached_property
    def baseline(self) -> Baseline | None:
        """The baseline of ``--robustness-baseline``, or None where none was given."""
        with _one_line():
            return self._evaluations.baseline

    @cached_property
    def spec(self) -> EvalSpec:
        """What is evaluated: the call before command line, marker, files, baseline and defaults."""
        with _one_line():
            return self._evaluations.spec

    @cached_property
    def run(self) -> Run:
        """The stored run of the checkpoint, evaluated now or taken from an earlier or parallel one."""
        with _one_line():
            return self._evaluations.run()

    def compare(self, level: float, against: str | float = "clean") -> Comparison:
        """Return ``level`` against ``"clean"`` or another level of the same checkpoint, paired by item (fractions).

        It has to be judged: a test that leaves it without a verdict fails.
        """
        with _one_line():
            reference = 0.0 if against == "clean" else float(against)
            found = Comparison(compare_levels(self.run.arm, level, reference), self._note(self.run))
        self._comparisons.append(found)
        return found

    def gate(self, level: float, margin: float | None = None, nats_margin: float | None = None) -> bool:
        """Return True where ``level`` PASSes against the baseline; else fails the test with verdict and reasons.

        ``margin`` is a fraction; ``nats_margin``, of task ``perplexity``, nats a token.
        """
        with _one_line():
            said = {"margin": margin, "nats_margin": nats_margin}
            own = {name: value for name, value in said.items() if value is not None}
            evaluations = self._with(**own) if own else self._evaluations
            policy = policy_of(evaluations.given)
            judged = self._gated(evaluations, policy)
        entry = next((entry for entry in judged.result.levels if entry.level == level), None)
        if entry is None:
            where = "baseline" if self.baseline is None or level not in self.baseline.arm.outcomes else "run"
            lacking = f"{INVALID} level {100 * level:g} %: the {where} has no such level"
            raise pytest.fail.Exception(lacking, pytrace=False)
        return self._demand(entry, policy, judged)

    def _demand(self, entry: LevelVerdict, policy: GatePolicy, judged: _Judged) -> bool:
        texts = is_continuous(judged.result.baseline["key"])
        limit = policy.nats_margin_at(entry.level) if texts else policy.margin_at(entry.level)
        nats = None if entry.nats is None else entry.nats.lost
        return self._note(judged.run, judged.notes).demand(
            entry.verdict,
            entry.reasons,
            level=entry.level,
            limit=limit,
            n=entry.n,
            difference=nats if texts else entry.difference,
            **({"unit": NATS} if texts else {}),
            against=str(judged.result.baseline["label"]),
            alpha=judged.result.alphas[1],
        )

    def _gated(self, evaluations: Evaluations, policy: GatePolicy) -> _Judged:
        known = self._config.stash.setdefault(_GATED, {})
        asked = repr(sorted(evaluations.given.items()))
        if asked not in known:
            run, result, quick = evaluations.gate(policy)
            assert evaluations.baseline is not None  # else there is no result
            session = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
            attempt = attempt_of(evaluations.baseline, policy, result, session, quick)
            attempts = count_attempt(run.path, attempt)
            known[asked] = _Judged(run, result, attempts)
            with contextlib.suppress(HarnessError):  # a read-only disk takes nothing from the verdict
                write_reports(run.path, run_report(run, result, attempts))
        return known[asked]

    def _note(self, run: Run, notes: Sequence[str] | None = None) -> _Note:
        certificate = run.arm.certificate
        common = {"label": run.arm.label, "run": str(run.path), "certificate": certificate.status}
        return _Note(self._properties, {**common, "notes": list(certificate.notes if notes is None else notes)})

    def accuracy(self, level: float) -> Interval:
        """Return accuracy at ``level`` (fraction) with its one-sided 95 % bounds."""
        from harness.gates.pairing import pair
        from harness.gates.requirements import accuracy

        with _one_line():
            refuse_continuous(self.run.arm.key, f"run {self.run.path}")
        problems = self.run.arm.certificate.problems_at(level)
        if problems:
            raise pytest.fail.Exception(f"{INVALID} level {100 * level:g} %: {'; '.join(problems)}", pytrace=False)
        cells = self.run.arm.outcomes[level]
        pairs = pair(cells, cells, clusters=self.run.arm.clusters)
        return accuracy(pairs, pairs.means()[0], 0.05)

    def check_judged(self) -> None:
        """Fail the test where a comparison was made and left without a verdict."""
        left = [found for found in self._comparisons if not found.judged]
        if left:
            shown = ", ".join(f"{100 * found.found.level:g} % against {found.against}" for found in left)
            raise pytest.fail.Exception(f"a comparison was never judged: {shown}; {_JUDGE}", pytrace=False)
