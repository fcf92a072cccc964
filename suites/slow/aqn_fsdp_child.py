"""One rank of an FSDP2 model on gloo: applies AQN to its shards and compares them with the whole model.

``python aqn_fsdp_child.py RANK WORLD PORT OUT`` writes what it found as JSON.
"""

from __future__ import annotations

import json
import os
import sys

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from harness.aqn.holder import ModuleHolder
from harness.aqn.session import Aqn
from suites.contract.aqn_models import config_of, model_of


def main(rank: int, world: int, out: str) -> None:
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (world,))
    found = []
    for kinds, mode, sigma in ((("rmsnorm",), "absolute", 0.05), (("linear",), "relative", 0.1)):
        whole, model = model_of("qwen2"), model_of("qwen2")
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        clean = {name: value.to_local().clone() for name, value in model.state_dict().items()}
        settings = config_of(kinds=kinds, mode=mode, sigma=sigma)
        reference, aqn = Aqn(ModuleHolder(whole), settings), Aqn(ModuleHolder(model), settings)
        reference.apply(3)
        dose = aqn.apply(3)
        same = all(
            torch.equal(model.state_dict()[name].full_tensor(), value) for name, value in whole.state_dict().items()
        )
        logits = model(torch.arange(8)[None]).logits
        close = torch.allclose(logits, whole(torch.arange(8)[None]).logits, atol=1e-4)
        aqn.restore()
        restored = all(torch.equal(value.to_local(), clean[name]) for name, value in model.state_dict().items())
        found.append(
            {
                "same": same,
                "close": close,
                "restored": restored,
                "effective": aqn.effective == reference.effective,
                "layers": [layer.to_json() for layer in dose.layers],
            }
        )
    with open(out, "w", encoding="utf-8") as file:
        json.dump(found, file)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "127.0.0.1", sys.argv[3]
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[4])
