"""``harness compare`` on stored runs of checkpoints that say what they were trained with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.long
Verb = Callable[..., Any]
TINY = (
    *("--items", "2", "--noise-levels", "0,0.05", "--noise-seeds", "1"),
    *("--max-new-tokens", "2", "--device", "cpu", "--no-positive-control"),
)


def record(seed: int, sigma: float) -> dict[str, Any]:
    return {
        "config": {"aqn.sigma": sigma, "lr": 1e-5},
        "seed": seed,
        "data_order": f"order {seed} {sigma}",
        "initial_losses": [1.0 + seed / 10 + sigma],
        "step": 10,
        "updates": 10,
        "epochs": 1.0,
        "dataset": "d",
        "template": "t",
    }


@pytest.fixture(scope="module")
def checkpoints(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, float], Path]:
    """A checkpoint of its own weights for a training seed and a setting."""
    folder = tmp_path_factory.mktemp("arms")

    def made(seed: int, sigma: float) -> Path:
        path = folder / f"{seed}-{sigma}"
        if not path.exists():
            shutil.copytree(tiny, path)
            weights = load_file(path / "model.safetensors")
            name = next(name for name in sorted(weights) if weights[name].ndim == 2)
            weights[name] = weights[name] + torch.full_like(weights[name], 1e-3 * (seed + 1) + sigma / 100)
            save_file(weights, path / "model.safetensors", {"format": "pt"})
            (path / "training.json").write_text(json.dumps(record(seed, sigma)))
        return path

    return made


@pytest.fixture(scope="module")
def runs(checkpoints: Callable[[int, float], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from harness.cli.main import main

    folder, found = tmp_path_factory.mktemp("runs"), {}
    for sigma in (0.0, 0.05):
        for seed in range(2):
            out = folder / f"{seed}-{sigma}"
            with pytest.raises(SystemExit) as ended:
                main(["eval", str(checkpoints(seed, sigma)), *TINY, "--out", str(out)])
            assert ended.value.code == 0
            found[f"{seed}-{sigma}"] = out
    return found


def test_arms_of_stored_runs_are_compared(cli: Verb, runs: dict[str, Path]) -> None:
    arms = (
        *("--arm", f"with={runs['0-0.05']},{runs['1-0.05']}"),
        *("--arm", f"without={runs['0-0.0']},{runs['1-0.0']}", "--factor", "aqn.sigma"),
    )
    said = cli("compare", *arms, "--json")
    found = json.loads(said.out)
    assert said.code == 3 and found["verdict"] == "NO CLAIM", found  # random weights answer nothing: no spread
    assert [level["level"] for level in found["levels"]] == [0.0, 0.05]
    assert "verdict: NO CLAIM" in cli("compare", *arms).out


def test_one_run_per_arm_is_no_claim(cli: Verb, runs: dict[str, Path]) -> None:
    said = cli("compare", "--arm", f"a={runs['0-0.05']}", "--arm", f"b={runs['0-0.0']}")
    assert said.code == 3 and "one training seed in an arm" in said.out and "no interval" in said.out


def test_replicates_are_no_arms(cli: Verb, runs: dict[str, Path]) -> None:
    said = cli("compare", "--arm", f"a={runs['0-0.0']}", "--arm", f"b={runs['1-0.0']}")
    assert said.code == 4 and "same effective configuration" in said.out


def test_a_run_without_a_record_is_no_replicate(cli: Verb, tiny: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    assert cli("eval", tiny, *TINY, "--out", tmp_path / "bare").code == 0
    said = cli("compare", "--arm", f"a={tmp_path / 'bare'}", "--arm", f"b={runs['1-0.0']}")
    assert said.code == 4 and "has no training.json" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give --arm twice"),
        (("--arm", "a"), "an arm is a name and its run folders"),
        (("--arm", "a=", "--arm", "b=x"), "an arm is a name and its run folders"),
        (("--arm", "a=nowhere", "--arm", "b=nowhere"), "not a run folder"),
        (("--arm", "a=nowhere,nowhere", "--arm", "b=x"), "is named twice"),
    ],
)
def test_wrong_arguments_are_one_line(cli: Verb, arguments: tuple[str, ...], words: str) -> None:
    said = cli("compare", *arguments)
    assert said.code == 2 and words in said.err and len(said.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": -1}, "seed = -1; it must be at least 0"),
        ({"config": {"a": [1]}}, "[config]: a = [1]; it must be a text or a whole number"),
        ({"initial_losses": []}, "initial_losses; at least one is needed"),
        ({"sed": 1}, "unknown key 'sed'; nothing reads it; did you mean 'seed'?"),
        ({"epochs": None}, "epochs = None; it must be a finite number"),
        ({"dataset": ""}, "dataset = ''; it must be a text that is not empty"),
    ],
)
def test_a_damaged_record_is_refused_when_the_checkpoint_is_evaluated(
    cli: Verb, tiny: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    (tmp_path / "model" / "training.json").write_text(json.dumps({**record(0, 0.0), **change}))
    said = cli("eval", tmp_path / "model", *TINY, "--out", tmp_path / "run")
    assert said.code == 2 and words in said.err and "training.json" in said.err
