"""Converts verl's FSDP shards with verl's own merger, in a process of its own.

Shards are pickles: opening one runs what it holds. It is verl that opens them, after a warning that says so.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.checkpoints.folder import settings_files, weight_files
from harness.checkpoints.lora import CONFIG_FILE
from harness.checkpoints.shards import HF_FOLDER, LORA_META, Shards
from harness.exceptions import CheckpointError, HarnessError
from harness.installed import full_setup

log = logging.getLogger(__name__)

LORA_FOLDER = "lora_adapter"
MERGER = "harness.checkpoints.exact_merger"
SECONDS = 3600
"""An upper bound for the merger, which reads and writes every weight once."""

_LONGEST_REASON = 200


def verl_version() -> str:
    """Return the version of verl in this environment. Raises :class:`HarnessError` where it is not installed."""
    if importlib.util.find_spec("verl") is None:
        raise HarnessError(
            "FSDP shards without verl",
            "verl's own merger converts them, and it is not installed",
            f"run {full_setup()}",
        )
    return metadata.version("verl")


def convert(shards: Shards, into: Path) -> dict[str, Any]:
    """Write the model of ``shards`` to the folder ``into`` in Hugging Face format, in the dtype of the shards.

    A LoRA adapter in the shards comes to lie in ``lora_adapter/`` of it. Returns which merger it was. Raises
    :class:`HarnessError` where verl is not installed, and :class:`CheckpointError` where its merger fails or leaves no
    whole model.
    """
    version = verl_version()
    what = f"FSDP checkpoint {shards.folder}"
    log.warning(
        "the %d shards of %s are pickles, which can run code: verl's merger opens them now, in a process of its own; "
        "convert only what you trust",
        *(shards.world_size, shards.folder),
    )
    command = [sys.executable, "-m", MERGER, "merge", "--backend", "fsdp"]
    command += ["--local_dir", str(shards.folder), "--target_dir", str(into)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("HARNESS_NOISE", None)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise CheckpointError(what, f"verl's merger took more than {SECONDS} s", "convert it by hand") from None
    if done.returncode and (into / LORA_FOLDER).is_dir() and not list(into.glob("*.safetensors")):
        raise CheckpointError(
            what,
            "its shards hold a LoRA adapter alone, without the base",
            "save it as a peft folder and evaluate that with --base FOLDER",
        )
    if done.returncode:
        raise CheckpointError(
            what,
            f"verl's merger failed ({_reason(done.stderr) or f'exit code {done.returncode}'})",
            "check its shards and huggingface/config.json",
        )
    weight_files(into)
    _check_lora(shards, into)
    if not settings_files(into, ("chat_template*",)):
        _keep(shards, into)
    return {"merger": f"verl {version}, in the dtype of the shards"}


def _check_lora(shards: Shards, into: Path) -> None:
    """verl guesses 0 for a scaling that was not recorded, which would leave the adapter without effect."""
    if (into / LORA_FOLDER / CONFIG_FILE).is_file() and not (shards.folder / LORA_META).is_file():
        raise CheckpointError(
            f"FSDP checkpoint {shards.folder}",
            f"its shards hold a LoRA adapter, and there is no {LORA_META} that says its lora_alpha",
            f"write {LORA_META} with r and lora_alpha of the training",
        )


def _keep(shards: Shards, into: Path) -> None:
    """The chat template that verl kept, where the merger did not write it again."""
    for file in settings_files(shards.folder / HF_FOLDER, ("chat_template*",)):
        (into / file.name).write_bytes(file.read_bytes())


def _reason(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:_LONGEST_REASON] if lines else ""
