"""What a model really runs: one forward of three tokens, seen by the independent auditor and by the function mode.

Works on the meta device too, so that a plan needs a config and no weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness.noise.auditor import Auditor
from harness.noise.sites import Site
from harness.noise.ways.functions import Where, site_of, watched
from harness.spec.operators import Operator

PROBE_TOKENS = 3


@dataclass(frozen=True)
class Call:
    """One call of an operator of the table: its site, the path of modules it ran in, outermost first."""

    site: Site
    path: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """``products[(module, dispatcher name)]`` counts matrix products; ``calls`` are the operators' calls in order;
    ``flops[module]`` the floating-point operations of its products in one forward of ``tokens`` tokens."""

    products: Mapping[tuple[str, str], int]
    calls: tuple[Call, ...]
    flops: Mapping[str, int]
    tokens: int = PROBE_TOKENS


def run_probe(model: nn.Module) -> Probe:
    """Runs ``model`` once on token ids 0, 1, 2. Nothing is perturbed, and nothing of the model is changed."""
    calls: list[Call] = []

    def seen(operator: Operator, where: Where, func: Any, args: Any, kwargs: Any) -> Any:
        path = tuple(name for name, _, _ in where.path if name)
        site = site_of(operator, where)
        result = func(*args, **kwargs)
        first = result[0] if isinstance(result, tuple) else result
        if isinstance(first, Tensor) and (first.is_floating_point() or first.is_complex()):
            width = site.columns or first.numel() // PROBE_TOKENS
            calls.append(Call(replace(site, columns=width), path))
        return result

    ids = torch.arange(PROBE_TOKENS, device=next(model.parameters()).device)[None]
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter, Auditor(model) as auditor, watched(model, seen):
        model(input_ids=ids, use_cache=False)
    return Probe(auditor.products, tuple(calls), _by_module(counter, model))


def _by_module(counter: FlopCounterMode, model: nn.Module) -> Mapping[str, int]:
    """FLOPs of each module that runs products itself, without those of the modules inside it."""
    root = type(model).__name__
    total: Counter[str] = Counter()
    for name, counts in counter.get_flop_counts().items():
        if name != "Global":
            total[name.removeprefix(root).removeprefix(".")] = sum(counts.values())
    own = Counter(total)
    for name, flops in total.items():
        parent = name.rpartition(".")[0]
        while name and parent not in total and parent:
            parent = parent.rpartition(".")[0]
        if name and parent in total:
            own[parent] -= flops
    return {name: flops for name, flops in own.items() if flops > 0}
