"""What the class of a model can do, read from its configuration before anything is loaded."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, PretrainedConfig

from harness.exceptions import CheckpointError

CACHE = "past_key_values"
KEEP_STATE_INSIDE = ("recurrent_gemma",)
"""Model types that take a cache and ignore it: their modules remember the batch, whose rows cannot be dropped."""


def causal_class(config: PretrainedConfig) -> Any:
    """Return transformers' causal language model of ``config``, None where there is none."""
    mapping = AutoModelForCausalLM._model_mapping
    found = mapping.get(type(config), None)
    return found[0] if isinstance(found, tuple | list) else found


def check_decodable(config: PretrainedConfig, where: Path) -> None:
    """Raise :class:`CheckpointError` for a model that batched decoding cannot drive: it would forget what it read.

    Keys, values and states live in transformers' own cache, passed from step to step; Mamba, RWKV and others take
    another one, and would be given none, without a word.
    """
    model = causal_class(config)
    if model is None:
        return
    if CACHE in inspect.signature(model.forward).parameters and config.model_type not in KEEP_STATE_INSIDE:
        return
    raise CheckpointError(
        f"{where} of type {config.model_type}",
        f"{model.__name__} keeps a cache of its own, which batched decoding cannot drive",
        "evaluate another architecture, or score answers made elsewhere with harness score",
    )


def has_sdpa(config: PretrainedConfig) -> bool:
    """Return False where transformers has no SDPA attention for the model of ``config``."""
    model = causal_class(config)
    return model is None or bool(model._supports_sdpa)
