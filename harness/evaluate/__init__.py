"""From a checkpoint and a task to scored records.

The package can be called: ``harness.evaluate(checkpoint, spec, out)`` is :func:`harness.evaluate.api.evaluate`, whether
or not a module of the package was imported before.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A module's class as Python lets one set it (data model, "Customizing module attribute access")."""

    def __call__(self, *arguments: Any, **given: Any) -> Any:
        """Return what :func:`harness.evaluate.api.evaluate` does."""
        return importlib.import_module("harness.evaluate.api").evaluate(*arguments, **given)


sys.modules[__name__].__class__ = _Callable
