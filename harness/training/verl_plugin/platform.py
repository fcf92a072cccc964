"""The platform "cpu" for verl: what it asks of an accelerator, answered for a machine that has none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

NAME = "cpu"


class CpuDevice:
    """``torch.cpu`` with the calls that verl makes on the module of an accelerator; memory is that of the process."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    def is_available(self) -> bool:
        """Return True."""
        return True

    def device_count(self) -> int:
        """Return 1: every process has the one device."""
        return 1

    def current_device(self) -> str:
        """Return its name."""
        return NAME

    def get_device_name(self, device: Any = None) -> str:
        """Return a name for people."""
        return "CPU"

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        return None

    set_device = synchronize = empty_cache = ipc_collect = _nothing
    reset_peak_memory_stats = reset_accumulated_memory_stats = _nothing

    def memory_allocated(self, device: Any = None) -> int:
        """Return the resident memory of this process, in bytes."""
        return int(psutil.Process().memory_info().rss)

    memory_reserved = max_memory_allocated = max_memory_reserved = memory_allocated

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Return (available, total) memory of the machine, in bytes."""
        found = psutil.virtual_memory()
        return found.available, found.total

    def manual_seed(self, seed: int) -> None:
        """Set the seed of torch's generator."""
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        """Return the state of torch's generator."""
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        """Set the state of torch's generator."""
        torch.set_rng_state(state)


DEVICE = CpuDevice()


class CpuPlatform(PlatformBase):
    """Gloo for communication, shared memory for weights, and Ray's "GPU" as a merely logical resource."""

    device_name = NAME
    vendor_name = NAME
    device_module = DEVICE

    def is_available(self) -> bool:
        """Return True."""
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        """Return whether the environment asks for it: it is never guessed."""
        return os.environ.get("VERL_PLATFORM", "") == NAME

    def current_device(self) -> str:
        """Return the device's name."""
        return NAME

    def device_count(self) -> int:
        """Return 1."""
        return 1

    def set_device(self, device_index: int) -> None:
        """Do nothing: there is one."""

    def synchronize(self, device_index: int | None = None) -> None:
        """Do nothing: operators have ended when they return."""

    def manual_seed(self, seed: int) -> None:
        """Set the seed of torch's generator."""
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        """Set the seed of torch's generator."""
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        """Do nothing: they are an accelerator's."""

    def empty_cache(self) -> None:
        """Do nothing: there is none."""

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        """Return no capability."""
        return None, None

    def communication_backend_name(self) -> str:
        """Return gloo."""
        return "gloo"

    def visible_devices_envvar(self) -> str:
        """Return a variable that verl sets and that no CPU reads."""
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        """Mark nothing."""
        yield

    def profiler_start(self) -> None:
        """Do nothing: the profiler is an accelerator's."""

    def profiler_stop(self) -> None:
        """Do nothing: the profiler is an accelerator's."""

    def ray_resource_name(self) -> str:
        """Return "GPU": verl places workers by it; ``ray.init(num_gpus=N)`` gives it to any machine."""
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        """Return what keeps Ray from setting the visible devices."""
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        """Return False: weights go to the rollout through shared memory."""
        return False

    def cudart(self) -> None:
        """Return no runtime."""


def register() -> None:
    """Register the platform under its name."""
    PlatformRegistry.register(platform=NAME)(CpuPlatform)
