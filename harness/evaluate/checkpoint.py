"""A checkpoint in memory: model and tokenizer, loaded from a :class:`harness.checkpoints.Source`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from harness.checkpoints.beside import attach
from harness.checkpoints.folder import fingerprint_settings, fingerprint_weights, weight_files
from harness.checkpoints.loading import load_model, load_tokenizer, quiet
from harness.checkpoints.source import AnyCheckpoint, Source, as_source

__all__ = ["Checkpoint", "fingerprint_settings", "fingerprint_weights", "load_checkpoint", "weight_files"]

OUTLINE = "meta"
"""The device of a model without weights."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: model in evaluation mode, tokenizer, and where both came from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: Source

    @property
    def path(self) -> Path:
        """The folder that was asked for."""
        return self.source.path

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, 64 hex digits."""
        return self.source.weights

    @property
    def settings(self) -> str:
        """SHA-256 of the settings, 64 hex digits."""
        return self.source.settings

    @property
    def context(self) -> int | None:
        """The largest number of tokens of prompt and answer together, where the configuration states one."""
        return getattr(self.model.config, "max_position_embeddings", None)


def load_checkpoint(
    checkpoint: AnyCheckpoint, dtype: str = "float32", attention: str = "sdpa", device: str = "cpu"
) -> Checkpoint:
    """Loads model and tokenizer; ``dtype`` and ``attention`` are torch's and transformers' names.

    On the device :data:`OUTLINE` the model has names and shapes but no weights, for engines that load it themselves.
    Raises :class:`harness.exceptions.CheckpointError` for every kind of folder that is not a complete, finite causal
    language model with its own tokenizer and chat template.
    """
    source = as_source(checkpoint)
    with quiet():
        model = load_model(source.folder, dtype, attention, outline=device == OUTLINE)
        tokenizer = load_tokenizer(source.settings_folder, model.config.get_text_config().vocab_size)
        if source.settings_folder != source.folder and (source.settings_folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(source.settings_folder)
    if source.adapter is not None:
        attach(model, source.adapter)
    model.eval()
    return Checkpoint(model if device == OUTLINE else model.to(device), tokenizer, source)
