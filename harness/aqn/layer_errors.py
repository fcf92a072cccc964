"""The error of each decoder layer out of a file: the report of a scan, or a table that another diagnosis wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.aqn.targets import layer_of
from harness.exceptions import HarnessError
from harness.strict import CORRECT, read_object, shown

WEIGHTS = "weights"


def errors_of(file: Path) -> dict[int, float]:
    """Return layer -> error of ``file``: of ``scan.json``, the root of noise energy over signal energy of the weights
    under its one format; else of an object such as ``{"0": 0.12, "1": 0.3}``, its numbers.

    Raises :class:`HarnessError` for anything else.
    """
    data = read_object(file, CORRECT)
    rows = data.get("layers")
    found = _of_scan(file, rows) if isinstance(rows, list) else _of_table(file, data)
    for layer, error in found.items():
        if not 0 < error < math.inf:
            raise HarnessError(
                f"{file}: error {shown(error)} of layer {layer}", "it is a finite number above 0", "scan again"
            )
    return found


def _of_scan(file: Path, rows: Sequence[Any]) -> dict[int, float]:
    try:
        chosen = [(row["format"], row["group"], row["metrics"]["sqnr_db"]) for row in rows if row["what"] == WEIGHTS]
        formats = sorted({fmt for fmt, _, _ in chosen})
        errors = {layer_of(group): 10 ** (-float(value) / 20) for _, group, value in chosen}
    except (KeyError, TypeError, ValueError) as error:
        raise HarnessError(f"{file}", f"it is not the report of a scan ({error!r})", "scan again") from None
    if len(formats) != 1:
        raise HarnessError(
            f"{file} with formats {', '.join(formats) or 'none'}", "the errors are those of one format", "scan with one"
        )
    return {layer: error for layer, error in errors.items() if layer is not None}


def _of_table(file: Path, data: Mapping[str, Any]) -> dict[int, float]:
    for layer, value in data.items():
        if not layer.isdecimal() or isinstance(value, bool) or not isinstance(value, int | float):
            raise HarnessError(
                f"{file}: {shown(layer)}: {shown(value)}", "it maps layers to numbers", 'write {"0": 0.12, "1": 0.3}'
            )
    return {int(layer): float(value) for layer, value in data.items()}
