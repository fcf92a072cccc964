"""An independent count of the matrix products that really run, and of the error their modules let out.

It shares nothing with the injector: products are seen at PyTorch's dispatcher, below every Python spelling
(``@``, ``torch.matmul``, ``mm``, ``F.linear``, ``addmm``, einsum, ``scaled_dot_product_attention``), and
attributed by ``torch.utils.module_tracker``. Eager mode only: over compiled code a dispatch mode sees nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.module_tracker import ModuleTracker

PRODUCTS = {
    *(
        "linear",
        "_linear",
        "mkldnn_linear",
        "matmul",
        "mm",
        "addmm",
        "addmm_",
        "bmm",
        "baddbmm",
        "addbmm",
        "mv",
        "addmv",
    ),
    *("dot", "vdot", "outer", "addr", "ger", "einsum", "tensordot", "chain_matmul", "linalg_multi_dot"),
    *("_scaled_mm", "_grouped_mm", "_int_mm", "convolution", "_convolution", "conv1d", "conv2d"),
}
"""Dispatcher names of products; with CompositeImplicit ones, which inference mode does not decompose."""

FUSED_ATTENTION = "attention"


class Auditor(TorchDispatchMode):
    """Counts products per module inside a ``with`` block.

    ``products[(module, operator)]`` counts calls; ``module`` is the innermost module's name under ``model``
    (empty for the model itself). For every linear, ``errors[module]`` collects (sum of ((out - product) /
    product)^2, number of non-zero elements, elements that differ): what its module returned against what its
    own product gave. In a clean forward nothing may differ. Costs about 12 us per operator.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.products: Counter[tuple[str, str]] = Counter()
        self.errors: dict[str, list[float]] = {}
        self._model = model
        self._tracker = ModuleTracker()
        self._results: dict[str, Tensor] = {}
        self._hooks: list[Any] = []

    def __enter__(self) -> Auditor:
        for name, module in self._model.named_modules():
            if isinstance(module, nn.Linear):
                self._hooks.append(module.register_forward_hook(self._compare(name)))
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
            self._results.clear()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in PRODUCTS or FUSED_ATTENTION in name:
            module = self._innermost()
            self.products[module, name] += 1
            if isinstance(result, Tensor):
                self._results[module] = result
        return result

    def _innermost(self) -> str:
        root = type(self._model).__name__
        names = [name for name in self._tracker.parents if name != "Global"]
        longest = max(names, key=len, default=root)
        return longest.removeprefix(root).removeprefix(".")

    def _compare(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            product = self._results.pop(name, None)
            if product is None or product.numel() != output.numel():
                return
            exact, returned = product.detach().reshape(-1), output.detach().reshape(-1)
            nonzero = exact != 0
            ratio = torch.where(nonzero, (returned.double() - exact.double()) / exact.double(), 0.0)
            entry = self.errors.setdefault(name, [0.0, 0.0, 0.0])
            entry[0] += float(ratio.square().sum())
            entry[1] += float(nonzero.sum())
            entry[2] += float((returned != exact).sum())

        return hook
