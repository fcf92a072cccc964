"""What manifests and reports say of plain weights that were quantized before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIELD = "dequantized_from"
"""The field of a checkpoint's ``config.json``, and of the checkpoint in a manifest or a scan."""


def dequantized_sentence(checkpoint: Mapping[str, Any]) -> str | None:
    """Return what every report says first of a ``checkpoint`` (JSON types of a manifest); None where its weights were
    never quantized, as far as they say."""
    stored = checkpoint.get(FIELD)
    if stored is None:
        return None
    kind, file = stored["format"], stored["file"]
    if stored.get("unchanged") is False:
        return f"its weights were begun from dequantized {kind} values ({file}) and changed since"
    return f"its weights are dequantized {kind} values ({file}), not those that it was trained to"
