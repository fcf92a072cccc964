"""vLLM's CPU attention with noise on its output, by vLLM's registry of attention backends."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from vllm.config import get_current_vllm_config_or_none
from vllm.platforms import current_platform
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend, CPUAttentionBackendImpl
from vllm.v1.attention.backends.registry import AttentionBackendEnum, register_backend

from harness.integrations.vllm_plugin.payload import module_of_attention
from harness.integrations.vllm_plugin.quantization import RobustnessConfig
from harness.integrations.vllm_plugin.session import EngineSession, Product, Slice, operated

SUFFIX = ".attn"
"""vLLM's attention layer lies one level below the attention block of transformers."""


def attention_number(session: EngineSession, layer: str) -> int | None:
    """Return the operator's number for the attention layer ``layer`` of vLLM, None where its output is not
    perturbed."""
    block = layer.removesuffix(SUFFIX)
    found = [site for site in session.payload.sites if module_of_attention(site) == block]
    if not found:
        return None
    return session.register(Product(found[0].name, (Slice(found[0], 0, found[0].columns),)))


class NoisyCPUAttentionImpl(CPUAttentionBackendImpl):
    """The kernel of vLLM; what it wrote is perturbed in place. vLLM calls it eagerly, also from compiled code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = get_current_vllm_config_or_none()
        ours = config is not None and isinstance(config.quant_config, RobustnessConfig)
        self._session = config.quant_config.session if ours else None

    def forward(self, layer: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the attention of one layer, (tokens, heads, head size)."""
        output: Tensor = super().forward(layer, *args, **kwargs)
        if self._session is None or not self._session.is_open:
            return output
        number = attention_number(self._session, layer.layer_name)
        if number is None:
            return output
        flat = output.view(output.shape[0], -1)
        output.copy_(operated(flat, self._session, number).view(output.shape))
        return output


class NoisyCPUAttentionBackend(CPUAttentionBackend):
    """The CPU backend with the implementation above."""

    @staticmethod
    def get_impl_cls() -> type[CPUAttentionBackendImpl]:
        """Return the implementation."""
        return NoisyCPUAttentionImpl


def register() -> None:
    """Register the backend in place of the CPU's own; there is none for other devices yet."""
    if current_platform.is_cpu():
        path = f"{NoisyCPUAttentionBackend.__module__}.{NoisyCPUAttentionBackend.__qualname__}"
        register_backend(AttentionBackendEnum.CPU_ATTN, path)
