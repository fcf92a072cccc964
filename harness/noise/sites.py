"""Where noise can act in a transformers model: the one table of operator names and the sites found by it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

LINEAR, QK, PV, ROTARY = "linear", "qk", "pv", "rotary"


@dataclass(frozen=True)
class Site:
    """One place whose output is perturbed.

    ``name`` identifies the site in keys, plans and ledgers: the module's name as transformers names it, with
    ``:qk``, ``:pv`` or ``:angle`` for products inside it. ``columns`` is the width of one token's output: output
    features of a linear, heads * head_dim of PV, frequencies of the rotary product; for QK it is the number
    of heads, since its row grows with the keys.
    """

    name: str
    module: str
    op: str
    columns: int
    last_token_only: bool = False

    @property
    def grows(self) -> bool:
        """True where a token's output grows with the number of keys, so that ``columns`` is not its width."""
        return self.op == QK


def is_rotary(module: nn.Module) -> bool:
    """A rotary embedding as transformers writes it: it owns ``inv_freq``, which its angle product multiplies."""
    return hasattr(module, "inv_freq") and "rotary" in type(module).__name__.lower()


def is_attention(module: nn.Module) -> bool:
    """An attention block that calls transformers' attention interface."""
    return hasattr(module, "layer_idx") and hasattr(module, "head_dim") and hasattr(module, "num_key_value_groups")


def find_sites(model: nn.Module) -> tuple[Site, ...]:
    """Every site of ``model``, of every operator, in module order.

    Raises nothing: a model without attention blocks or rotary embedding simply has none of those sites.
    """
    head = output_head(model)
    found = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            found.append(Site(name, name, LINEAR, module.out_features, last_token_only=module is head))
        elif is_attention(module):
            heads = int(module.config.num_attention_heads)
            found.append(Site(f"{name}:qk", name, QK, heads))
            found.append(Site(f"{name}:pv", name, PV, heads * module.head_dim))
        elif is_rotary(module):
            found.append(Site(f"{name}:angle", name, ROTARY, module.inv_freq.numel()))
    return tuple(found)


def output_head(model: nn.Module) -> nn.Module | None:
    """The module that makes the logits, or None; generation asks it for the last token of a prompt only."""
    get = getattr(model, "get_output_embeddings", None)
    return get() if get is not None else None
