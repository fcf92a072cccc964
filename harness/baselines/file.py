"""The baseline file: JSON, one item per line, with provenance and a checksum (no torch).

An item's outcomes at a level are one character per noise seed: ``1`` right, ``0`` wrong, ``u`` unparsed,
``t`` truncated, ``e`` error, ``.`` missing. So a changed outcome is one changed line in a diff.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.exceptions import HarnessError
from harness.record import ERROR, RIGHT, TRUNCATED, UNPARSED, WRONG, Arm, Certificate, Outcome
from harness.runs.folder import checksum
from harness.spec import number_text

BASELINE_VERSION = 1
SUFFIX = ".json"
_CODES = {RIGHT: "1", WRONG: "0", UNPARSED: "u", TRUNCATED: "t", ERROR: "e"}
_OUTCOMES = {"1": Outcome(1.0, RIGHT), "0": Outcome(0.0, WRONG)} | {
    code: Outcome(None, reason) for reason, code in _CODES.items() if reason not in (RIGHT, WRONG)
}
_MISSING = "."


@dataclass(frozen=True)
class Baseline:
    """An accepted run.

    ``accepted`` is a UTC date; ``spec`` the evaluation specification to repeat it with (None for external
    runs); ``provenance`` holds weights, versions, hardware and commit; ``arm`` the outcomes and certificate.
    """

    name: str
    reason: str
    accepted: str
    provenance: Mapping[str, Any]
    spec: Mapping[str, Any] | None
    arm: Arm


def dump(baseline: Baseline) -> str:
    """The text of the file."""
    arm = baseline.arm
    seeds = {level: sorted({seed for item in cells.values() for seed in item}) for level, cells in arm.outcomes.items()}
    items = sorted({item for cells in arm.outcomes.values() for item in cells})
    head = {
        "schema_version": BASELINE_VERSION,
        "name": baseline.name,
        "reason": baseline.reason,
        "accepted": baseline.accepted,
        "measurement_key": dict(arm.key),
        "certificate": arm.certificate.to_json(),
        "provenance": baseline.provenance,
        "spec": baseline.spec,
        "seeds": {number_text(level): found for level, found in sorted(seeds.items())},
        "items": {
            item: {
                number_text(level): _encode(arm.outcomes[level].get(item, {}), seeds[level]) for level in sorted(seeds)
            }
            for item in items
        },
    }
    head["sha256"] = checksum(head)
    rows = head.pop("items")
    assert isinstance(rows, dict)
    text = json.dumps(head, indent=2, sort_keys=True)
    lines = ",\n".join(f"    {json.dumps(item)}: {json.dumps(row)}" for item, row in rows.items())
    return text[: text.rindex("\n}")] + f',\n  "items": {{\n{lines}\n  }}\n}}\n'


def load(path: Path) -> Baseline:
    """Reads a baseline file. Raises :class:`HarnessError` for one that is missing, truncated or edited."""
    restore = "restore it from version control, or accept a run with harness baseline accept"
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise HarnessError(f"baseline {path}", "no such file", "harness baseline list shows those there are") from None
    except (OSError, ValueError, RecursionError) as error:
        raise HarnessError(f"baseline {path}", f"truncated or not JSON ({error})", restore) from None
    if not isinstance(data, dict) or not {"schema_version", "sha256", "items"} <= set(data):
        raise HarnessError(f"baseline {path}", "it is not a baseline file", "write one with harness baseline accept")
    if data["schema_version"] != BASELINE_VERSION:
        raise HarnessError(
            f"baseline {path}",
            f"schema version {data['schema_version']}, this harness reads {BASELINE_VERSION}",
            "accept the run again",
        )
    if data["sha256"] != checksum(data):
        raise HarnessError(f"baseline {path}", "its checksum does not fit: it was edited or damaged", restore)
    try:
        return _baseline(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HarnessError(f"baseline {path}", f"it is damaged ({error!r})", restore) from None


def _baseline(data: Mapping[str, Any]) -> Baseline:
    outcomes = {
        float(level): {
            item: cells for item, row in data["items"].items() if (cells := _decode(row.get(level, ""), seeds))
        }
        for level, seeds in data["seeds"].items()
    }
    arm = Arm(
        label=f"baseline {data['name']}",
        key=data["measurement_key"],
        outcomes=outcomes,
        certificate=Certificate.from_json(data["certificate"]),
    )
    return Baseline(data["name"], data["reason"], data["accepted"], data["provenance"], data["spec"], arm)


def _encode(row: Mapping[int, Outcome], seeds: list[int]) -> str:
    return "".join(_CODES[row[seed].reason] if seed in row else _MISSING for seed in seeds)


def _decode(codes: str, seeds: list[int]) -> dict[int, Outcome]:
    codes = codes or _MISSING * len(seeds)
    return {seed: _OUTCOMES[code] for seed, code in zip(seeds, codes, strict=True) if code != _MISSING}
