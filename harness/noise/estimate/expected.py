"""What a plan leads the ledger to count in a forward (and backward) pass, site by site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from harness.noise.plan import PROBE_TOKENS, InjectionPlan
from harness.noise.sites import (
    ANGLE,
    ATTENTION,
    EXPERTS,
    FUNCTION,
    PV,
    QK,
    SDPA,
    SOFTMAX,
    WEIGHT,
    Site,
    attention_heads,
    is_attention,
)
from harness.noise.stacked import in_width
from harness.record import BACKWARD, FORWARD
from harness.spec import OPS


@dataclass(frozen=True)
class Width:
    """How many elements are perturbed in a pass over n tokens of one sequence.

    ``per_pass`` whatever the tokens (weights and their gradients), ``per_token``, ``per_key`` for every token and key
    that it may see (itself included), ``per_pair`` for every token and key.
    """

    per_pass: int = 0
    per_token: int = 0
    per_key: int = 0
    per_pair: int = 0

    def __add__(self, other: Width) -> Width:
        return Width(
            self.per_pass + other.per_pass,
            self.per_token + other.per_token,
            self.per_key + other.per_key,
            self.per_pair + other.per_pair,
        )

    def elements(self, tokens: int) -> int:
        """Return the FLOPs of one pass over ``tokens`` tokens of a sequence that begins with them."""
        seen = tokens * (tokens + 1) // 2
        return self.per_pass + self.per_token * tokens + self.per_key * seen + self.per_pair * tokens * tokens


@dataclass(frozen=True)
class Expected:
    """One line of the ledger to come: ``calls`` in each pass, ``width`` None where it shows only while running."""

    site: Site
    direction: str
    operand: str
    calls: int
    width: Width | None


def expected_counts(plan: InjectionPlan, model: nn.Module) -> tuple[Expected, ...]:
    """Return what the ledger will hold after a pass of ``model`` under ``plan``, results first, then gradients.

    Gradients are those of operands that require one; all inputs are taken to.
    """
    modules = dict(model.named_modules())
    found = []
    for site in plan.sites if plan.spec.forward else ():
        found.append(Expected(site, FORWARD, "", _calls(plan, site), _forward(plan, site, modules[site.module])))
    for site in plan.sites if plan.spec.backward else ():
        for operand, width in _gradients(plan, site, modules[site.module]):
            found.append(Expected(site, BACKWARD, operand, _calls(plan, site), width))
    return tuple(found)


def _calls(plan: InjectionPlan, site: Site) -> int:
    calls = plan.probe.calls if plan.probe is not None else ()
    return max(1, sum(call.site.name == site.name for call in calls))


def _forward(plan: InjectionPlan, site: Site, module: nn.Module) -> Width:
    if site.way == WEIGHT:
        return Width(per_pass=_size(module, site.field or "weight"))
    if site.field:
        return Width(per_token=site.columns * site.per_token)
    if site.grows:
        return Width(per_key=site.columns)
    columns = _columns(plan, site)
    if site.way == FUNCTION and is_attention(module) and columns == attention_heads(module) * PROBE_TOKENS:
        return Width(per_pair=attention_heads(module))  # arithmetic on the scores
    return Width(per_token=_input_width(plan, site, module) if site.point == "input" else columns)


def _columns(plan: InjectionPlan, site: Site) -> int:
    """The width of one token's result; of a module whose class does not say it, as the probe saw it."""
    if site.columns:
        return site.columns
    calls = plan.probe.calls if plan.probe is not None else ()
    own = [call.site.columns for call in calls if call.site.name == site.module]
    inside = [call.site.columns for call in calls if site.module in call.path]
    return (own or inside or [0])[-1]


def _input_width(plan: InjectionPlan, site: Site, module: nn.Module) -> int:
    widths = (getattr(inner, name, None) for inner in module.modules() for name in ("in_features", "nx"))
    return next((width for width in widths if isinstance(width, int)), _columns(plan, site))


def _gradients(plan: InjectionPlan, site: Site, module: nn.Module) -> Iterator[tuple[str, Width | None]]:
    if site.way == ATTENTION:
        yield from _attention_gradients(site, module)
    elif site.way == EXPERTS:
        yield "input", Width(per_token=in_width(module, site.field) * site.per_token)
        if site.point == "output" and module.get_parameter(site.field).requires_grad:
            yield "weight", Width(per_pass=_size(module, site.field))
    elif site.way == FUNCTION:
        # what is passed to a function shows only when it is called
        yield from ((operand.name, None) for operand in OPS[site.op].operands)
    elif site.way != ANGLE:
        if site.op != "embedding":  # its input is token ids
            yield "input", Width(per_token=_input_width(plan, site, module))
        operator = OPS.get(site.op) if site.point == "output" else None
        for field in operator.fields if operator is not None else ():
            parameter = module._parameters.get(field)
            if parameter is not None and parameter.requires_grad:
                yield field, Width(per_pass=parameter.numel())


def _attention_gradients(site: Site, module: Any) -> Iterator[tuple[str, Width]]:
    heads = attention_heads(module)
    width = heads * int(module.head_dim)
    if site.op == QK:
        yield from (("input", Width(per_token=width)), ("other", Width(per_token=width)))
    elif site.op == SOFTMAX:
        yield "input", Width(per_key=heads)
    elif site.op == PV:
        yield from (("input", Width(per_pair=heads)), ("other", Width(per_token=width)))
    elif site.op == SDPA:
        stored = int(getattr(module.config, "num_key_value_heads", None) or heads) * int(module.head_dim)
        widths = {"query": width, "key": stored, "value": stored}
        yield from ((name, Width(per_token=columns)) for name, columns in widths.items())


def _size(module: nn.Module, field: str) -> int:
    parameter = module._parameters.get(field)
    return 0 if parameter is None else parameter.numel()
