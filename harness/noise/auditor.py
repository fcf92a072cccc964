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

from harness.noise.sites import PV, QK, is_attention

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
SOFTMAX = {"_softmax", "softmax", "_safe_softmax"}


class Auditor(TorchDispatchMode):
    """Counts products per module inside a ``with`` block.

    ``products[(module, operator)]`` counts calls; ``module`` is the innermost module's name under ``model``
    (empty for the model itself). ``errors[site]`` collects (sum of ((used - product) / product)^2, number of
    non-zero elements, elements that differ): what went on to be used against what the product itself gave. For a
    linear that is what its module returned; for QK what the softmax was given; for PV what the output projection
    was given. In a clean forward nothing may differ. Costs about 12 us per operator.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.products: Counter[tuple[str, str]] = Counter()
        self.errors: dict[str, list[float]] = {}
        self._model = model
        self._tracker = ModuleTracker()
        self._results: dict[str, Tensor] = {}
        self._attention = {name: module for name, module in model.named_modules() if is_attention(module)}
        self._scores: dict[str, Tensor] = {}
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
            self._scores.clear()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in PRODUCTS or FUSED_ATTENTION in name:
            module = self._innermost()
            self.products[module, name] += 1
            if isinstance(result, Tensor):
                if module in self._attention and module not in self._results:
                    self._scores[module] = result
                self._results[module] = result
        elif name in SOFTMAX:
            self._compare_scores(self._innermost(), args[0])
        return result

    def _compare_scores(self, module: str, given: Tensor) -> None:
        """The scores that a softmax inside ``module`` was given against the product QK, where no mask hides them."""
        product = self._scores.pop(module, None)
        if product is None or product.numel() != given.numel():
            return
        scaled = (product.detach() * self._attention[module].scaling).reshape(given.shape).to(given.dtype)
        visible = given > torch.finfo(product.dtype).min / 4
        self._add(f"{module}:{QK}", scaled[visible], given.detach()[visible])

    def _innermost(self) -> str:
        root = type(self._model).__name__
        names = [name for name in self._tracker.parents if name != "Global"]
        longest = max(names, key=len, default=root)
        return longest.removeprefix(root).removeprefix(".")

    def _compare(self, name: str) -> Any:
        owner = name.rpartition(".")[0]

        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            product = self._results.pop(name, None)
            if product is not None and product.numel() == output.numel():
                self._add(name, product.detach().reshape(-1), output.detach().reshape(-1))
            values = self._results.get(owner) if owner in self._attention else None
            if values is not None and values.numel() == args[0].numel():
                batch, tokens = args[0].shape[:2]
                heads = values.reshape(batch, -1, tokens, values.shape[-1]).transpose(1, 2)
                self._add(f"{owner}:{PV}", heads.detach().reshape(-1), args[0].detach().reshape(-1))
                del self._results[owner]

        return hook

    def _add(self, site: str, exact: Tensor, used: Tensor) -> None:
        nonzero = exact != 0
        ratio = torch.where(nonzero, (used.float() - exact.float()) / exact.float(), 0.0)
        entry = self.errors.setdefault(site, [0.0, 0.0, 0.0])
        entry[0] += float(ratio.square().sum())
        entry[1] += float(nonzero.sum())
        entry[2] += float((used != exact).sum())
