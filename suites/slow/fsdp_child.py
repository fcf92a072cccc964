"""One rank of a training that saves its shards as verl's FSDPCheckpointManager does: ``torchrun``-like environment.

``python fsdp_child.py MODEL OUT RANK WORLD ALPHA PORT`` shards MODEL with FSDP2 over gloo and writes
``model_world_size_N_rank_R.pt``; rank 0 also writes ``fsdp_config.json`` and ``huggingface/``. With ALPHA above 0 the
model carries a LoRA adapter, whose rank and alpha go into ``lora_train_meta.json`` (negative: they do not).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

RANK_OF_LORA = 4


def main(model_path: Path, out: Path, rank: int, world: int, alpha: int) -> None:
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (world,), mesh_dim_names=("fsdp",))
    model = AutoModelForCausalLM.from_pretrained(model_path)
    plain = model
    if alpha:
        from peft import LoraConfig, get_peft_model

        targets = ["q_proj", "down_proj"]
        model = get_peft_model(model, LoraConfig(r=RANK_OF_LORA, lora_alpha=abs(alpha), target_modules=targets))
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.02)
    for layer in plain.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    torch.save(model.state_dict(), out / f"model_world_size_{world}_rank_{rank}.pt")
    if rank == 0:
        beside(plain, model_path, out, world)
        if alpha > 0:
            meta = {"r": RANK_OF_LORA, "lora_alpha": alpha, "task_type": "CAUSAL_LM"}
            (out / "lora_train_meta.json").write_text(json.dumps(meta, indent=4))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def beside(model: torch.nn.Module, model_path: Path, out: Path, world: int) -> None:
    """What rank 0 writes besides its shard."""
    folder = out / "huggingface"
    GenerationConfig.from_pretrained(model_path).save_pretrained(folder)
    model.config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model_path).save_pretrained(folder)
    (out / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": world}, indent=4))


if __name__ == "__main__":
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", sys.argv[6]
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
