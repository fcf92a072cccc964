"""Hooks on modules: on the result of a module, on its input, and on the gradients of its operands."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from harness.noise.protocol import Session
from harness.noise.sites import Site
from harness.noise.ways.shadow import shadow, shown, unshadow
from harness.spec.operators import OPS

_IN_PLACE = "inplace"
"""What an activation calls its option to write into its input."""


@contextlib.contextmanager
def perturbed(model: nn.Module, sites: Sequence[Site], session: Session) -> Iterator[None]:
    """Hook every module of ``sites``."""
    with contextlib.ExitStack() as stack:
        for site in sites:
            module, at_output = model.get_submodule(site.module), site.point == "output"
            if not at_output or session.plan.spec.backward:
                fields = _fields(site, module) if at_output else ()
                shadowed = (*fields, _IN_PLACE) if getattr(module, _IN_PLACE, False) is True else fields
                hook = _before(site, session, fields)
                session.hook(stack, module.register_forward_pre_hook(hook, with_kwargs=True))
                if shadowed:
                    after = _unshadow(session, shadowed)
                    session.hook(stack, module.register_forward_hook(after, always_call=True, prepend=True))
            if at_output and session.plan.spec.forward:
                session.hook(stack, module.register_forward_hook(_after(site, session)))
        yield


def _fields(site: Site, module: nn.Module) -> tuple[str, ...]:
    """The parameters of ``module`` that are operands of its operator."""
    operator = OPS.get(site.op)
    names = operator.fields if operator is not None else ()
    return tuple(name for name in names if module._parameters.get(name) is not None)


def _before(site: Site, session: Session, fields: tuple[str, ...]) -> Callable[..., tuple[Any, Any]]:
    """At ``input``: the input itself is perturbed. At ``output``: its gradient and those of the ``fields`` are."""

    def change(x: Any) -> Any:
        if not isinstance(x, Tensor) or not (x.is_floating_point() or x.is_complex()):
            return x
        x = session.operand(site, x, "input")
        return session.result(site, x) if site.point == "input" else x

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if getattr(module, _IN_PLACE, False) is True:  # nobody may write into the view that an operand is
            shadow(module, _IN_PLACE, False, session.handle)
        for name in fields:
            shadow(module, name, session.operand(site, shown(module, name), name), session.handle)
        if args:
            args = (change(args[0]), *args[1:])
        elif kwargs:
            first = next(iter(kwargs))
            kwargs = {**kwargs, first: change(kwargs[first])}
        return args, kwargs

    return hook


def _unshadow(session: Session, fields: tuple[str, ...]) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        for name in fields:
            unshadow(module, name, session.handle)

    return hook


def _after(site: Site, session: Session) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return session.result(site, output)
        if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
            return (session.result(site, output[0]), *output[1:])
        return output

    return hook
