"""An independent look at quantized operands: what a product was really given, against the reference quantizer.

It shares nothing with the injector: the weight is the module's own parameter, the input what the module was called
with before any hook, the operands are seen at PyTorch's dispatcher, and the expectation is computed with plain tensor
operators. Eager mode only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from harness.noise.audit.experts import InputsWatch
from harness.noise.audit.watching import ModuleWatcher
from harness.noise.plan import InjectionPlan
from harness.noise.sites import CONV1D
from harness.noise.stacked import in_width
from harness.numerics.blocks import has_outer_scale, largest_of_rows, outer_scale, quantize
from harness.spec.errors import ErrorModel
from harness.spec.formats import Recipe

_LINEARS = ("linear", "mm", "addmm", "matmul")
WEIGHT, INPUT = "weight", "input"


class OperandAuditor(ModuleWatcher):
    """Checks the operands of every planned linear inside a ``with`` block.

    ``checked[site]`` counts products seen, ``wrong[site]`` elements that are not those of the reference. Stochastic
    rounding cannot be foretold: there, elements off the two neighbours of the grid would need the draws, so that only
    ``changed[site]``, elements that differ from the unquantized ones, speaks.
    """

    def __init__(self, model: nn.Module, plans: Sequence[InjectionPlan]) -> None:
        super().__init__(model)
        self.checked: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self.plans = tuple(plans)
        every = [(site, plan.spec.error) for plan in plans for site in plan.sites]
        self._sites = {(site.module, site.point): (site, error) for site, error in every if not site.field}
        self._stacked = {(site.module, site.field, site.point): (site, error) for site, error in every if site.field}
        self._fed = tuple(dict.fromkeys(module for module, _, point in self._stacked if point == INPUT))
        self._experts: InputsWatch | None = None
        self._weights: dict[str, Tensor] = {}
        self._inputs: dict[str, Tensor] = {}

    def _hook(self) -> Iterator[RemovableHandle]:
        for path in dict.fromkeys(module for module, _ in self._sites):
            module = self._model.get_submodule(path)
            yield module.register_forward_pre_hook(self._remember(path), prepend=True)
        if self._experts is not None:
            yield from self._experts.hook()
        for path in dict.fromkeys(module for module, _, point in self._stacked if point == WEIGHT):
            yield self._model.get_submodule(path).register_forward_pre_hook(self._shown(path))

    def __enter__(self) -> Self:
        self._experts = InputsWatch(self._model, self._fed, self._rows)
        super().__enter__()
        self._experts.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        held, self._experts = self._experts, None  # it holds this auditor, and that the model
        try:
            if held is not None:
                held.__exit__(*exc)
        finally:
            super().__exit__(*exc)

    def _forget(self) -> None:
        self._inputs.clear()

    def _remember(self, path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], Tensor):
                self._inputs[path] = args[0].detach()

        return hook

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in _LINEARS:
            self._product(name, args)
        return func(*args, **(kwargs or {}))

    def _product(self, name: str, args: tuple[Any, ...]) -> None:
        path = self._innermost()
        given = args[1:] if name == "addmm" else args  # the bias comes first there
        if (path, INPUT) in self._sites:
            self._compare(path, INPUT, given[0].detach())
        if (path, WEIGHT) in self._sites:
            # only linear itself takes its weight as (out, in)
            self._compare(path, WEIGHT, given[1].detach() if name == "linear" else given[1].detach().t())

    def _shown(self, path: str) -> Any:
        """What a module of stacked experts reads as its weights when it runs: each expert a matrix of its own."""

        def hook(module: nn.Module, args: Any) -> None:
            for (owner, field, point), (site, error) in self._stacked.items():
                if owner != path or point != WEIGHT:
                    continue
                stored = module._parameters[field]
                assert stored is not None
                before, shown = stored.detach(), getattr(module, field).detach()
                for expert in range(len(before)):
                    own, seen = (x[expert].t() if site.transposed else x[expert] for x in (before, shown))
                    self._hold(site.name, error, own.contiguous(), seen, f"{site.name} {expert}")
                self.checked[site.name] += 1

        return hook

    def _rows(self, path: str, field: str, made: Tensor, given: Tensor) -> None:
        found = self._stacked.get((path, field, INPUT))
        if found is None:
            return
        site, error = found
        width = in_width(self._model.get_submodule(path), field)
        self._hold(site.name, error, made.reshape(-1, width), given.reshape(-1, width), None)
        self.checked[site.name] += 1

    def _hold(self, name: str, error: ErrorModel, matrix: Tensor, seen: Tensor, kept: str | None) -> None:
        """Counts what of ``matrix`` (rows, contraction dimension) is not as it should be seen; ``kept`` names a weight,
        whose expectation is kept."""
        recipe = error.recipe
        assert recipe is not None
        self.changed[name] += int((seen != matrix).sum())
        if not error.random:
            expected = self._expected(kept or name, matrix, recipe, INPUT if kept is None else WEIGHT)
            self.wrong[name] += int((seen != expected).sum())

    def _compare(self, path: str, point: str, operand: Tensor) -> None:
        """Of an input of any shape, or of a weight (out, in)."""
        site, error = self._sites[path, point]
        recipe = error.recipe
        assert recipe is not None
        before = self._inputs[path] if point == INPUT else self._model.get_submodule(path)._parameters["weight"]
        assert before is not None
        before = before.detach()
        if point == WEIGHT and site.op == CONV1D:
            before = before.t()
        matrix = before.reshape(-1, before.shape[-1])
        seen = operand.reshape(matrix.shape)
        self.checked[site.name] += 1
        self.changed[site.name] += int((seen != matrix).sum())
        if not error.random:
            self.wrong[site.name] += int((seen != self._expected(site.name, matrix, recipe, point)).sum())

    def _expected(self, name: str, matrix: Tensor, recipe: Recipe, point: str) -> Tensor:
        if point == WEIGHT and name in self._weights:
            return self._weights[name]
        fmt = recipe.format
        outer = outer_scale(fmt, largest_of_rows(matrix), point == INPUT) if has_outer_scale(fmt) else None
        values = quantize(matrix, recipe, outer=outer).values.to(matrix.dtype)
        if point == WEIGHT:
            self._weights[name] = values
        return values


def check_operands(auditor: OperandAuditor) -> tuple[str, ...]:
    """Return what the audited forwards say against the quantization; empty where all agrees."""
    problems = []
    for plan in auditor.plans:
        unseen = [site.name for site in plan.sites if not auditor.checked[site.name]]
        wrong = [site.name for site in plan.sites if auditor.wrong[site.name]]
        if unseen:
            problems.append(f"audit: no product of {unseen[0]} was seen ({len(unseen)} sites in all)")
        if wrong:
            problems.append(
                f"audit: {wrong[0]} was given {auditor.wrong[wrong[0]]} elements that {plan.spec.error} does not give"
                f" ({len(wrong)} sites in all)"
            )
        if not any(auditor.changed[site.name] for site in plan.sites):
            problems.append(f"audit: no operand of {plan.spec} was quantized")
    return tuple(problems)
