"""Loads model and tokenizer of a Hugging Face folder strictly: nothing is guessed, filled in, unpickled or run."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import torch
from jinja2 import TemplateSyntaxError
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from harness.checkpoints.stored_quantization import (
    COMPRESSED,
    FIELD,
    check_stored,
    dequantizing,
    of_activations,
    settle,
    stored_quantization,
)
from harness.exceptions import CheckpointError
from harness.noise.meta import factory_of
from harness.text import brief

SMALLEST_VOCABULARY_SHARE = 0.9
"""A tokenizer may have fewer tokens than the embedding has rows (padding to a multiple), but not far fewer. It may have
added ones beyond it (Gemma 3 1B has): no prompt may hold one, which :mod:`harness.evaluate.prompt_tokens` checks."""


def load_model(path: Path, dtype: str, attention: str, *, outline: bool = False) -> PreTrainedModel:
    """Return the causal language model in the folder ``path``, on the CPU, in evaluation mode.

    An ``outline`` has names and shapes but no weights (meta device): the same checks, for an engine that loads them
    itself.
    ``dtype`` and ``attention`` are torch's and transformers' names. Weights that are stored quantized are dequantized.
    Raises :class:`CheckpointError` where it cannot be loaded, or where weights are missing, left over, of another
    shape, or stored otherwise than the configuration says.
    """
    stored = stored_quantization(path)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        dequantizing(config, stored)
        if outline and stored is not None and stored.method == COMPRESSED:  # it cannot be unpacked without weights
            return _plain_outline(config, dtype, attention)
        with contextlib.redirect_stderr(io.StringIO()):  # progress bars of compressed-tensors
            model, report = factory_of(config).from_pretrained(
                path,
                config=config,
                dtype=getattr(torch, dtype),
                attn_implementation=attention,
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                ignore_mismatched_sizes=True,  # they are named and refused below
                output_loading_info=True,
                device_map="meta" if outline else None,
            )
    except Exception as error:  # a damaged config meets ZeroDivisionError, TypeError and validators of their own
        raise CheckpointError(
            f"checkpoint {path}",
            f"not a causal language model that transformers can load ({brief(error)})",
            "check its config",
        ) from None
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(_entry(entry) for entry in report.get(kind, ()))
        if stored is not None:
            names = [name for name in names if not of_activations(name)]
        if names:
            words = kind.replace("_keys", " weights")
            raise CheckpointError(
                f"checkpoint {path}",
                f"{len(names)} {words}, the first is {names[0]}",
                "config and weights must belong together",
            )
    check_stored(path, stored, model)
    if stored is not None:
        settle(model, getattr(torch, dtype))
    return model


def _plain_outline(config: PretrainedConfig, dtype: str, attention: str) -> PreTrainedModel:
    vars(config).pop(FIELD)
    with torch.device("meta"):
        model: PreTrainedModel = factory_of(config).from_config(
            config, dtype=getattr(torch, dtype), attn_implementation=attention
        )
    return model.eval()


def load_tokenizer(path: Path, vocabulary: int) -> PreTrainedTokenizerBase:
    """Return the tokenizer in the folder ``path``, for an embedding of ``vocabulary`` rows. Raises
    :class:`CheckpointError` where it is missing, damaged, of another vocabulary, or without chat template or
    end-of-sequence token.
    """
    if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise CheckpointError(f"checkpoint {path}", "it has no tokenizer", "save the tokenizer into the same folder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a corrupt file
        raise CheckpointError(
            f"checkpoint {path}", f"its tokenizer cannot be loaded ({brief(error)})", "save it again"
        ) from None
    added = tokenizer.get_added_vocab()
    tokens = 1 + max(tokenizer.get_vocab().values(), default=-1)
    own = 1 + max((number for token, number in tokenizer.get_vocab().items() if token not in added), default=-1)
    if tokens < SMALLEST_VOCABULARY_SHARE * vocabulary or own > vocabulary:  # added ones may never be used
        raise CheckpointError(
            f"checkpoint {path}",
            f"its tokenizer has {own if own > vocabulary else tokens} tokens and its embedding {vocabulary}: another "
            "vocabulary",
            "use the tokenizer the model was trained with",
        )
    if tokenizer.chat_template is not None:  # who needs one says so: :func:`harness.evaluate.rendering.render`
        _check_template(path, tokenizer)
    if tokenizer.eos_token_id is None:
        raise CheckpointError(f"checkpoint {path}", "its tokenizer has no end-of-sequence token", "set eos_token")
    return tokenizer


def _check_template(path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """A template that is cut off is no program; whether it takes the messages of a task shows with the task."""
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
    except TemplateSyntaxError as error:
        raise CheckpointError(
            f"checkpoint {path}", f"its chat template is damaged ({brief(error)})", "copy its chat_template.jinja again"
        ) from None
    except Exception:  # it may need other messages
        return


def _entry(entry: str | tuple[str, torch.Size, torch.Size]) -> str:
    """A weight of the loading report: its name, or its name with the shapes that differ."""
    if isinstance(entry, str):
        return entry
    name, stored, wanted = entry
    return f"{name} (shape {list(stored)}, the config says {list(wanted)})"
