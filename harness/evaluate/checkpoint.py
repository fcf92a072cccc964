"""A checkpoint in memory: model and tokenizer, loaded from a :class:`harness.checkpoints.Source`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from harness.checkpoints.checking import check_settings
from harness.checkpoints.folder import GENERATION, fingerprint_settings, fingerprint_weights, weight_files
from harness.checkpoints.loading import load_model, load_tokenizer
from harness.checkpoints.source import AnyCheckpoint, Source, as_source
from harness.checkpoints.unmerged import attach
from harness.exceptions import CheckpointError
from harness.noise.quiet import quiet
from harness.strict import read_object

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
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    @property
    def rows(self) -> int:
        """How many token ids the embedding knows."""
        return int(self.model.config.get_text_config().vocab_size)


def load_checkpoint(
    checkpoint: AnyCheckpoint, dtype: str = "float32", attention: str = "sdpa", device: str = "cpu"
) -> Checkpoint:
    """Load model and tokenizer; ``dtype`` and ``attention`` are torch's and transformers' names.

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
    _check_in_force(source, model.generation_config)
    if source.adapter is not None:
        attach(model, source.adapter)
    model.eval()
    return Checkpoint(model if device == OUTLINE else model.to(device), tokenizer, source)


def _check_in_force(source: Source, generation: GenerationConfig) -> None:
    """The settings that were loaded are those that were read strictly: transformers takes others without a word."""
    folder = source.settings_folder
    check_settings(folder)
    if fingerprint_settings(folder) != source.settings:
        raise CheckpointError(
            f"checkpoint {source.path}", f"a settings file in {folder} changed while it was loaded", "try again"
        )
    file = folder / GENERATION[0]
    stop = read_object(file).get("eos_token_id") if file.is_file() else None
    if stop is not None and generation.eos_token_id != stop:
        raise CheckpointError(
            f"eos_token_id {stop!r} in file {file}",
            f"transformers did not take it (it has {generation.eos_token_id!r})",
            "correct the file's other fields",
        )
