"""What flows back through quantized modules: proof of straight-through gradients, and the fault of having none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from harness.training.injection import INPUT

Flow = dict[str, dict[str, float]]
"""Site -> what gets a gradient (``input``, ``weight``) -> the sum of its squares."""


@contextlib.contextmanager
def watched(model: nn.Module, sites: Mapping[str, str]) -> Iterator[Flow]:
    """Measure inside, for every site -> path of its module, the gradient that it passes on to its input and weight.

    The input is shown to the module as a view of its own, so that what flows beside the module is not counted. An input
    or weight that asks for no gradient is left out. Weights are read at the end, where their gradients lie then.
    """
    found: Flow = {}
    with contextlib.ExitStack() as stack:
        for site, path in sites.items():
            hook = _at_input(found.setdefault(site, {}))
            module = model.get_submodule(path)
            stack.callback(module.register_forward_pre_hook(hook, prepend=True, with_kwargs=True).remove)
        yield found
    for site, path in sites.items():
        weight = getattr(model.get_submodule(path), "weight", None)
        if isinstance(weight, nn.Parameter) and weight.requires_grad:
            found[site]["weight"] = _squares(weight.grad)


def _at_input(flow: dict[str, float]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        if not args or not isinstance(args[0], Tensor) or not args[0].requires_grad:
            return None
        shown = args[0].view_as(args[0])
        flow.setdefault("input", 0.0)
        shown.register_hook(lambda gradient: flow.__setitem__("input", flow["input"] + _squares(gradient)))
        return (shown, *args[1:]), kwargs

    return hook


def _squares(gradient: Tensor | None) -> float:
    if gradient is None:
        return 0.0
    here = gradient.to_local() if hasattr(gradient, "to_local") else gradient
    return float(here.detach().double().square().sum())


@contextlib.contextmanager
def cut(model: nn.Module, paths: Sequence[str], point: str) -> Iterator[None]:
    """Let no gradient pass the ``point`` (input or output) of the modules at ``paths`` inside.

    This is what rounding without a straight-through gradient does.
    """

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0].detach(), *args[1:])

    def after(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output.detach()

    with contextlib.ExitStack() as stack:
        for path in paths:
            module = model.get_submodule(path)
            handle = module.register_forward_pre_hook(before) if point == INPUT else module.register_forward_hook(after)
            stack.callback(handle.remove)
        yield


def least(flows: Sequence[Flow]) -> tuple[int, float] | None:
    """Return how many modules there are in ``flows`` of several processes, and the least norm of a gradient in them.

    None where nothing was measured. A gradient is summed over processes first: each has a shard.
    """
    summed: dict[tuple[str, str], float] = {}
    for flow in flows:
        for site, parts in flow.items():
            for part, value in parts.items():
                summed[site, part] = summed.get((site, part), 0.0) + value
    if not summed:
        return None
    return len({site for site, _ in summed}), min(summed.values()) ** 0.5
