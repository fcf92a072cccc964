"""The baseline file: JSON, one item per line, with provenance and a checksum (no torch).

An item's outcomes at a level are one character per noise seed: ``1`` right, ``0`` wrong, ``u`` unparsed,
``t`` truncated, ``e`` error, ``.`` missing; behind a space two characters per seed, a digest of what was generated
(:func:`harness.record.answer_digest`), where that is known. So a changed outcome is one changed line in a diff.

Of sampled answers ``votes`` say which are the same, one character per draw (:mod:`harness.votes`): what a majority
needs. Files that were written before there was that have none.

The log-likelihoods of texts are numbers in place of those characters (:mod:`harness.baselines.texts`), in files of
version 3.

``sums`` say per level how many items and records there are and how many are right. They, the number of sites and the
counts of the certificate must follow from each other, or the file is refused: see :mod:`harness.baselines.sound`.
Version 1 had neither sums nor answers, and its certificates no coverage: it is read, and no verdict is based on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.baselines.sound import contradictions, level_sums
from harness.baselines.texts import BEHIND, TEXT_VERSION, TOKENS, holds_texts, read_text_row, text_row, text_tokens
from harness.exceptions import HarnessError
from harness.record import (
    ERROR,
    INVALID_EVIDENCE,
    RIGHT,
    TRUNCATED,
    UNPARSED,
    WRONG,
    Arm,
    Certificate,
    Origin,
    Outcome,
)
from harness.runs.manifest import checksum
from harness.spec import number_text
from harness.strict import read_text
from harness.thresholds import FLOOR
from harness.votes import decoded, encoded

BASELINE_VERSION = 2
READABLE = (1, BASELINE_VERSION, TEXT_VERSION)
SUFFIX = ".json"
_CODES = {RIGHT: "1", WRONG: "0", UNPARSED: "u", TRUNCATED: "t", ERROR: "e"}
_OUTCOMES = {"1": Outcome(1.0, RIGHT), "0": Outcome(0.0, WRONG)} | {
    code: Outcome(None, reason) for reason, code in _CODES.items() if reason not in (RIGHT, WRONG)
}
_MISSING, _UNKNOWN = ".", ".."


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
    """Return the text of the file."""
    arm = baseline.arm
    answers = arm.origin.answers
    seeds = {level: sorted({seed for item in cells.values() for seed in item}) for level, cells in arm.outcomes.items()}
    items = sorted({item for cells in arm.outcomes.values() for item in cells})
    texts = holds_texts(arm)

    def entry(item: str, level: float) -> str:
        row, given = arm.outcomes[level].get(item, {}), answers.get(level, {}).get(item, {})
        own = text_row(row, seeds[level]) if texts else _codes(row, seeds[level])
        digests = "".join(given.get(seed, _UNKNOWN) for seed in seeds[level]) if given else ""
        return f"{own}{BEHIND if texts else ' '}{digests}" if digests else own

    head = {
        "schema_version": TEXT_VERSION if texts else BASELINE_VERSION,
        "weights": arm.origin.weights,
        "settings": arm.origin.settings,
        "code": list(arm.origin.code),
        "sums": level_sums(arm.outcomes),
        "name": baseline.name,
        "reason": baseline.reason,
        "accepted": baseline.accepted,
        "measurement_key": dict(arm.key),
        "certificate": arm.certificate.to_json(),
        "provenance": baseline.provenance,
        "spec": baseline.spec,
        "seeds": {number_text(level): found for level, found in sorted(seeds.items())},
        "items": {
            item: ({TOKENS: text_tokens(arm, item)} if texts else {})
            | {number_text(level): entry(item, level) for level in sorted(seeds)}
            for item in items
        },
    }
    if arm.floor not in (None, FLOOR):
        head["floor"] = arm.floor
    if arm.clusters:
        head["clusters"] = {item: arm.clusters[item] for item in items if item in arm.clusters}
    if arm.votes:
        head["votes"] = {
            number_text(level): {item: encoded(row, seeds[level]) for item, row in sorted(rows.items())}
            for level, rows in sorted(arm.votes.items())
        }
    head["sha256"] = checksum(head)
    rows = head.pop("items")
    assert isinstance(rows, dict)
    text = json.dumps(head, indent=2, sort_keys=True)
    lines = ",\n".join(f"    {json.dumps(item)}: {json.dumps(row)}" for item, row in rows.items())
    return text[: text.rindex("\n}")] + f',\n  "items": {{\n{lines}\n  }}\n}}\n'


class NoBaselineError(HarnessError):
    """A sound JSON file of something else."""


def load(path: Path) -> Baseline:
    """Read a baseline file. Raises :class:`HarnessError` for one that is missing, truncated or edited,
    :class:`NoBaselineError` for one of something else."""
    restore = "restore it from version control, or accept a run with harness baseline accept"
    if not path.exists():
        raise HarnessError(f"baseline {path}", "no such file", "harness baseline list shows those there are")
    text = read_text(path, "baseline", HarnessError, restore)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HarnessError(f"baseline {path}", f"truncated or not JSON ({error})", restore) from None
    if not isinstance(data, dict) or not {"schema_version", "sha256", "items"} <= set(data):
        raise NoBaselineError(f"baseline {path}", "it is not a baseline file", "write one with harness baseline accept")
    if data["schema_version"] not in READABLE:
        raise HarnessError(
            f"baseline {path}",
            f"schema version {data['schema_version']}, this harness reads {', '.join(map(str, READABLE))}",
            "accept the run again",
        )
    if data["sha256"] != checksum(data):
        raise HarnessError(f"baseline {path}", "its checksum does not fit: it was edited or damaged", restore)
    try:
        baseline = _baseline(data)
        found = contradictions(data, baseline.arm) if data["schema_version"] >= BASELINE_VERSION else ()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HarnessError(f"baseline {path}", f"it is damaged ({error!r})", restore) from None
    if found:
        raise HarnessError(f"baseline {path}", f"it contradicts itself: {found[0]}", restore)
    return baseline


def _baseline(data: Mapping[str, Any]) -> Baseline:
    outcomes: dict[float, dict[str, dict[int, Outcome]]] = {}
    answers: dict[float, dict[str, dict[int, str]]] = {}
    for text, seeds in data["seeds"].items():
        level = float(text)
        outcomes[level], found = {}, {}
        for item, row in data["items"].items():
            cells, given = _decode(row, text, seeds)
            if cells:
                outcomes[level][item] = cells
            if given:
                found[item] = given
        if found:
            answers[level] = found
    arm = Arm(
        label=f"baseline {data['name']}",
        key=data["measurement_key"],
        outcomes=outcomes,
        certificate=_certificate(data),
        origin=Origin(data.get("weights", ""), data.get("settings", ""), tuple(data.get("code", ())), answers),
        clusters=data.get("clusters", {}),
        floor=data.get("floor"),
        votes={
            float(text): {item: decoded(row, data["seeds"][text]) for item, row in rows.items()}
            for text, rows in data.get("votes", {}).items()
        },
    )
    return Baseline(data["name"], data["reason"], data["accepted"], data["provenance"], data["spec"], arm)


def _certificate(data: Mapping[str, Any]) -> Certificate:
    """The certificate of the file; one of version 1 lacks the evidence that is asked for today."""
    certificate = Certificate.from_json(data["certificate"]).checked()
    if data["schema_version"] >= BASELINE_VERSION:
        return certificate
    words = "a baseline file of version 1 has no coverage, no sums and no code identity: accept a new run"
    return replace(certificate, status=INVALID_EVIDENCE, problems=(*certificate.problems, words))


def _codes(row: Mapping[int, Outcome], seeds: list[int]) -> str:
    return "".join(_CODES[row[seed].reason] if seed in row else _MISSING for seed in seeds)


def _decode(row: Mapping[str, Any], level: str, seeds: list[int]) -> tuple[dict[int, Outcome], dict[int, str]]:
    text = row.get(level, "")
    if TOKENS in row:
        numbers, _, rest = text.partition(BEHIND)
        cells = read_text_row(numbers, row[TOKENS], seeds)
    else:
        codes, _, rest = text.partition(" ")
        codes = codes or _MISSING * len(seeds)
        cells = {seed: _OUTCOMES[code] for seed, code in zip(seeds, codes, strict=True) if code != _MISSING}
    digests = [rest[start : start + 2] for start in range(0, len(rest), 2)]
    given = dict(zip(seeds, digests, strict=True)) if rest else {}
    return cells, {seed: digest for seed, digest in given.items() if digest != _UNKNOWN}
