"""Engines broken on purpose, with a law that must notice: in backward, evidence, restoring and recomputation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.noise import frames, injector, planner, session
from harness.noise.custom_ops import Operand
from harness.noise.kernel import Kernel
from harness.noise.ledger import Ledger
from harness.noise.session import NoiseSession
from harness.noise.ways import attention, checkpointing, functions, weights
from suites.contract import noise_gradient_laws as gradient_laws
from suites.contract import noise_laws as laws
from suites.contract import noise_value_laws as value_laws

Patch = pytest.MonkeyPatch
MUTANTS: dict[str, tuple[Callable[[Patch], None], Callable[[], None]]] = {}
"""Name -> (what breaks the engine, a law that must notice)."""


def mutant(name: str, law: Callable[[], None]) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Registers the function below it."""

    def register(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS[name] = apply, law
        return apply

    return register


def with_kernel(patch: Patch, change: Callable[[Callable[..., Any], list[Any]], Any]) -> None:
    """Has ``change(honest, [error, y, key, level, real, ...])`` take the place of the kernel."""
    honest = Kernel.perturb
    patch.setattr(Kernel, "perturb", lambda self, *args: change(lambda *given: honest(self, *given), list(args)))


def with_level(patch: Patch, level: Callable[[float], float]) -> None:
    with_kernel(patch, lambda honest, args: honest(*args[:3], level(args[3]), *args[4:]))


def with_backward(patch: Patch, change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    honest = Operand.backward

    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        noised, *rest = honest(ctx, gradient)
        return change(gradient, noised), *rest

    patch.setattr(Operand, "backward", staticmethod(backward))


def with_operand_site(patch: Patch, other: Callable[[NoiseSession, Any], Any]) -> None:
    honest = NoiseSession.operand
    patch.setattr(NoiseSession, "operand", lambda self, site, x, name: honest(self, other(self, site), x, name))


@mutant("backward noise is not applied", gradient_laws.gradients_carry_the_error)
def _(patch: Patch) -> None:
    with_backward(patch, lambda gradient, noised: gradient)


@mutant("backward noise is not even drawn", value_laws.counts_are_analytic)
def _(patch: Patch) -> None:
    patch.setattr(NoiseSession, "operand", lambda self, site, x, name: x)


@mutant("the gradient of an operand is scaled", laws.clean_at_zero)
def _(patch: Patch) -> None:
    with_backward(patch, lambda gradient, noised: 2 * noised)


@mutant("backward noise is booked on the next site", gradient_laws.booked_where_it_was)
def _(patch: Patch) -> None:
    with_operand_site(patch, lambda own, site: own._sites[(own._numbers[site.name] + 1) % len(own._sites)])


@mutant("backward noise is booked on the other layer", gradient_laws.booked_where_it_was)
def _(patch: Patch) -> None:
    def swapped(own: NoiseSession, site: Any) -> Any:
        for first, second in (("layers.0", "layers.1"), ("layers.1", "layers.0")):
            if first in site.name:
                return own._sites[own._numbers[site.name.replace(first, second)]]
        return site

    with_operand_site(patch, swapped)


@mutant("layers are not selected in backward", gradient_laws.selection_holds_in_backward)
def _(patch: Patch) -> None:
    honest = planner.build_plan

    def everywhere(model: Any, spec: Any, way: str = "auto") -> Any:
        return honest(model, replace(spec, layers=()) if spec.backward else spec, way)

    patch.setattr("suites.contract.noise_models.build_plan", everywhere)
    patch.setattr("suites.contract.noise_gradient_laws.plan_of", gradient_laws.plan_of.__wrapped__)


@mutant("noise is added before the bias", value_laws.result_carries_the_error)
def _(patch: Patch) -> None:
    honest = NoiseSession.result

    def before(self: NoiseSession, site: Any, y: torch.Tensor) -> torch.Tensor:
        bias = getattr(self.model.get_submodule(site.module), "bias", None) if self.model is not None else None
        return honest(self, site, y) if bias is None else honest(self, site, y - bias) + bias

    patch.setattr(NoiseSession, "result", before)


@mutant("the scale is doubled", value_laws.moments)
def _(patch: Patch) -> None:
    with_level(patch, lambda level: 2 * level)


@mutant("the scale is halved", value_laws.moments)
def _(patch: Patch) -> None:
    with_level(patch, lambda level: level / 2)


@mutant("the ledger claims the scale that was asked for", value_laws.result_carries_the_error)
def _(patch: Patch) -> None:
    def lying(honest: Callable[..., Any], args: list[Any]) -> Any:
        (_, sums), (after, _) = honest(*args), honest(*args[:3], args[3] / 2, *args[4:])
        return after, sums

    with_kernel(patch, lying)


@mutant("strength 0 is not quite 0", laws.clean_at_zero)
def _(patch: Patch) -> None:
    with_level(patch, lambda level: max(level, 1e-3))


@mutant("another error model is drawn", lambda: value_laws.is_the_error_model("truncation"))
def _(patch: Patch) -> None:
    with_kernel(patch, lambda honest, args: honest(laws.error_of("relative_gaussian"), *args[1:]))


@mutant("draws come from the global generator", laws.leaves_generator_alone)
def _(patch: Patch) -> None:
    def drawn(honest: Callable[..., Any], args: list[Any]) -> Any:
        y = args[1].clone()
        return y + y * args[3] * torch.randn_like(y), honest(*args)[1]

    with_kernel(patch, drawn)


@mutant("draws reseed the global generator", laws.leaves_generator_alone)
def _(patch: Patch) -> None:
    def seeded(honest: Callable[..., Any], args: list[Any]) -> Any:
        torch.manual_seed(0)
        return honest(*args)

    with_kernel(patch, seeded)


@mutant("calls are counted twice", value_laws.counts_are_analytic)
def _(patch: Patch) -> None:
    honest = Ledger.note

    def twice(self: Ledger, *args: Any) -> None:
        honest(self, *args)
        honest(self, *args)

    patch.setattr(Ledger, "note", twice)


@mutant("calls are not counted", laws.clean_at_zero)
def _(patch: Patch) -> None:
    patch.setattr(Ledger, "note", lambda self, *args: None)


@mutant("recomputed calls are counted as forward", lambda: gradient_laws.recomputes_its_own_forward(True))
def _(patch: Patch) -> None:
    patch.setattr(injector, "_direction", lambda part: "backward" if part not in ("", "itself") else "forward")


@mutant("nothing is required on leaving", laws.proves_something)
def _(patch: Patch) -> None:
    patch.setattr(session, "require", lambda *args, **wanted: ())


@mutant("a hook is not removed", lambda: laws.restores("op:linear"))
def _(patch: Patch) -> None:
    patch.setattr(NoiseSession, "hook", staticmethod(lambda stack, handle: None))


@mutant("a perturbed weight stays shown", laws.restores)
def _(patch: Patch) -> None:
    patch.setattr(weights, "unshadow", lambda *args: None)


@mutant("a perturbed weight is written", gradient_laws.weights_pass_straight_through)
def _(patch: Patch) -> None:
    honest = NoiseSession.weight

    def written(self: NoiseSession, site: Any, value: torch.Tensor) -> torch.Tensor:
        value.data.copy_(honest(self, site, value))
        return value

    patch.setattr(NoiseSession, "weight", written)


@mutant("the attention stays switched", lambda: laws.restores("op:qk"))
def _(patch: Patch) -> None:
    honest = transformers_switch()
    patch.setattr(
        "transformers.PreTrainedModel.set_attn_implementation",
        lambda self, name: None if name == "eager" and "noise" in honest_name(self) else honest(self, name),
    )


def transformers_switch() -> Callable[..., Any]:
    from transformers import PreTrainedModel

    return PreTrainedModel.set_attn_implementation


def honest_name(model: Any) -> str:
    return str(model.config._attn_implementation)


@mutant("the attention forgets the mask", value_laws.counts_are_analytic)
def _(patch: Patch) -> None:
    honest = frames.Rows.of.__func__  # type: ignore[attr-defined]
    patch.setattr(
        frames.Rows,
        "of",
        classmethod(lambda cls, bases, mask, tokens, past: honest(cls, bases, None, tokens, past)),
    )


@mutant("the harness's eager attention scales twice", lambda: laws.clean_at_zero("hooks"))
def _(patch: Patch) -> None:
    honest = attention._results
    patch.setattr(attention, "_results", lambda attached, op, y: honest(attached, op, y * (2 if op == "qk" else 1)))


@mutant("a recomputation belongs to the last forward", lambda: gradient_laws.recomputes_its_own_forward(True))
def _(patch: Patch) -> None:
    patch.setattr(
        checkpointing, "_checkpoint", lambda original, own, function, *args, **named: original(function, *args, **named)
    )
    honest = NoiseSession.frame

    def last(self: NoiseSession, site: Any) -> Any:
        known = self._frames
        return known[next(reversed(known))] if self._frame is None and known else honest(self, site)

    patch.setattr(NoiseSession, "frame", last)


@mutant("a recomputation draws anew", lambda: gradient_laws.recomputes_its_own_forward(False))
def _(patch: Patch) -> None:
    honest = NoiseSession.frame_of

    def anew(self: NoiseSession, number: int) -> Any:
        frame = honest(self, number)
        in_backward = torch._C._current_graph_task_id() != -1
        return replace(frame, rows=replace(frame.rows, keys=frame.rows.keys + 1)) if in_backward else frame

    patch.setattr(NoiseSession, "frame_of", anew)


@mutant("the function mode is off in recomputations", lambda: gradient_laws.ways_agree(True))
def _(patch: Patch) -> None:
    honest = functions.FunctionMode.__torch_function__

    def resting(self: Any, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch._C._current_graph_task_id() != -1:
            return func(*args, **(kwargs or {}))
        return honest(self, func, types, args, kwargs)

    patch.setattr(functions.FunctionMode, "__torch_function__", resting)
