"""Plain weights that were quantized before: what a checkpoint says of where its values come from (no torch).

A folder made of a quantized file holds floating point, and nothing in its tensors says that only sixteen values a block
are left. Its ``config.json`` says so, in a field that every program keeps and none reads: keys, notes and reports do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.exceptions import CheckpointError
from harness.runs.dequantized import FIELD
from harness.strict import Table, fill, read_object


@dataclass(frozen=True)
class Dequantized:
    """The quantized ``file`` that weights were made of: its ``format``, the SHA-256 of the file, and the fingerprint
    that the ``weights`` had when they were made (64 hex digits each)."""

    format: str
    file: str
    sha256: str
    weights: str

    @property
    def text(self) -> str:
        """One line for measurement keys."""
        return f"file in {self.format} ({self.sha256[:12]}), dequantized"

    def to_json(self, weights: str | None = None) -> dict[str, Any]:
        """Return JSON types; with the fingerprint of the ``weights`` that are there, also whether they are those that
        were made."""
        return asdict(self) | ({} if weights is None else {"unchanged": weights == self.weights})


def dequantized_from(path: Path) -> Dequantized | None:
    """Return what the configuration in the folder or file ``path`` says; None where it says nothing of the kind.

    Raises :class:`CheckpointError` for a field that is not as it was written.
    """
    file = path / "config.json" if path.is_dir() else path
    found = read_object(file).get(FIELD)
    if found is None:
        return None
    table = Table(found, f"file {file}", "fetch the checkpoint again", CheckpointError, FIELD)
    return fill(Dequantized, table)
