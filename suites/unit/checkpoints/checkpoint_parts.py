"""An adapter's tensors for the tiny checkpoint, and the program that stands in for verl's merger."""

from __future__ import annotations

import torch

RANK = 2
TARGETS = {"q_proj": (64, 64), "down_proj": (64, 64)}
"""Targets in the tiny checkpoint, with (out, in) of their weights."""

PREFIX = "base_model.model.model.layers.0"
PATHS = {"q_proj": "self_attn.q_proj", "down_proj": "mlp.down_proj"}

MERGER = """
import argparse, os, pathlib, shutil, sys
parser = argparse.ArgumentParser()
for name in ("operation", "--backend", "--local_dir", "--target_dir"):
    parser.add_argument(name)
given = parser.parse_args()
with open(os.environ["MERGER_CALLS"], "a") as calls:
    calls.write(f"{given.operation} {given.backend} {given.local_dir}\\n")
if os.environ.get("MERGER_FAILS"):
    sys.exit("ValueError: the shards do not fit")
for file in pathlib.Path(os.environ["MERGER_GIVES"]).iterdir():
    if file.is_dir():
        shutil.copytree(file, pathlib.Path(given.target_dir, file.name))
    else:
        shutil.copy(file, given.target_dir)
"""


def tensors() -> dict[str, torch.Tensor]:
    """The factors of an update of each target."""
    drawn = torch.Generator().manual_seed(0)
    found = {}
    for target, (out, inner) in TARGETS.items():
        found[f"{PREFIX}.{PATHS[target]}.lora_A.weight"] = torch.randn(RANK, inner, generator=drawn)
        found[f"{PREFIX}.{PATHS[target]}.lora_B.weight"] = torch.randn(out, RANK, generator=drawn) / 10
    return found
