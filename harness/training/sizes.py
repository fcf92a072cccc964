"""The sizes of a model before it is loaded: from its config.json, or from the table that comes with the recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.exceptions import HarnessError
from harness.strict import fill, read_object, read_toml
from harness.text import nearest
from harness.training.book import FOLDER, resolved
from harness.training.recipe import Recipe
from harness.training.sections import LORA

_TABLE = FOLDER / "tables" / "architectures.toml"


@dataclass(frozen=True)
class Sizes:
    """A decoder of ``layers`` layers; ``experts`` 0 is a dense one, ``head_norms`` norms queries and keys too."""

    layers: int
    hidden: int
    heads: int
    key_value_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    positions: int
    tied: bool
    experts: int = 0
    head_norms: bool = False

    @property
    def counts(self) -> Mapping[str, int]:
        """Return operator -> modules that compute it in one forward, the output head among the linears."""
        feed_forward = 3 * max(1, self.experts) + bool(self.experts)
        return {
            "linear": self.layers * (4 + feed_forward) + 1,
            "silu": self.layers * max(1, self.experts),
            "rms_norm": self.layers * (4 if self.head_norms else 2) + 1,
            "embedding": 1,
        }

    @property
    def parameters(self) -> int:
        """Return the parameters, biases and norms left out (below a thousandth)."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.key_value_heads)
        feed_forward = 3 * self.hidden * self.intermediate * max(1, self.experts) + self.hidden * self.experts
        return self.layers * (attention + feed_forward) + self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter_parameters(self, rank: int) -> int:
        """Return the parameters of an adapter of ``rank`` on every linear of the layers."""
        queries, keys = self.heads * self.head_size, self.key_value_heads * self.head_size
        ends = 2 * (self.hidden + queries) + 2 * (self.hidden + keys)
        ends += 3 * (self.hidden + self.intermediate) * max(1, self.experts)
        return self.layers * rank * ends


def sizes_of(recipe: Recipe) -> Sizes:
    """Return the sizes of the recipe's model. Raises :class:`HarnessError` for a model that nothing describes."""
    folder = resolved(recipe.model.path)
    if folder is not None and (folder / "config.json").is_file():
        return _from_config(read_object(folder / "config.json"), folder)
    table = read_toml(_TABLE)
    name = recipe.model.architecture
    if name not in table:
        raise HarnessError(f"model.architecture {name!r}", "the table of sizes has no such row", nearest(name, table))
    return fill(Sizes, table[name], f"architecture {name}")


def trained_parameters(recipe: Recipe, sizes: Sizes) -> int:
    """Return how many parameters the optimizer holds."""
    return sizes.adapter_parameters(recipe.tuning.rank) if recipe.tuning.kind == LORA else sizes.parameters


def _from_config(config: Mapping[str, Any], folder: Path) -> Sizes:
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        experts = int(config.get("num_experts") or config.get("num_local_experts") or 0)
        return Sizes(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            heads=heads,
            key_value_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or hidden // heads),
            intermediate=int((config.get("moe_intermediate_size") if experts else None) or config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            positions=int(config["max_position_embeddings"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            experts=experts,
            head_norms="qwen3" in str(config.get("model_type", "")),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise HarnessError(f"{folder}/config.json", f"a size is missing ({error!r})", "give a decoder model") from None
