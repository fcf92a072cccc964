"""The ledger beside a perturbed copy, and what it makes of the measurement key: strict, so that no edit passes.

The header of every weight file names the settings' hash, so that a copy whose ledger was removed is found out as well.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.aqn.config import AqnConfig
from harness.aqn.session import Dose
from harness.checkpoints.folder import weight_files
from harness.checkpoints.source import Source
from harness.checkpoints.tensors import opened
from harness.exceptions import CheckpointError, HarnessError
from harness.strict import read_object

FILE = "aqn.json"
CHECKSUM_FIELD = "aqn"
VERSION = 1
OFF = "off"
_FIELDS = {"version", "config", "dose", "base", "weights", "sha256"}
_WAY_OUT = "make the copy again with harness aqn apply"


@dataclass(frozen=True)
class Written:
    """A perturbed copy: ``text`` is what the measurement key says, ``weights`` the fingerprint of what was written."""

    text: str
    weights: str
    ledger: dict[str, Any]


def write_beside(folder: Path, config: AqnConfig, dose: Dose, base: str, weights: str) -> Written:
    """Write the ledger into ``folder``: settings, what every layer got, fingerprints of the clean and noisy weights."""
    ledger = {
        "version": VERSION,
        "config": config.to_json(),
        "dose": dose.to_json(),
        "base": base,
        "weights": weights,
    }
    ledger["sha256"] = _checksum(ledger)
    (folder / FILE).write_text(json.dumps(ledger, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return Written(key_text(ledger), weights, ledger)


def state_of(source: Source) -> str:
    """Return the ``aqn`` field of the measurement key for the checkpoint ``source``: ``off``, or the dose.

    Raises :class:`CheckpointError` for a ledger that is damaged, edited, of other weights, or gone.
    """
    if source.adapter is None and "adapter" not in source.details:
        return folder_state(source.folder, source.weights)
    base = source.details["base"]
    return folder_state(Path(base["path"]), base["weights"])


def folder_state(folder: Path, weights: str) -> str:
    """Return the field for the weights with the fingerprint ``weights`` in ``folder``; raise as :func:`state_of`."""
    named = {_header(file) for file in weight_files(folder)}
    if not (folder / FILE).exists():
        if named != {None}:
            raise CheckpointError(
                f"checkpoint {folder}", f"its weights carry AQN noise but its ledger {FILE} is gone", _WAY_OUT
            )
        return OFF
    ledger = read_ledger(folder / FILE)
    if ledger["weights"] != weights:
        raise CheckpointError(f"file {folder / FILE}", "it is the ledger of other weights than those here", _WAY_OUT)
    if named != {ledger["dose"]["effective"]}:
        raise CheckpointError(f"file {folder / FILE}", "the weight files name other settings", _WAY_OUT)
    return key_text(ledger)


def read_ledger(file: Path) -> dict[str, Any]:
    """Return the ledger in ``file``. Raises :class:`CheckpointError` where it is damaged or edited."""
    ledger = read_object(file)
    if set(ledger) != _FIELDS or ledger["version"] != VERSION:
        raise CheckpointError(f"file {file}", f"it is no AQN ledger of version {VERSION}", _WAY_OUT)
    rest = {name: value for name, value in ledger.items() if name != "sha256"}
    if ledger["sha256"] != _checksum(rest):
        raise CheckpointError(f"file {file}", "its checksum does not fit: edited or damaged", _WAY_OUT)
    try:
        AqnConfig.from_json(ledger["config"])
        key_text(ledger)
    except (HarnessError, KeyError, TypeError) as error:
        raise CheckpointError(f"file {file}", f"its settings are damaged ({error})", _WAY_OUT) from None
    return ledger


def key_text(ledger: dict[str, Any]) -> str:
    """Return the dose in one line: mode, sigma, kinds, layers that got any, step, seed, and the settings' hash."""
    config, dose = ledger["config"], ledger["dose"]
    loud = sum(layer["asked"] != 0 for layer in dose["layers"])
    kinds = "+".join(config["targets"]["kinds"])
    return (
        f"{config['mode']} sigma {dose['sigma']:g} on {loud} {kinds} step {dose['step']} seed {config['seed']} "
        f"[{dose['effective']}]"
    )


def _checksum(ledger: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(ledger, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _header(file: Path) -> str | None:
    with opened(file) as handle:
        found: str | None = (handle.metadata() or {}).get(CHECKSUM_FIELD)
        return found
