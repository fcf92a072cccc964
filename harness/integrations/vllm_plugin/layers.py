"""Normalization and activation layers of vLLM with noise on their results, by its registry of out-of-tree layers.

vLLM does not tell these layers their names. They take those of transformers in the order in which the model makes them;
the worker extension compares with the names of the built model and refuses another order.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from vllm.config import get_current_vllm_config_or_none
from vllm.model_executor.layers.activation import SiluAndMul
from vllm.model_executor.layers.layernorm import RMSNorm

from harness.integrations.vllm_plugin.payload import ACTIVATION, NORM
from harness.integrations.vllm_plugin.quantization import RobustnessConfig
from harness.integrations.vllm_plugin.session import EngineSession, Product, Slice, operated
from harness.noise.sites import Site


class Named:
    """The module that a layer took for itself, its site if it is perturbed, and the operator's number for it."""

    def __init__(self, op: str) -> None:
        self.session: EngineSession | None = None
        self.module: str | None = None
        self.site: Site | None = None
        config = get_current_vllm_config_or_none()
        if config is None or not isinstance(config.quant_config, RobustnessConfig):
            return
        session = config.quant_config.session
        self.module = session.next_name(op)
        found = [site for site in session.payload.sites if site.op == op and site.module == self.module]
        if found:
            self.session, self.site = session, found[0]
            self.number = session.register(Product(self.site.name, (Slice(self.site, 0, self.site.columns),)))

    def after(self, y: Tensor) -> Tensor:
        """Return ``y`` with the noise of the site."""
        return y if self.session is None else operated(y, self.session, self.number)


class NoisyRMSNorm(RMSNorm):
    """The norm of vLLM; the residual that it also returns stays as it is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.named = Named(NORM)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Any:
        """Return the normalized rows, perturbed."""
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
        """Return ``silu(x[:d])`` perturbed, times ``x[d:]``."""
        if self.named.session is None:
            return super().forward(x)
        half = x.shape[-1] // 2
        return self.named.after(F.silu(x[..., :half])) * x[..., half:]


def register() -> None:
    """Register both in place of vLLM's own."""
    RMSNorm.register_oot(NoisyRMSNorm)
    SiluAndMul.register_oot(NoisySiluAndMul)
