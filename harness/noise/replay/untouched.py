"""A model whose code is read anew from its source files: what somebody patched into classes does not reach it."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from typing import Any

from torch import nn

PACKAGES = ("transformers.", "torch.nn.modules.", "harness.checkpoints.unmerged")
"""Whose classes are read anew, those of linears with an adapter too; all others (of users) run as they are."""


def renew(model: nn.Module) -> None:
    """Give every module of ``model`` the class of the same name, made anew from the source of the old one.

    In place, weights untouched; meant for a model that nobody else has. Attributes of instances that shadow a method
    (a patched ``forward``) and hooks are removed too.
    """
    for module in model.modules():
        kind = type(module)
        if kind.__module__.startswith(PACKAGES):
            module.__class__ = _fresh(kind)
        for name in [name for name in vars(module) if isinstance(vars(type(module)).get(name), types.FunctionType)]:
            del module.__dict__[name]
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()


def _fresh(kind: type[Any]) -> type[Any]:
    """The class ``kind`` from a second execution of its file; ``kind`` itself where its source has no such class."""
    found = getattr(_module(kind.__module__), kind.__qualname__, None)
    return found if isinstance(found, type) else kind


@functools.cache
def _module(name: str) -> types.ModuleType:
    """The module ``name`` executed a second time from its source, beside the one that everybody imports."""
    original = sys.modules[name]
    path = inspect.getsourcefile(original)
    again = types.ModuleType(name)
    again.__dict__.update({"__file__": original.__file__, "__package__": original.__package__})
    if path is not None:
        with open(path, encoding="utf-8") as file:
            exec(compile(file.read(), path, "exec"), again.__dict__)
    for key, value in vars(original).items():  # what building a model declared global there, as Bamba's kernels
        again.__dict__.setdefault(key, value)
    return again
