"""Normalization and activation layers of vLLM with noise on their results, by its registry of out-of-tree layers.

vLLM does not tell these layers their names. They take the names of the plan in the order in which the model makes them;
the worker extension compares with the names of the built model and refuses another order.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from vllm.config import get_current_vllm_config_or_none
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm

from harness.integrations.vllm_plugin.quantization import RobustnessConfig
from harness.integrations.vllm_plugin.session import EngineSession, Product, Slice, operated
from harness.noise.sites import Site

NORM, ACTIVATION = "rms_norm", "silu"


class Named:
    """The site that a layer took, and the operator's number for it."""

    def __init__(self, op: str) -> None:
        self.session: EngineSession | None = None
        self.site: Site | None = None
        config = get_current_vllm_config_or_none()
        if config is None or not isinstance(config.quant_config, RobustnessConfig):
            return
        session = config.quant_config.session
        taken = {piece.site.name for product in session.products.values() for piece in product.slices}
        free = [site for site in session.payload.sites if site.op == op and site.name not in taken]
        if free:
            self.session, self.site = session, free[0]
            self.number = session.register(Product(self.site.name, (Slice(self.site, 0, self.site.columns),)))

    def after(self, y: Tensor) -> Tensor:
        """``y`` with the noise of the site."""
        return y if self.session is None else operated(y, self.session, self.number)


class NoisyRMSNorm(RMSNorm):
    """The norm of vLLM; the residual that it also returns stays as it is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.named = Named(NORM)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """The normalized rows, perturbed."""
        found = super().forward(x) if residual is None else super().forward(x, residual)
        if self.named.session is None:
            return found
        if isinstance(found, tuple):
            return (self.named.after(found[0]), *found[1:])
        return self.named.after(found)


class NoisySiluAndMul(SiluAndMul):
    """The gated activation: noise falls on the activation, before the gate is multiplied, as in transformers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.named = Named(ACTIVATION)

    def forward(self, x: Tensor) -> Any:
        """``silu(x[:d])`` perturbed, times ``x[d:]``."""
        if self.named.session is None:
            return super().forward(x)
        half = x.shape[-1] // 2
        return self.named.after(F.silu(x[..., :half])) * x[..., half:]


def register() -> None:
    """Registers both in place of vLLM's own."""
    RMSNorm.register_oot(NoisyRMSNorm)
    SiluAndMul.register_oot(NoisySiluAndMul)
