"""What both auditors need: dispatched operators attributed to modules, and hooks that end with the ``with`` block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle
from torch.utils.module_tracker import ModuleTracker


class ModuleWatcher(TorchDispatchMode):
    """A dispatch mode that knows in which module of ``model`` an operator runs. Subclasses say which hooks they add
    on entering, and what they forget on leaving."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self._tracker = ModuleTracker()
        self._hooks: list[RemovableHandle] = []

    def _hook(self) -> Iterable[RemovableHandle]:
        """The hooks of one ``with`` block."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Drops the tensors that were held for comparing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._hooks.extend(self._hook())
        self._tracker.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        try:
            super().__exit__(*exc)
        finally:
            self._tracker.__exit__(*exc)
            for hook in self._hooks:
                hook.remove()
            self._hooks.clear()
            self._forget()

    def _innermost(self) -> str:
        """The name under the model of the module that runs; empty for the model itself."""
        root = type(self._model).__name__
        names = [name for name in self._tracker.parents if name != "Global"]
        return max(names, key=len, default=root).removeprefix(root).removeprefix(".")
