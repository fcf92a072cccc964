"""What the platform asks of verl, apart from any experiment: settings and environment, each standing here once.

The CPU layer is what a run of verl 0.9.1 needs on a machine without an accelerator, found by running it (see
``docs/training.md``); the CUDA layer has what the same run needs there.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from harness.training.sections import CPU, CUDA, Value

Setting = Value | list[str] | None
ACTOR, ROLLOUT, MODEL = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.model"
PRECISIONS = tuple(f"{ACTOR}.fsdp_config.mixed_precision.{name}_dtype" for name in ("param", "reduce", "buffer"))

SETTINGS: Mapping[str, Mapping[str, Setting]] = MappingProxyType(
    {
        CPU: {
            "trainer.device": "cpu",
            f"{MODEL}.use_remove_padding": False,
            f"{MODEL}.override_config.attn_implementation": "eager",
            f"{ACTOR}.use_torch_compile": False,
            f"{ACTOR}.fsdp_config.use_torch_compile": False,
            f"{ACTOR}.fsdp_config.dtype": "float32",
            **dict.fromkeys(PRECISIONS, "fp32"),
            f"{ROLLOUT}.free_cache_engine": False,
            f"{ROLLOUT}.enable_sleep_mode": False,
            f"{ROLLOUT}.load_format": "auto",
            f"{ROLLOUT}.max_num_seqs": 32,
            f"{ROLLOUT}.max_num_batched_tokens": 512,
            f"{ROLLOUT}.agent.num_workers": 1,
            f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes": 16,
            "reward.num_workers": 1,
            "data.dataloader_num_workers": 0,
            "ray_kwargs.ray_init.num_cpus": 16,
            "ray_kwargs.ray_init.include_dashboard": False,
            "ray_kwargs.ray_init.object_store_memory": 300_000_000,
            "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
        },
        CUDA: {
            "trainer.device": "cuda",
            f"{MODEL}.use_remove_padding": True,
            f"{ROLLOUT}.load_format": "auto",
            f"{ROLLOUT}.gpu_memory_utilization": 0.5,
            "data.dataloader_num_workers": 0,
        },
    }
)
"""Platform -> verl's key -> value. Logical CPUs and GPUs of Ray are no hardware."""

ENVIRONMENT: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        CPU: {
            "VERL_PLATFORM": "cpu",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_memory_monitor_refresh_ms": "0",
            "TOKENIZERS_PARALLELISM": "false",
        },
        CUDA: {"VLLM_NO_USAGE_STATS": "1", "RAY_USAGE_STATS_ENABLED": "0", "TOKENIZERS_PARALLELISM": "false"},
    }
)
"""Platform -> environment of every process of a run."""
