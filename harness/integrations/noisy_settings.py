"""What noise a caller of :mod:`harness.integrations.noisy_ops` asks for, and the specification that it means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.exceptions import NoiseSpecError
from harness.spec.errors import ERROR_MODELS, ErrorModel, make_error
from harness.spec.noise import NoiseSpec
from harness.spec.operators import selected
from harness.text import nearest

CORE = ("linear", "matmul", "bmm")
MORE = ("softmax", "silu", "gelu", "layer_norm")
"""The operators of the ancestor: always, and with ``all_ops_mode``."""

_SEEDS = 2**31


@dataclass(frozen=True)
class Settings:
    """What noise is asked for. ``layers`` and ``operators`` are None where all are meant."""

    scale: float = 1e-5
    error_type: str = "relative_gaussian"
    all_ops: bool = False
    seed: int = 0
    forward: bool = True
    backward: bool = True
    layers: frozenset[int] | None = None
    operators: frozenset[str] | None = None
    training_only: bool = False

    def check(self) -> Settings:
        """Return these settings, if they can be asked for at all; raises :class:`NoiseSpecError`."""
        self.error()
        if not isinstance(self.seed, int) or not 0 <= self.seed < _SEEDS:
            raise NoiseSpecError(f"seed {self.seed!r}", "a seed is an integer from 0, below 2**31", "give seed=0")
        for name in ("all_ops", "forward", "backward"):
            if not isinstance(getattr(self, name), bool):
                raise NoiseSpecError(f"{name} {getattr(self, name)!r}", "it is True or False", f"give {name}=True")
        if not (self.forward or self.backward):
            raise NoiseSpecError(
                "neither forward nor backward", "noise acts in one of them at least", "call disable_noisy_ops()"
            )
        return self

    def error(self) -> ErrorModel:
        """Return the error model at its strength."""
        known = [name for name, model in ERROR_MODELS.items() if model.strength is not None]
        if self.error_type not in known:
            rule = "an error type is an error model with a strength"
            raise NoiseSpecError(f"unknown error type {self.error_type!r}", rule, nearest(str(self.error_type), known))
        if self.scale is None:
            raise NoiseSpecError("error_scale None", "noise needs a scale", "give error_scale=0.05")
        return make_error(self.error_type, {str(ERROR_MODELS[self.error_type].strength): self.scale})

    def spec(self, opening: int, present: Iterable[str] | None = None) -> NoiseSpec:
        """Return the specification of opening number ``opening``, for those operators that are ``present`` (None: all).

        Raises :class:`NoiseSpecError` for combinations that mean nothing.
        """
        allowed = CORE + MORE if self.all_ops else CORE
        for op in sorted((self.operators or frozenset()) - set(allowed)):
            raise NoiseSpecError(
                f"operator {op!r} without all_ops_mode",
                f"without it: {', '.join(CORE)}",
                "enable_noisy_ops(all_ops_mode=True)",
            )
        here = None if present is None else set(present)
        ops = tuple(op for op in allowed if self.operators is None or op in self.operators)
        missing = [op for op in ops if here is not None and here.isdisjoint(selected((op,)))]
        if missing and (self.operators is not None or len(missing) == len(ops)):
            raise NoiseSpecError(
                f"operator {missing[0]!r}", "the registered model does not compute it", "select others, or None for all"
            )
        ops = tuple(op for op in ops if op not in missing)
        return NoiseSpec(
            self.error(),
            ops=ops,
            when="both" if self.forward and self.backward else "forward" if self.forward else "backward",
            layers=tuple((layer, layer) for layer in sorted(self.layers or ())),
            phases=("training",) if self.training_only else (),
            softmax="renormalised" if "softmax" in ops else "as_drawn",
            seed=self.seed * 2**32 + opening,
        )
