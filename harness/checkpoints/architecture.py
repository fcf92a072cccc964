"""What the class of a model can do, read from its configuration before anything is loaded."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from transformers import AutoModelForMaskedLM, PretrainedConfig

from harness.exceptions import CheckpointError
from harness.noise.meta import class_in, factory_of

CACHE = "past_key_values"
KEEP_STATE_INSIDE = ("recurrent_gemma",)
"""Model types that take a cache and ignore it: their modules remember the batch, whose rows cannot be dropped."""


def causal_class(config: PretrainedConfig) -> Any:
    """Return transformers' model of ``config`` that answers prompts of text, None where there is none."""
    return class_in(factory_of(config), config)


def check_decodable(config: PretrainedConfig, where: Path) -> None:
    """Raise :class:`CheckpointError` for a model that batched decoding of text cannot drive.

    Keys, values and states live in transformers' own cache, passed from step to step; Mamba, RWKV and others take
    another one, and would be given none, without a word: they would forget what they read.
    """
    why = _why_not(config, causal_class(config))
    if why is not None:
        raise CheckpointError(
            f"{where} of type {config.model_type}",
            why,
            "evaluate another architecture, or score answers made elsewhere with harness score",
        )


def _why_not(config: PretrainedConfig, model: Any) -> str | None:
    if model is None:
        return "transformers has no model of it that answers prompts of text"
    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        return "it is an encoder-decoder, and prompts are continued here, not encoded"
    if CACHE not in inspect.signature(model.forward).parameters or config.model_type in KEEP_STATE_INSIDE:
        return f"{model.__name__} keeps a cache of its own, which batched decoding cannot drive, or none"
    if class_in(AutoModelForMaskedLM, config) is not None and not getattr(config, "is_decoder", False):
        return "its config says that it fills masks (is_decoder is not on): it would see what comes after a token"
    return None


def has_sdpa(config: PretrainedConfig) -> bool:
    """Return False where transformers has no SDPA attention for the model of ``config``."""
    model = causal_class(config)
    return model is None or bool(model._supports_sdpa)
