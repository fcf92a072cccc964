"""Tiny models of every architecture family, the runs that the laws compare, and counts written by hand."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from harness.noise import NoiseSession, build_plan
from harness.noise.plan import InjectionPlan
from harness.record import SiteCount
from harness.spec import parse_noise
from harness.spec.errors import ERROR_MODELS, ErrorModel, FakeQuant
from harness.spec.formats import FORMATS

LAYERS, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, MLP, VOCAB = 2, 4, 2, 4, 16, 24, 32
LENGTHS = (6, 4, 5)
"""Tokens of the sequences of :func:`batch`, which are padded on the left to the longest."""

REAL = sum(LENGTHS)
VISIBLE = sum(length * (length + 1) // 2 for length in LENGTHS)
ITEMS = ("one", "two", "three")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_COMMON: Mapping[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 32,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_GATED = {**_COMMON, "intermediate_size": MLP, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "qwen2": {**_COMMON, "intermediate_size": MLP, "num_key_value_heads": KV_HEADS},
    "llama": _GATED,
    "gpt2": {
        **{"vocab_size": VOCAB, "n_positions": 32, "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS},
        **{"bos_token_id": None, "eos_token_id": None, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    },
    "opt": {**_COMMON, "dropout": 0.0, "ffn_dim": MLP, "word_embed_proj_dim": HIDDEN, "pad_token_id": 1},
    "gemma": _GATED,
    "mixtral": {**_GATED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "phi": {**_COMMON, "intermediate_size": MLP, "partial_rotary_factor": 0.5},
}
"""Model type -> configuration; all have 2 layers, 16 features, 4 heads and 32 tokens."""


@functools.cache
def _weights(kind: str, experts: str) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[kind](**CONFIGS[kind])
    if experts:
        config._experts_implementation = experts
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    finally:
        transformers.logging.set_verbosity(before)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # they start at 0, which would hide noise that misses them
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            elif parameter.ndim > 1:  # and weights so small that nothing after the embedding would matter
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def build(
    kind: str = "qwen2", attention: str = "eager", dtype: torch.dtype = torch.float32, experts: str = ""
) -> nn.Module:
    """A fresh model in evaluation mode, always with the same weights."""
    import copy

    model = copy.deepcopy(_weights(kind, experts)).to(dtype)
    model.set_attn_implementation(attention)
    return model


def batch(padded: bool = True) -> dict[str, Tensor]:
    """Three sequences; ``padded`` masks the left of the shorter ones."""
    ids = torch.randint(2, VOCAB, (3, 6), generator=torch.Generator().manual_seed(2))
    if not padded:
        return {"input_ids": ids}
    mask = torch.ones_like(ids)
    for row, length in enumerate(LENGTHS):
        mask[row, : 6 - length] = 0
    return {"input_ids": ids, "attention_mask": mask}


def loss_of(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """A loss with the same gradient whatever runs it: no call of it is an operator of the table."""
    weight = torch.linspace(-1, 1, logits.shape[-1]).to(logits.dtype)
    summed = torch.sum(torch.square(torch.sub(logits.float(), weight.float())), -1)
    return torch.sum(summed if mask is None else torch.where(mask.bool(), summed, 0.0))


@dataclass(frozen=True)
class Run:
    """What one forward and backward pass left behind."""

    logits: Tensor
    gradients: Mapping[str, Tensor]
    counts: Mapping[str, SiteCount]

    def calls(self) -> dict[tuple[str, str, str], int]:
        """(operator, direction, operand) -> calls."""
        return add_up(self.counts.values(), lambda count: count.calls)


def add_up(counts: Iterable[SiteCount], number: Callable[[SiteCount], int]) -> dict[tuple[str, str, str], int]:
    """(operator, direction, operand) -> sum of ``number`` over the counts."""
    found: dict[tuple[str, str, str], int] = {}
    for count in counts:
        key = count.op, count.direction, count.operand
        found[key] = found.get(key, 0) + number(count)
    return found


def passes(model: nn.Module, call: Any = None, inputs: Mapping[str, Tensor] | None = None) -> Run:
    """One forward and backward pass of ``model`` (by ``call``, if that is something around it)."""
    given = batch() if inputs is None else inputs
    model.zero_grad(set_to_none=True)
    logits = (model if call is None else call)(**given, use_cache=False).logits
    loss_of(logits, given.get("attention_mask")).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return Run(logits.detach().clone(), gradients, {})


@functools.cache
def plan_of(kind: str, place: str, way: str) -> InjectionPlan:
    """The plan of ``place`` (selectors) for a model of :func:`build`, its strength left open."""
    return build_plan(build(kind), parse_noise(f"relative_gaussian @ {place}"), way)


def noisy_run(
    model: nn.Module,
    plan: InjectionPlan,
    scale: float = 0.05,
    error: ErrorModel | None = None,
    seed: int = 0,
    inputs: Mapping[str, Tensor] | None = None,
) -> Run:
    """:func:`passes` with the noise of ``plan`` on the items :data:`ITEMS`."""
    given = batch() if inputs is None else inputs
    with NoiseSession(model, plan) as session:
        with session.batch(ITEMS[: len(given["input_ids"])], [seed] * len(given["input_ids"]), scale, error):
            run = passes(model, None, given)
        return Run(run.logits, run.gradients, session.ledger.drain(scale))


_PARTS = "op:linear,matmul,softmax,silu when:both"
WAYS: Mapping[str, tuple[str, str]] = {
    "module output": ("op:linear,silu when:both", "auto"),
    "module input": ("op:linear at:input when:both", "auto"),
    "hooks": (_PARTS, "auto"),
    "functions": (_PARTS, "functions"),
    "weights": ("op:linear at:weight", "auto"),
}
"""Name -> (selectors, way) of every way in. Norms have laws of their own: in float32 they use their input twice, and
backward noise needs that sum before the gradient of the residual stream is added to it, which is another order."""

_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "bit_flip": {"rate": 0.05, "bit": 6},
    "bit_flips": {"rate": 0.05},
    "stuck_lane": {"rate": 0.5, "period": 3},
    "fault_mix": {"rate": 0.05, "special": 0.0},
    "absolute_saturation": {"limit": 0.01},
    "fake_quant": {"format": "fp8_e4m3"},
    "truncation": {"step": 0.01},
    "spike": {"rate": 0.05},
    "stuck_at": {"rate": 0.1, "value": 0.5},
    "deadzone": {"threshold": 0.05},
    "saturation": {"margin": 0.1},
}


def error_of(name: str) -> ErrorModel:
    """The error model ``name`` at a strength that changes something everywhere; a format quantizes to it."""
    if name in FORMATS:
        return FakeQuant(name)
    return ERROR_MODELS[name](**_FIELDS.get(name, {"scale": 0.05}))


def of_rows(place: str) -> str:
    """``place`` without what has rows of several widths, which a row statistic cannot use."""
    return place.replace("linear,matmul,softmax,silu", "linear,pv,silu")


def same(first: Run, second: Run) -> bool:
    """Equal bits of logits and of all gradients."""
    return same_bits(first.logits, second.logits) and same_gradients(first, second)


def same_gradients(first: Run, second: Run, names: Sequence[str] | None = None) -> bool:
    """Equal bits of the gradients of ``names`` (default: all, and of the same parameters)."""
    if names is None and first.gradients.keys() != second.gradients.keys():
        return False
    chosen = first.gradients if names is None else names
    return all(same_bits(first.gradients[name], second.gradients[name]) for name in chosen)


def same_bits(first: Tensor, second: Tensor) -> bool:
    """The same dtype, shape and bytes; -0.0 is not 0.0, and NaN is NaN."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return digest(first) == digest(second)


def digest(*tensors: Tensor) -> str:
    """SHA-256 of the bytes of ``tensors``, in order."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(tensor.detach().cpu().resolve_conj().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def numbers(counts: Mapping[str, SiteCount]) -> dict[str, tuple[int, ...]]:
    """Label -> everything that is a whole number."""
    return {
        label: (count.calls, count.rows, count.elements, count.changed, count.nonzero, count.nonfinite)
        for label, count in counts.items()
    }
