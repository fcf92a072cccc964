"""Engines broken on purpose, with a law that must notice: in keys, values and the form of results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from harness.noise import frames, injector, session
from harness.noise.injector import Injector
from harness.noise.session import NoiseSession
from harness.noise.ways import functions
from suites.contract import noise_calls
from suites.contract import noise_laws as laws
from suites.contract import noise_value_laws as value_laws
from suites.contract.noise_mutants import MUTANTS, Patch, mutant

__all__ = ["MUTANTS"]


def call(spelling: str) -> noise_calls.Call:
    return next(found for found in noise_calls.EVERY if found.spelling == spelling)


def with_bases(patch: Patch, change: Callable[[list[str], list[int]], tuple[list[str], list[int]]]) -> None:
    honest = frames.row_bases

    def changed(items: Any, seeds: Any, *mode: str) -> torch.Tensor:
        return honest(*change(list(items), list(seeds)), *mode)

    patch.setattr(session, "row_bases", changed)


@mutant("the key holds no seed", laws.keyed_by_everything)
def _(patch: Patch) -> None:
    with_bases(patch, lambda items, seeds: (items, [0] * len(seeds)))


@mutant("the key holds no item", laws.keyed_by_everything)
def _(patch: Patch) -> None:
    with_bases(patch, lambda items, seeds: (["x"] * len(items), seeds))


@mutant("the key holds the row of the batch", laws.keyed_by_nothing_else)
def _(patch: Patch) -> None:
    with_bases(patch, lambda items, seeds: ([f"{row}{item}" for row, item in enumerate(items)], seeds))


def with_rows(patch: Patch, change: Callable[[Any, torch.Tensor], Any]) -> None:
    honest = frames.Rows.of.__func__  # type: ignore[attr-defined]

    def of(cls: Any, bases: torch.Tensor, *rest: Any) -> Any:
        return change(honest(cls, bases, *rest), bases)

    patch.setattr(frames.Rows, "of", classmethod(of))


@mutant("the key holds no position", laws.keyed_by_everything)
def _(patch: Patch) -> None:
    with_rows(patch, lambda rows, bases: replace(rows, keys=bases[:, None].expand(rows.keys.shape).contiguous()))


@mutant("the key holds the padded column", laws.keyed_by_nothing_else)
def _(patch: Patch) -> None:
    def padded(rows: Any, bases: torch.Tensor) -> Any:
        columns = torch.arange(rows.keys.shape[1]).expand(rows.keys.shape)
        return replace(rows, keys=frames.counter_keys(bases[:, None], columns))

    with_rows(patch, padded)


@mutant("the key holds no site", laws.keyed_by_everything)
def _(patch: Patch) -> None:
    honest = Injector._label

    def anywhere(self: Injector, entry: Any, frame: Any, *more: int) -> int:
        return honest(self, replace(entry, site=replace(entry.site, name="x")), frame, *more)

    patch.setattr(Injector, "_label", anywhere)


@mutant("the key holds no head", laws.keyed_by_everything)
def _(patch: Patch) -> None:
    honest = Injector._label
    patch.setattr(Injector, "_label", lambda self, entry, frame, *more: honest(self, entry, frame))


@mutant("the key holds no feature", laws.keyed_by_everything)
def _(patch: Patch) -> None:
    honest = injector.stream_keys
    patch.setattr(
        injector,
        "stream_keys",
        lambda key, count, device: type(k := honest(key, 1, device))(*(h.repeat(count) for h in k)),
    )


@mutant("the key holds no step", laws.keyed_by_the_step)
def _(patch: Patch) -> None:
    patch.setattr(session, "anonymous_bases", lambda batch, labels, device: frames.anonymous_bases(batch, (0,), device))


def with_result(patch: Patch, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    honest = NoiseSession.result
    patch.setattr(NoiseSession, "result", lambda self, site, y: change(honest(self, site, y)))


@mutant("the dtype is widened", lambda: value_laws.keeps_the_call(call("mm"), torch.bfloat16))
def _(patch: Patch) -> None:
    with_result(patch, lambda y: y.float())


@mutant("strides are lost", lambda: value_laws.keeps_the_call(call("functional.einsum")))
def _(patch: Patch) -> None:
    with_result(patch, lambda y: y.contiguous())


@mutant("a result loses a dimension of size 1", lambda: value_laws.keeps_the_call(call("F.embedding")))
def _(patch: Patch) -> None:
    with_result(patch, lambda y: y.flatten(0, 1))


@mutant("out= is ignored", lambda: value_laws.keeps_the_call(call("matmul out=")))
def _(patch: Patch) -> None:
    honest = functions._perturb_call
    patch.setattr(
        functions,
        "_perturb_call",
        lambda own, site, func, args, kwargs: honest(
            own, site, func, args, {k: v for k, v in kwargs.items() if k != "out"}
        ),
    )


@mutant("an in-place call returns a copy", lambda: value_laws.keeps_the_call(call("Tensor.add_")))
def _(patch: Patch) -> None:
    patch.setattr(functions, "_written", lambda func, args, kwargs: None)


@mutant("a spelling is forgotten", lambda: value_laws.keeps_the_call(call("linalg.matmul")))
def _(patch: Patch) -> None:
    known = {func: found for func, found in functions.spellings().items() if func is not torch.linalg.matmul}
    patch.setattr(functions, "spellings", lambda: known)


@mutant("NaN is replaced", value_laws.keeps_what_is_no_number)
def _(patch: Patch) -> None:
    with_result(patch, lambda y: y.nan_to_num(0.0) if y.is_floating_point() else y)


@mutant("infinity overflows into NaN", value_laws.keeps_what_is_no_number)
def _(patch: Patch) -> None:
    with_result(patch, lambda y: y - y + y if y.is_floating_point() else y)


@mutant("the sign of zero is lost", value_laws.keeps_what_is_no_number)
def _(patch: Patch) -> None:
    with_result(patch, lambda y: y + 0.0 if y.is_floating_point() else y)


@mutant("integers are touched", value_laws.keeps_what_is_no_number)
def _(patch: Patch) -> None:
    with_result(patch, lambda y: y if y.is_floating_point() or y.dtype == torch.bool else y + 1)


@mutant("merging keeps one process only", value_laws.halves_add_up)
def _(patch: Patch) -> None:
    def first_only(counts: Any, across_processes: bool = False) -> tuple[Any, ...]:
        return tuple({count.label: count for count in reversed(list(counts))}.values())

    patch.setattr(value_laws, "merge", first_only)


@mutant("two specifications may share a place", laws.refuses_what_matches_nothing)
def _(patch: Patch) -> None:
    patch.setattr("harness.noise.inject._check_apart", lambda places: None)
