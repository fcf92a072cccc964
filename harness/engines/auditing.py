"""Looks on while a batch is generated: audits the forwards that were chosen, prefill and decode apart.

Where continuations are scored every forward is a prefill, and one of those of each request number is audited, chosen by
the same rule; each by itself, because the requests of an item share their draws.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.noise.audit.auditor import Auditor
from harness.noise.audit.check import Booked, check_audit, check_booked
from harness.noise.audit.comparing import formula_of
from harness.noise.audit.draws import Draws
from harness.noise.audit.operands import OperandAuditor, check_operands
from harness.noise.audit.selecting import Selected
from harness.record import DECODE, PREFILL, SiteCount
from harness.runs.choice import Choice
from harness.runs.store import Audit

if TYPE_CHECKING:
    from harness.engines.likelihood import Part
    from harness.engines.protocol import Batch, Evaluation
    from harness.engines.sessions import Sessions


class Watch:
    """The auditors of one batch. The injector is not told: an audited forward runs the code of every other one."""

    def __init__(self, evaluation: Evaluation, session: Sessions, batch: Batch, choice: Choice) -> None:
        self._batch, self._choice, self._ledger = batch, choice, session.noise.ledger
        self._lengths = [len(prompt.tokens) for prompt in batch.prompts]
        self._phases = {phase: _Phase(evaluation, batch, choice) for phase in (PREFILL, DECODE)}

    @contextlib.contextmanager
    def at(self, step: int, rows: Sequence[int]) -> Iterator[None]:
        """Audit forward number ``step`` over the prompts ``rows``, where it was chosen."""
        if not self._choice.audits(step):
            yield
            return
        phase = self._phases[_phase_of(step)]
        lengths = [self._lengths[row] + step for row in rows]
        phase.selected.begin([length - self._lengths[row] for length, row in zip(lengths, rows, strict=True)])
        with self._ledger.apart():
            with phase.looking(step, rows, lengths):
                yield
            phase.book(self._ledger.counts(self._batch.level))

    def audits(self, steps: int) -> tuple[Audit, ...]:
        """Return what the audits of a batch of ``steps`` forwards found, one for each phase."""
        chosen = [step for step in range(steps) if self._choice.audits(step)]
        return tuple(
            phase.audit(name, sum(_phase_of(step) == name for step in chosen)) for name, phase in self._phases.items()
        )


class ScoringWatch:
    """The auditors of a batch whose continuations are scored in the forwards ``parts``."""

    def __init__(
        self, evaluation: Evaluation, session: Sessions, batch: Batch, choice: Choice, parts: Sequence[Part]
    ) -> None:
        self._batch, self._ledger, self._parts = batch, session.noise.ledger, parts
        self._phases = {number: _Phase(evaluation, batch, choice) for number in self._chosen(choice)}

    def _chosen(self, choice: Choice) -> Iterator[int]:
        """The numbers of the audited forwards."""
        by_request: dict[int, list[int]] = {}
        for number, part in enumerate(self._parts):
            by_request.setdefault(part.request, []).append(number)
        for request, numbers in by_request.items():
            yield numbers[choice.trail.below(len(numbers), "request", choice.level, choice.place, request)]

    @contextlib.contextmanager
    def at(self, number: int, rows: Sequence[int]) -> Iterator[None]:
        """Audit forward ``number`` over the prompts ``rows``, where it was chosen."""
        phase = self._phases.get(number)
        if phase is None:
            yield
            return
        lengths = self._parts[number].lengths(self._batch.prompts)
        phase.selected.begin(self._parts[number].last_steps(self._batch.prompts))
        with self._ledger.apart():
            with phase.looking(number, rows, lengths):
                yield
            phase.book(self._ledger.counts(self._batch.level))

    def audits(self) -> tuple[Audit, ...]:
        """Return what the audits found, one for each request number."""
        return tuple(phase.audit(PREFILL, 1) for phase in self._phases.values())


def _phase_of(step: int) -> str:
    return PREFILL if step == 0 else DECODE


class _Phase:
    """What the audited forwards of one phase of a batch show."""

    def __init__(self, evaluation: Evaluation, batch: Batch, choice: Choice) -> None:
        model, self._plan = evaluation.checkpoint.model, evaluation.plan
        self._level, self._choice = batch.level, choice
        self._error = batch.error or evaluation.plan.spec.error
        self._owners = [(prompt.item, prompt.seed) for prompt in batch.prompts]
        lot = choice.trail.number("rows", choice.level, choice.place)
        sites = [site.name for site in self._plan.sites]
        self._draws = Draws(self._error, batch.level, sites, self._plan.spec.key == "shared", lot)
        self.selected = Selected(self._plan.spec.spans, sites)
        self._auditor = Auditor(model, formula_of(self._error, batch.level), self._draws, self.selected)
        self._operands = OperandAuditor(model, evaluation.quantizers) if evaluation.quantizers else None
        self._forwards = 0
        self._booked: dict[str, Booked] = {}

    @contextlib.contextmanager
    def looking(self, step: int, rows: Sequence[int], lengths: Sequence[int]) -> Iterator[None]:
        """All auditors together, over one forward."""
        self._forwards += 1
        self._draws.begin(step, [self._owners[row] for row in rows], lengths)
        with self._auditor, self._operands or contextlib.nullcontext():
            yield

    def book(self, counts: Mapping[str, SiteCount]) -> None:
        """Takes what the ledger counted in one audited forward: elements changed and error energy of each site."""
        for name, count in counts.items():
            entry = self._booked.get(name, Booked())
            self._booked[name] = Booked(
                entry.changed + count.changed, entry.nonfinite + count.nonfinite, entry.energy + count.error
            )

    def audit(self, phase: str, expected: int) -> Audit:
        """What is to be stored: ``expected`` forwards of this phase should have been audited."""
        problems: tuple[str, ...] = ()
        if self._forwards != expected:
            problems = (f"audit: {self._forwards} forwards were audited, {expected} were chosen",)
        if self._forwards:
            problems += check_audit(self._auditor, self._plan, self._level, self._error)
            problems += check_booked(self._auditor, self._booked, self._error)
        if self._forwards and self._operands is not None:
            problems += check_operands(self._operands)
        named = tuple(problem.replace("audit: ", f"audit: {phase}: ", 1) for problem in problems)
        return Audit(self._level, sum(self._auditor.products.values()), named, phase, self._forwards, self._choice)
