"""Early stopping on the shipped checkpoint: a damaged copy FAILs after one block, the checkpoint PASSes early."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.baselines.file import dump, load
from harness.cli.main import main
from harness.gates.early import BLOCK
from harness.record import CERTIFIED
from harness.runs.loaded import load_run

pytestmark = pytest.mark.contract

COMMITTED = Path(__file__).parents[2] / "baselines" / "arith" / "arith-qwen2.json"
LEVELS = (0.0, 0.05)
PLANNED = 200


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    """The committed baseline at two levels with one noise seed each."""
    whole = load(COMMITTED)
    outcomes = {level: {item: {0: row[0]} for item, row in whole.arm.outcomes[level].items()} for level in LEVELS}
    spec = {**(whole.spec or {}), "levels": list(LEVELS), "noise_seeds": 1}
    path = tmp_path / "small.json"
    levels = tuple(entry for entry in whole.arm.certificate.levels if entry.level in LEVELS)
    arm = replace(whole.arm, outcomes=outcomes, certificate=replace(whole.arm.certificate, levels=levels))
    path.write_text(dump(replace(whole, arm=arm, spec=spec)))
    return path


@pytest.fixture
def damaged(shipped: Path, tmp_path: Path) -> Path:
    """A copy whose weights carry 25 % relative Gaussian damage."""
    target = Path(shutil.copytree(shipped, tmp_path / "damaged"))
    generator = torch.Generator().manual_seed(1)
    weights = load_file(target / "model.safetensors")
    hurt = {name: w * (1 + 0.25 * torch.randn(w.shape, generator=generator)) for name, w in weights.items()}
    save_file(hurt, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``harness`` in this process: (exit code, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def evaluated(found: dict[str, Any], run: Path) -> int:
    """How many items the gate says were evaluated, which is what is stored, with exact counts for those."""
    stored = load_run(run)
    assert stored.arm.certificate.status == CERTIFIED
    for level in stored.arm.certificate.levels:
        assert level.expected_rows == level.counted_rows > 0
        assert level.audited > 0
    control = stored.arm.certificate.control
    assert control is not None and not control.problems
    early = found["early_stop"]
    assert (early["planned"], early["evaluated"]) == (PLANNED, len({result.item for result in stored.results}))
    assert early["saved"] == pytest.approx(1 - early["evaluated"] / PLANNED)
    return int(early["evaluated"])


def test_a_damaged_copy_fails_after_one_block(
    call: Callable[..., tuple[int, str, str]], baseline: Path, damaged: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    judge = (
        "gate",
        damaged,
        "--baseline",
        baseline,
        "--margin",
        "0.03",
        "--early-stop",
        "0.5",
        "--out",
        run,
        "--device",
        "cpu",
    )
    code, out, _ = call(*judge, "--json")
    found = json.loads(out)
    assert (code, found["verdict"]) == (1, "FAIL")
    assert evaluated(found, run) == BLOCK
    for level in found["levels"]:
        assert (level["verdict"], level["early_stop"]["decision"]) == ("FAIL", "beyond")
        assert level["early_stop"]["e_beyond"] >= 40
    assert len(load_run(run).results) == BLOCK * len(LEVELS)

    code, out, err = call(*judge)
    assert (code, err) == (1, "")
    assert "84.0 % saved" in out
    code, out, _ = call(
        "gate", run, "--baseline", baseline, "--margin", "0.03", "--early-stop", "0.5", "--from-records"
    )
    assert code == 1 and "the stored verdict, byte for byte" in out
    (kept,) = (run / "verdicts").glob("*.json")
    beside = ("attempts", "repeated")  # the result alone is kept
    assert json.loads(kept.read_text()) == {name: value for name, value in found.items() if name not in beside}

    code, _, err = call("gate", run, "--baseline", baseline)
    assert code == 4 and "was evaluated to stop early" in err
    code, _, err = call("baseline", "accept", run, "--name", "n", "--reason", "r", "--baselines-dir", tmp_path / "b")
    assert code == 4 and f"holds {BLOCK} of {PLANNED} items" in err
    assert not (tmp_path / "b").exists()


def test_the_checkpoint_itself_passes_early_at_a_wide_margin(
    call: Callable[..., tuple[int, str, str]], baseline: Path, shipped: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--early-stop", "0.5", "--margin", "0.2", "--out", run, "--device", "cpu")
    code, out, _ = call("gate", shipped, "--baseline", baseline, *options, "--json")
    found = json.loads(out)
    assert (code, found["verdict"]) == (0, "PASS")
    assert evaluated(found, run) == BLOCK
