"""An independent count inside an engine process: products and what became of them, seen at PyTorch's dispatcher.

Shares nothing with the session: it recognizes products by their operators (vLLM's own among them), finds out by their
memory which of them the perturbing operator was given, and measures what that changed. It sees compiled code too,
because that calls the same operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness.noise.audit.auditor import PRODUCTS

OWN_PRODUCTS = ("onednn_mm", "onednn_scaled_mm", "weight_packed_linear", "cpu_gemm_wna16", "cutlass_scaled_mm")
"""Further products, which vLLM has operators of its own for."""

PERTURB = "perturb"


class EngineAuditor(TorchDispatchMode):
    """Counts inside a ``with`` block, on the thread that entered it.

    ``products`` counts calls by operator; ``matched`` the calls of the perturbing operator whose input was the
    result of the product just before, and ``matched_rows`` their rows; for those ``squared`` adds up
    ((out - in) / in)^2 over ``nonzero`` elements of the ``columns`` that the plan names, ``changed`` those of them that
    differ, and ``strays`` elements of other columns that do.
    """

    def __init__(self, handle: int, columns: Callable[[int], tuple[tuple[int, int], ...]]) -> None:
        super().__init__()
        self.products: Counter[str] = Counter()
        self.matched = self.matched_rows = 0
        self.squared = 0.0
        self.nonzero = self.changed = 0
        self.strays = 0
        self._handle, self._columns = handle, columns
        self._last: tuple[int, Tensor] | None = None

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in OWN_PRODUCTS or name in PRODUCTS:
            self._product(name, result if isinstance(result, Tensor) else args[0])
        elif name == PERTURB and args[2] == self._handle:
            self._perturbed(args[0], result, self._columns(args[3]))
        return result

    def _product(self, name: str, result: Tensor) -> None:
        self.products[name] += 1
        self._last = result.data_ptr(), result

    def _perturbed(self, before: Tensor, after: Tensor, columns: Sequence[tuple[int, int]]) -> None:
        if self._last is None or before.data_ptr() != self._last[0]:
            return
        self.matched += 1
        self.matched_rows += before.numel() // max(1, before.shape[-1])
        wide = before.double()
        error = after.double() - wide
        different = int((error != 0).sum())
        for start, stop in columns:
            own, wrong = wide[..., start:stop], error[..., start:stop]
            kept = own != 0
            self.nonzero += int(kept.sum())
            self.squared += float(((wrong / torch.where(kept, own, 1.0)) ** 2)[kept].sum())
            changed = int((wrong != 0).sum())
            self.changed += changed
            different -= changed
        self.strays += different

    def report(self) -> dict[str, Any]:
        """What was seen, as plain values."""
        return {
            "products": sum(self.products.values()),
            "matched": self.matched,
            "rows": self.matched_rows,
            "squared": self.squared,
            "nonzero": self.nonzero,
            "changed": self.changed,
            "strays": self.strays,
        }
