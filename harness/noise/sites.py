"""Where noise can act: the sites of a model, by which way each is reached, and how its elements are laid out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from harness.noise.kinds import operator_of
from harness.noise.paths import layer_of
from harness.noise.stacked import in_width, out_width, stacked_fields
from harness.noise.text_only import beside_text

LINEAR, CONV1D, MATMUL, QK, PV, ROTARY, SOFTMAX, SDPA = (
    *("linear", "conv1d", "matmul", "qk", "pv", "rotary"),
    *("softmax", "sdpa"),
)
MODULE, ATTENTION, ANGLE, FUNCTION, WEIGHT, EXPERTS = (
    *("module", "attention", "angle", "function", "weight"),
    "experts",
)
"""Ways in: hooks of a module, the attention interface, the rotary module, a function mode, a module's weight, the
products of stacked experts."""

_FREQUENCIES = "inv_freq"
GROWING = (QK, SOFTMAX)
BY_HEADS, BY_SCORES = "by heads", "by scores"


@dataclass(frozen=True)
class Site:
    """One place that is perturbed.

    ``name`` identifies the site in keys, plans and ledgers: the path of the module whose operator it is, with
    ``:qk``, ``:pv``, ``:softmax``, ``:sdpa`` or ``:angle`` (``:KIND_angle`` where kinds of layers have frequencies of
    their own) for what happens inside an attention or rotary module, ``:input`` for a module's input, ``:FIELD`` for
    the product of stacked experts with that weight, and ``:OP`` or ``:OP#k`` for the k-th call (from 0) of another
    operator inside a module. ``columns`` is the width of one token's result: output features of a linear, heads *
    head_dim of PV, frequencies of the rotary product; for QK and softmax it is the number of heads, since their rows
    grow with the keys; 0 where it is not known before it runs. ``arranged`` says what a probe found of calls whose
    operator does not tell: :data:`BY_HEADS` for (batch, heads, tokens, dim), :data:`BY_SCORES` for (batch, heads,
    tokens, keys). ``field`` names the weight of stacked experts, ``transposed`` says that it is stored (in, out), and
    ``per_token`` how many of them a token chooses: it has as many rows.
    """

    name: str
    module: str
    op: str
    columns: int
    last_token_only: bool = False
    way: str = MODULE
    point: str = "output"
    occurrence: int = 0
    arranged: str = ""
    field: str = ""
    transposed: bool = False
    per_token: int = 1

    @property
    def grows(self) -> bool:
        """True where a token's result grows with the number of keys, so that ``columns`` is not its width."""
        return self.arranged == BY_SCORES or (
            self.op in GROWING and self.way in (ATTENTION, FUNCTION) and self.columns > 0
        )

    @property
    def layer(self) -> int | None:
        """The number of the decoder layer, from the module's path; None outside the layers (head, embedding)."""
        return layer_of(self.module)


def frequencies(module: nn.Module) -> dict[str, Tensor]:
    """Return the inverse frequencies that ``module`` itself holds, which its angle product multiplies: by the kind of
    layer that they are for (``sliding_attention``, say), by the empty text where one serves all layers."""
    held = {**module.__dict__, **module._buffers}
    found = {name.removesuffix(_FREQUENCIES): value for name, value in held.items() if name.endswith(_FREQUENCIES)}
    own = {kind: value for kind, value in found.items() if isinstance(value, Tensor) and not kind.endswith("original_")}
    return {kind.removesuffix("_"): value for kind, value in own.items()}


def is_rotary(module: nn.Module) -> bool:
    """Return True for a module that turns positions into angles and learns nothing: it holds inverse frequencies, or
    its class says that it is rotary."""
    learns = any(True for _ in module.parameters())
    return not learns and (bool(frequencies(module)) or "rotary" in type(module).__name__.lower())


def is_attention(module: nn.Module) -> bool:
    """Return True for an attention block: it knows its layer, the width of its heads and its configuration.

    A mixer with a recurrent state and what picks the keys of another block have those too, and are none.
    """
    knows = hasattr(module, "layer_idx") and hasattr(module, "head_dim") and hasattr(module, "config")
    return knows and not hasattr(module, "A_log") and "Indexer" not in type(module).__name__


def attention_heads(module: nn.Module) -> int:
    """Return query heads of an attention block."""
    return int(module.config.num_attention_heads)  # type: ignore[union-attr, arg-type]


def output_width(module: nn.Module) -> int:
    """Return features of one token in the output of a module that computes an operator; 0 where its class does not
    say."""
    for attribute in ("out_features", "nf", "embedding_dim"):
        width = getattr(module, attribute, None)
        if isinstance(width, int):
            return width
    shape = getattr(module, "normalized_shape", None)
    if shape:
        return int(shape[-1])
    weight = getattr(module, "weight", None)
    return int(weight.shape[-1]) if weight is not None and weight.ndim == 1 else 0


def find_sites(model: nn.Module) -> tuple[Site, ...]:
    """Return every site that a module, the attention interface or the rotary embedding of ``model`` offers, in module
    order.

    Calls of operators inside other modules (additions, products of a custom block) are found by running the model:
    :mod:`harness.noise.probe`. What no prompt of text runs has none.
    """
    head, beside = output_head(model), beside_text(model)
    fused = getattr(getattr(model, "config", None), "_attn_implementation", "eager") != "eager"
    found = []
    for name, module in model.named_modules():
        if name in beside:
            continue
        op = operator_of(module)
        if op is not None:
            found.append(Site(name, name, op, output_width(module), last_token_only=module is head))
        elif is_attention(module):
            heads = attention_heads(module)
            width = heads * int(module.head_dim)
            found.append(Site(f"{name}:{QK}", name, QK, heads, way=ATTENTION))
            found.append(Site(f"{name}:{SOFTMAX}", name, SOFTMAX, heads, way=ATTENTION))
            found.append(Site(f"{name}:{PV}", name, PV, width, way=ATTENTION))
            if fused:
                found.append(Site(f"{name}:{SDPA}", name, SDPA, width, way=ATTENTION))
        elif fields := stacked_fields(module):
            found += [stacked_site(name, module, field) for field in fields]
        elif is_rotary(module):
            for kind, values in frequencies(module).items():
                found.append(Site(angle_name(name, kind), name, ROTARY, values.numel(), way=ANGLE))
    return tuple(found)


def stacked_site(path: str, module: nn.Module, field: str, point: str = "output") -> Site:
    """Return the site of the product of the stacked experts ``module`` with its weight ``field``, or of an operand."""
    suffix = "" if point == "output" else f":{point}"
    width = out_width(module, field) if point == "output" else in_width(module, field)
    way = WEIGHT if point == "weight" else EXPERTS
    turned = bool(module.is_transposed)
    return Site(f"{path}:{field}{suffix}", path, LINEAR, width, False, way, point, field=field, transposed=turned)


def angle_name(path: str, kind: str) -> str:
    """Return the name of the angle product of the rotary module at ``path`` for layers of this ``kind``."""
    return f"{path}:{kind}_angle" if kind else f"{path}:angle"


def output_head(model: nn.Module) -> nn.Module | None:
    """Return the module that makes the logits, or None; generation asks it for the last token of a prompt only."""
    get = getattr(model, "get_output_embeddings", None)
    return get() if get is not None else None
