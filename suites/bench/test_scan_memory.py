"""Peak memory and time of ``harness scan`` on a generated checkpoint of the shapes of Qwen2-7B (bfloat16, sharded).

``HARNESS_SCAN_LAYERS`` layers (default 2; 28 is the whole model, 15.2 GB on disk) under ``HARNESS_SCAN_FORMATS``
(default mxfp4) in ``HARNESS_SCAN_FOLDER`` (default: pytest's). The weights are random: what is measured is memory.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import Qwen2Config

pytestmark = pytest.mark.bench

LAYERS = int(os.environ.get("HARNESS_SCAN_LAYERS", "2"))
FORMATS = os.environ.get("HARNESS_SCAN_FORMATS", "mxfp4")
HIDDEN, INTERMEDIATE, HEADS, KEY_HEADS, VOCABULARY, ALL_LAYERS = 3584, 18944, 28, 4, 152064, 28
LARGEST = 2 * VOCABULARY * HIDDEN
"""Bytes of the largest tensor: the embedding."""

CHILD = """
import pathlib, sys
from harness.cli.main import main
try:
    main()
finally:
    print(pathlib.Path("/proc/self/status").read_text(), file=sys.stderr)
"""
"""Says its own peak: ``ru_maxrss`` of a child counts what its parent held when it was started."""

INTERPRETER = 1_000_000_000
"""Bytes that torch, transformers and the temporaries of a chunk may take beside it."""


def write_checkpoint(folder: Path, layers: int) -> int:
    """Writes the checkpoint shard by shard, a layer each; returns the bytes of its weights."""
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        tie_word_embeddings=False,
        architectures=["Qwen2ForCausalLM"],
    )
    config.save_pretrained(folder)
    torch.manual_seed(0)
    count, weight_map, total = layers + 2, {}, 0
    for number, tensors in enumerate(shards(layers), start=1):
        name = f"model-{number:05d}-of-{count:05d}.safetensors"
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(2 * tensor.numel() for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def shards(layers: int) -> Iterator[dict[str, torch.Tensor]]:
    def drawn(*shape: int) -> torch.Tensor:
        return torch.empty(*shape, dtype=torch.bfloat16).normal_(0, 0.02)

    narrow = HIDDEN // HEADS * KEY_HEADS
    yield {"model.embed_tokens.weight": drawn(VOCABULARY, HIDDEN)}
    yield {"lm_head.weight": drawn(VOCABULARY, HIDDEN), "model.norm.weight": torch.ones(HIDDEN, dtype=torch.bfloat16)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        sizes = {"q_proj": HIDDEN, "k_proj": narrow, "v_proj": narrow}
        yield {
            **{f"{prefix}self_attn.{name}.weight": drawn(size, HIDDEN) for name, size in sizes.items()},
            **{f"{prefix}self_attn.{name}.bias": drawn(size) for name, size in sizes.items()},
            f"{prefix}self_attn.o_proj.weight": drawn(HIDDEN, HIDDEN),
            f"{prefix}mlp.gate_proj.weight": drawn(INTERMEDIATE, HIDDEN),
            f"{prefix}mlp.up_proj.weight": drawn(INTERMEDIATE, HIDDEN),
            f"{prefix}mlp.down_proj.weight": drawn(HIDDEN, INTERMEDIATE),
            f"{prefix}input_layernorm.weight": torch.ones(HIDDEN, dtype=torch.bfloat16),
            f"{prefix}post_attention_layernorm.weight": torch.ones(HIDDEN, dtype=torch.bfloat16),
        }


def test_a_model_larger_than_memory_is_scanned_in_that_of_its_largest_tensor(tmp_path: Path, capsys) -> None:
    folder = Path(os.environ.get("HARNESS_SCAN_FOLDER", tmp_path)) / "qwen2-7b-shaped"
    folder.mkdir(parents=True)
    try:
        stored = write_checkpoint(folder, LAYERS)
        begun = time.monotonic()
        command = [sys.executable, "-c", CHILD, "scan", str(folder), "--format", FORMATS, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - begun
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr
    peak = 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", done.stderr)[1])
    report = json.loads(done.stdout)
    elements = sum(module["error"]["elements"] for module in report["modules"])
    with capsys.disabled():
        print(
            f"\nscan of {LAYERS} layers, {stored / 1e9:.1f} GB on disk, in {FORMATS}: {elements:,} elements measured, "
            f"peak {peak / 1e9:.2f} GB, largest tensor {LARGEST / 1e9:.2f} GB, {seconds:.0f} s"
        )
    assert len(report["layers"]) == LAYERS * len(report["settings"]["formats"])
    assert peak < LARGEST + INTERPRETER
