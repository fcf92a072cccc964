"""The vLLM plugin: noise and fake quantization inside vLLM's own processes, by its registered mechanisms.

vLLM calls :func:`register` in every process through the entry point ``vllm.general_plugins``. A model is perturbed only
where it was built with ``quantization="robustness_harness"`` and the payload of :mod:`.payload`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Registration:
    """What :func:`register` did in this process. vLLM swallows errors of plugins, so they are kept to be asked for."""

    calls: int = 0
    problems: list[str] = field(default_factory=list)


STATUS = Registration()


def register() -> None:
    """Register the quantization configuration, the layers and the attention backend; may be called again."""
    STATUS.calls += 1
    if STATUS.calls > 1:
        return
    try:
        from harness.integrations.vllm_plugin import attention, layers, quantization

        quantization.register()
        layers.register()
        attention.register()
    except Exception as error:  # another plugin's vLLM must go on; the worker extension reports it to ours
        STATUS.problems.append(f"{type(error).__name__}: {error}".partition("\n")[0])
