"""Sums up baselines as JSON types, for lists and for one in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.baselines.book import Difference, diff, listed, load_named
from harness.baselines.file import Baseline, NoBaselineError, load
from harness.exceptions import HarnessError
from harness.gates.pairing import pair
from harness.gates.perplexity import is_continuous, text_level
from harness.gates.requirements import accuracy
from harness.record import Arm
from harness.runs.loaded import complete_run, is_run
from harness.thresholds import ALPHA


def list_baselines(folder: Path) -> list[dict[str, Any]]:
    """Return a row for every baseline under ``folder``; a damaged file is shown as such and hides no other, as is one
    that holds something else."""
    return [_listed(name, path) for name, path in listed(folder)]


def show_baseline(folder: Path, name: str) -> dict[str, Any]:
    """Return all that is known of the baseline ``name`` but its single outcomes."""
    baseline = load_named(folder, name)
    return _row(name, baseline) | {
        "notes": list(baseline.arm.certificate.notes),
        "measurement_key": dict(baseline.arm.key),
        "levels": _levels(baseline.arm),
        "provenance": baseline.provenance,
        "spec": baseline.spec,
        "certificate": baseline.arm.certificate.to_json(),
    }


def compare_baselines(folder: Path, left: str, right: str) -> Difference:
    """Compare two baselines or runs (names, files or run folders) outcome by outcome."""
    return diff(_arm(left, folder), _arm(right, folder))


def _arm(name: str, folder: Path) -> Arm:
    return complete_run(Path(name)).arm if is_run(Path(name)) else load_named(folder, name).arm


def _listed(name: str, path: Path) -> dict[str, Any]:
    try:
        return _row(name, load(path))
    except NoBaselineError:
        return _unread(name, "no baseline", f"{path.name} holds something else")
    except HarnessError as error:
        return _unread(name, "damaged", str(error))


def _unread(name: str, status: str, reason: str) -> dict[str, Any]:
    return {"name": name, "accepted": "-", "items": 0, "status": status, "reason": reason}


def _row(name: str, baseline: Baseline) -> dict[str, Any]:
    return {
        "name": name,
        "accepted": baseline.accepted,
        "items": len({item for cells in baseline.arm.outcomes.values() for item in cells}),
        "status": baseline.arm.certificate.status,
        "reason": baseline.reason,
    }


def _levels(arm: Arm) -> list[dict[str, Any]]:
    rows = []
    for level, cells in sorted(arm.outcomes.items()):
        if is_continuous(arm.key):
            rows.append(_texts(arm, level))
            continue
        pairs = pair(cells, cells, clusters=arm.clusters)
        interval = accuracy(pairs, pairs.means()[0], ALPHA) if pairs.n else None
        rows.append({"level": level, "n": pairs.n, "accuracy": None if interval is None else interval.to_json()})
    return rows


def _texts(arm: Arm, level: float) -> dict[str, Any]:
    """The log-likelihoods of a level: documents, tokens, and nats for each token with the bounds of a bootstrap."""
    documents, tokens, nats = text_level(arm, level)
    return {"level": level, "n": documents, "accuracy": None, "tokens": tokens, "nats_per_token": nats.to_json()}
