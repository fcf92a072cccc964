"""A model without weights: its configuration read strictly, its modules built on the meta device."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
)

from harness.exceptions import CheckpointError, NoiseSpecError
from harness.noise.quiet import quiet
from harness.noise.text_only import text_of
from harness.strict import read_object
from harness.text import brief, nearest

CONFIG_FILE = "config.json"
FUSED_PER_LAYER = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
"""The linears of a layer as vLLM runs dense gated models: the products that share an input are one product."""

FUSED_TYPES = ("gemma", "gemma2", "llama", "mistral", "phi3", "qwen2", "qwen3")
"""Model types whose layers vLLM runs as :data:`FUSED_PER_LAYER`."""


def load_config(path: Path) -> PretrainedConfig:
    """Return the configuration in the file ``path``, or in ``config.json`` of the folder ``path``.

    Nothing is downloaded and no code beside the file is run. Raises :class:`CheckpointError` where the file is
    missing, damaged, or of a model type that transformers does not know.
    """
    file = path / CONFIG_FILE if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"config {file}", "no such file", f"give a {CONFIG_FILE} or the folder that holds it")
    values = read_object(file)
    kind = values.get("model_type")
    if not isinstance(kind, str):
        raise CheckpointError(
            f"config {file}", "it names no model_type", "give the config.json of a Hugging Face checkpoint"
        )
    if kind not in CONFIG_MAPPING:
        known = nearest(kind, CONFIG_MAPPING.keys())
        raise CheckpointError(
            f"model_type {kind!r} in config {file}",
            f"transformers {transformers.__version__} does not know it, and code from a folder is never run",
            known if known.startswith("did you mean") else "use a release of transformers that does",
        )
    try:
        with quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(file, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # configurations have validators of many kinds
        raise CheckpointError(
            f"config {file}", f"not a valid configuration of {kind} ({brief(error)})", "check its values"
        ) from None
    return config


def factory_of(config: PretrainedConfig) -> Any:
    """Return transformers' factory of the model that answers prompts of text: of causal language models, or, for a
    configuration of text and images, of the whole model, all of whose weights a checkpoint then holds.

    ``architectures`` decides where both know the configuration.
    """
    if text_of(config) is None:
        return AutoModelForCausalLM
    causal, whole = (class_in(factory, config) for factory in (AutoModelForCausalLM, AutoModelForImageTextToText))
    named = (config.architectures or [""])[0]
    return (
        AutoModelForCausalLM
        if whole is None or getattr(causal, "__name__", None) == named
        else AutoModelForImageTextToText
    )


def class_in(factory: Any, config: PretrainedConfig) -> Any:
    """Return the class that ``factory`` makes of ``config``, None where it knows none."""
    found = factory._model_mapping.get(type(config), None)
    return found[0] if isinstance(found, tuple | list) else found


def meta_model(config: PretrainedConfig) -> nn.Module:
    """Return the causal language model of ``config`` in evaluation mode, on the meta device: names and shapes, no
    weights.

    Tied weights are tied. Attention is eager, so that no kernel must be installed; ``config`` is not changed.
    Raises :class:`CheckpointError` where transformers cannot build one.
    """
    try:
        with quiet(), torch.device("meta"):
            model: nn.Module = factory_of(config).from_config(
                copy.deepcopy(config), trust_remote_code=False, attn_implementation="eager"
            )
    except Exception as error:  # a contradictory config meets ZeroDivisionError, TypeError and others
        raise CheckpointError(
            f"a model of type {getattr(config, 'model_type', None)!r}",
            f"transformers cannot build a causal language model of it ({brief(error)})",
            "check its config",
        ) from None
    return model.eval()


def fused_linears(config: PretrainedConfig) -> int:
    """Return how many linears vLLM runs for a dense gated model, without the head: 4 per layer, 112 for Qwen2.5-1.5B.

    vLLM computes q, k and v as ``qkv_proj`` and gate and up as ``gate_up_proj``; ``o_proj`` and ``down_proj`` stay.
    Raises :class:`NoiseSpecError` for a model type of which this is not known.
    """
    kind: Any = getattr(config, "model_type", None)
    if kind not in FUSED_TYPES:
        raise NoiseSpecError(
            f"fused linears of model type {kind!r}",
            f"known for {', '.join(FUSED_TYPES)}",
            "count the linears of the running engine",
        )
    return len(FUSED_PER_LAYER) * int(config.num_hidden_layers)
