"""The short way in: a model, a specification, a ``with`` block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from harness.exceptions import NoiseSpecError
from harness.ledger import require
from harness.noise.plan import InjectionPlan
from harness.noise.planner import AUTO, build_plan
from harness.noise.session import NoiseSession
from harness.record import SiteCount
from harness.spec.noise import NoiseSpec
from harness.spec.oneline import parse_noises


@dataclass(frozen=True)
class Injection:
    """The open sessions of a :func:`noisy` block, one for each specification."""

    sessions: tuple[NoiseSession, ...]

    def counts(self) -> tuple[SiteCount, ...]:
        """Return everything counted so far, session by session."""
        return tuple(
            count for session in self.sessions for count in session.ledger.counts(session.plan.spec.level or 0).values()
        )

    def require(self, **wanted: object) -> tuple[SiteCount, ...]:
        """Return :func:`harness.ledger.require` on :meth:`counts`."""
        return require(self.counts(), **wanted)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def step(self, step: int, micro_batch: int = 0) -> Iterator[None]:
        """Do :meth:`NoiseSession.step` for every session."""
        with contextlib.ExitStack() as stack:
            for session in self.sessions:
                stack.enter_context(session.step(step, micro_batch))
            yield

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do :meth:`NoiseSession.paused` for every session."""
        with contextlib.ExitStack() as stack:
            for session in self.sessions:
                stack.enter_context(session.paused())
            yield


@contextlib.contextmanager
def noisy(
    model: nn.Module | None,
    noise: str | NoiseSpec | Sequence[NoiseSpec],
    *,
    way: str = AUTO,
    compiled: bool | None = None,
    checked: bool = True,
) -> Iterator[Injection]:
    """Perturb ``model`` inside the block by ``noise``: one line (several specifications with ``;``) or objects.

    ``model=None`` perturbs bare function calls of this thread. The strength stands in the specification; strength 0
    is the clean control: everything is counted, nothing is changed. On leaving normally, a specification with a
    strength above 0 that changed nothing, and a site that was called and changed nothing, raise
    :class:`harness.exceptions.EvidenceError`, unless ``checked`` is False. Raises
    :class:`harness.exceptions.NoiseSpecError` for everything :func:`build_plan` refuses, and where two
    specifications perturb the same place in the same direction.

    >>> with noisy(model, "relative_gaussian(0.05) @ op:linear when:both") as noise:  # doctest: +SKIP
    ...     model(input_ids=ids, labels=ids).loss.backward()
    ...     noise.require(direction="backward", sites=29)
    """
    specs = (
        parse_noises(noise) if isinstance(noise, str) else (noise,) if isinstance(noise, NoiseSpec) else tuple(noise)
    )
    sessions = sessions_of(model, specs, way=way, compiled=compiled, checked=checked)
    with contextlib.ExitStack() as stack:
        for session in sessions:
            stack.enter_context(session)
        yield Injection(sessions)


def sessions_of(
    model: nn.Module | None,
    specs: Sequence[NoiseSpec],
    *,
    way: str = AUTO,
    compiled: bool | None = None,
    checked: bool = False,
) -> tuple[NoiseSession, ...]:
    """Return the sessions of ``specs`` on ``model``, not yet open; refuses what :func:`noisy` refuses."""
    for spec in specs:
        if spec.tokens:
            raise NoiseSpecError(
                f"tokens:{','.join(spec.tokens)} without an evaluation",
                "where the prompts end is not known",
                "drop it, or use NoiseSession and its batch(..., prompts=LENGTHS)",
            )
    plans = [build_plan(model, spec, way) for spec in specs]
    check_apart(plans)
    return tuple(NoiseSession(model, plan, compiled, checked=checked) for plan in plans)


def check_apart(plans: Sequence[InjectionPlan]) -> None:
    """Raise :class:`NoiseSpecError` where two of ``plans`` perturb the same place in the same direction."""
    _check_apart([(plan.spec, place) for plan in plans for place in _places(plan)])


def _places(plan: InjectionPlan) -> list[str]:
    """The sites of ``plan``; without a model, where none are known beforehand, its operators."""
    return [site.name for site in plan.sites] or sorted(f"op:{name}" for name in plan.spec.operators)


def _check_apart(places: Sequence[tuple[NoiseSpec, str]]) -> None:
    taken: dict[tuple[str, str], NoiseSpec] = {}
    for spec, name in places:
        for direction in ("forward",) * spec.forward + ("backward",) * spec.backward:
            other = taken.setdefault((name, direction), spec)
            if other is not spec:
                raise NoiseSpecError(
                    f"{name} is perturbed twice in {direction}",
                    f"by {other} and by {spec}",
                    "exclude it from one of the two",
                )
