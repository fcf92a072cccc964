"""Which base an adapter was trained on: the one place that defines how an adapter records it.

An adapter records the fingerprint of its base's weights (:func:`harness.checkpoints.folder.fingerprint_weights`, 64 hex
digits) under the name ``base_model_sha256``, in any of three places, which must agree where there are several:

- ``adapter_config.json``: a field of that name (peft and vLLM ignore it);
- ``training.json`` (:mod:`harness.training_record`): an entry of its ``config``;
- ``README.md``: a line ``base_model_sha256: HEX`` of the model card's front matter.

:func:`record_base` writes the first.
"""

from __future__ import annotations

import re
from pathlib import Path

from harness.checkpoints.folder import fingerprint_weights
from harness.checkpoints.lora import CONFIG_FILE
from harness.exceptions import CheckpointError
from harness.runs.folder import write_json
from harness.strict import read_object
from harness.training_record import FILE as TRAINING_FILE
from harness.training_record import load_training_record

BASE_FIELD = "base_model_sha256"
CARD = "README.md"
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---", re.DOTALL)
_LINE = re.compile(rf"^{BASE_FIELD}:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_DIGITS = re.compile(r"[0-9a-f]{64}")


def recorded_base(adapter: Path) -> str | None:
    """Return the fingerprint of the base that the adapter in the folder ``adapter`` records; None where it records
    none.

    Raises :class:`CheckpointError` for one that is no SHA-256, and for places that disagree.
    """
    found: dict[str, object] = {CONFIG_FILE: read_object(adapter / CONFIG_FILE).get(BASE_FIELD)}
    training = load_training_record(adapter)
    found[TRAINING_FILE] = None if training is None else training.config.get(BASE_FIELD)
    found[CARD] = _in_card(adapter / CARD)
    values = {place: str(value).strip("\"'").lower() for place, value in found.items() if value is not None}
    for place, value in values.items():
        if not _DIGITS.fullmatch(value):
            raise CheckpointError(
                f"{BASE_FIELD} {value!r} in {adapter / place}", "it is no SHA-256 (64 hex digits)", "correct it"
            )
    if len(set(values.values())) > 1:
        (first, one), (second, other) = list(values.items())[:2]
        raise CheckpointError(
            f"adapter {adapter}",
            f"{first} records the base {one[:16]}..., {second} the base {other[:16]}...",
            "correct the one that is wrong",
        )
    return next(iter(values.values()), None)


def record_base(adapter: Path, base: Path) -> str:
    """Write the fingerprint of the checkpoint ``base`` into the adapter's configuration, and return it."""
    config = read_object(adapter / CONFIG_FILE)
    config[BASE_FIELD] = fingerprint_weights(base)
    write_json(adapter / CONFIG_FILE, config, sort_keys=True)
    return str(config[BASE_FIELD])


def _in_card(card: Path) -> str | None:
    if not card.is_file():
        return None
    front = _FRONT.match(card.read_text(encoding="utf-8", errors="replace"))
    line = _LINE.search(front.group(1)) if front is not None else None
    return line.group(1) if line is not None else None
