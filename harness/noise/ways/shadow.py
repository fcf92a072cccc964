"""Shows a module another value for a parameter while it runs, without touching the parameter."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from harness.exceptions import NoiseSpecError


def shadow(module: nn.Module, name: str, value: Any, handle: int) -> None:
    """Have ``module.name`` read ``value`` until :func:`unshadow` with the same ``handle``.

    An instance attribute is found before the parameter of that name. Shadows of several sessions nest. Raises
    :class:`NoiseSpecError` where this session's shadow is there already: the module runs in two threads at once.
    """
    key = _key(name, handle)
    if key in module.__dict__:
        raise NoiseSpecError(
            f"{type(module).__name__} entered twice", "its weight is shown to one forward at a time", "copy the model"
        )
    module.__dict__[key] = module.__dict__.get(name)
    module.__dict__[name] = value


def unshadow(module: nn.Module, name: str, handle: int) -> None:
    """Take the shadow back; harmless where there is none."""
    key = _key(name, handle)
    if key not in module.__dict__:
        return
    outer = module.__dict__.pop(key)
    if outer is None:
        module.__dict__.pop(name, None)
    else:
        module.__dict__[name] = outer


def shown(module: nn.Module, name: str) -> Tensor:
    """Return what ``module.name`` reads now: the shadow of an outer session, or the parameter."""
    value: Tensor = getattr(module, name)
    return value


def _key(name: str, handle: int) -> str:
    return f"_robustness_harness_{handle}_{name}"
