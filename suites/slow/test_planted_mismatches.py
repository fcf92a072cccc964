"""Faults planted in real verl runs: each is named by the check that was made for it; docs/training.md has the results.

The unplanted runs are those of ``test_verl_arms.py`` and ``test_learning.py``, which fail no check.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.progress import Silent
from harness.training.book import load_recipe
from suites.slow.planted import ADAPTER, MISMATCHES, NOISY, PLANTS, RUNS, write_startup

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("only_ray")]
ROOT = Path(__file__).resolve().parents[2]

STEPS = 2
SHORT: dict[str, Any] = {
    "run": {"epochs": 1, "steps": STEPS, "validate_every": STEPS, "save_every": STEPS, "validate_first": False},
    "noise": {"spec": "relative_gaussian(0.05) @ op:linear", "draws": "same"},
}
NOISY_PASSES = ["rollout", "old_log_prob", "training_forward", "backward", "validation"]
CHANGES: dict[str, dict[str, Any]] = {
    NOISY: {
        "aqn": {"sigma_start": 0.05, "sigma_end": 0.05, "stages_per_epoch": STEPS},
        "data": {"validation_items": 8},
    },
    ADAPTER: {
        "noise": {**SHORT["noise"], "passes": NOISY_PASSES},
        "algorithm": {"filter_groups": False},
        "data": {"validation_items": 8, "gen_batch": 0},
        "optimizer": {"learning_rate": 1e-3},
    },
}


def test_every_mismatch_is_planted_once() -> None:
    assert sorted(name for names in RUNS for name in names) == sorted(MISMATCHES)
    for names in RUNS:
        checks = [set(MISMATCHES[name].checks) for name in names]
        assert len(set.union(*checks)) == sum(map(len, checks)), "two of them would pass for each other"
        assert len({MISMATCHES[name].recipe for name in names}) == 1


@pytest.mark.parametrize("names", RUNS, ids=" + ".join)
def test_planted_mismatches_are_named(
    names: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    pytest.importorskip("verl", reason="verl is not installed: make setup-full")
    from harness.library.training import Watching, start_training

    monkeypatch.setenv(PLANTS, ",".join(names))
    folders = (write_startup(tmp_path / "startup"), ROOT, *filter(None, (os.environ.get("PYTHONPATH"),)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
    base = MISMATCHES[names[0]].recipe
    recipe = load_recipe(base, "tiny", {**SHORT, **CHANGES[base]})
    trained = start_training(recipe, tmp_path / "run", Silent(), Watching())
    failed = {each.check: each.words for each in trained.failed}
    record_property("failed", "; ".join(f"{check}: {words}" for check, words in failed.items()))
    assert trained.evidence.status == 0
    for name in names:
        assert failed.keys() >= set(MISMATCHES[name].checks), name
