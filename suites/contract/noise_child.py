"""Runs in a process of its own: says, as JSON, which bits it got and what it counted."""

from __future__ import annotations

import json
import sys

import torch

from harness.ledger import to_json
from harness.noise import NoiseSession
from suites.contract.noise_models import ITEMS, batch, build, digest, noisy_run, passes, plan_of

PLACE = "op:linear,qk,pv,silu when:both"


def bits() -> str:
    """The digest of outputs and gradients of the three items together."""
    run = noisy_run(build(), plan_of("qwen2", PLACE, "auto"))
    return digest(run.logits, *run.gradients.values())


def part(rows: slice) -> list[dict[str, object]]:
    """The ledger of the items ``rows`` alone."""
    model = build()
    given = {name: tensor[rows] for name, tensor in batch(padded=False).items()}
    with NoiseSession(model, plan_of("qwen2", PLACE, "auto")) as session:
        with session.batch(ITEMS[rows], [0] * len(ITEMS[rows]), 0.05):
            passes(model, None, given)
        return to_json(session.ledger.drain(0.05).values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.rand(5)  # what a process drew before is no matter
    sys.stdout.write(json.dumps({"bits": bits(), "ledger": part(slice(1, 3))}))
