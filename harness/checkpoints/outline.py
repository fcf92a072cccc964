"""The model of a checkpoint without its weights, whatever it is a model of: names and shapes alone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from harness.exceptions import CheckpointError
from harness.noise.meta import load_config
from harness.noise.quiet import quiet
from harness.text import brief


def build_outline(path: Path) -> nn.Module:
    """Return the model that the configuration in ``path`` names, on the meta device: names and shapes, no weights.

    The class is the first of ``architectures`` that transformers has; without one, the causal language model of the
    model type, else its bare model. Raises :class:`CheckpointError`.
    """
    config = load_config(path)
    kinds: list[Any] = [getattr(transformers, name, None) for name in config.architectures or ()]
    builders = [kind._from_config for kind in kinds if _is_model(kind)]
    builders += [AutoModelForCausalLM.from_config, AutoModel.from_config]
    why: Exception | None = None
    for build in builders:
        try:
            return _built(build, config)
        except Exception as error:  # a contradictory config meets ZeroDivisionError, TypeError and others
            why = why or error
    assert why is not None
    raise CheckpointError(
        f"a model of type {config.model_type!r}", f"transformers cannot build it ({brief(why)})", "check its config"
    )


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, PreTrainedModel)


def _built(build: Any, config: PretrainedConfig) -> nn.Module:
    with quiet(), torch.device("meta"):
        model: nn.Module = build(copy.deepcopy(config))
    return model.eval()
