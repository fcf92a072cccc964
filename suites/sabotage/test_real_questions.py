"""Fifty real GSM8K questions on the shipped checkpoint: the run goes through, and the gate calls it INVALID."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main

pytestmark = pytest.mark.contract
QUESTIONS = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "test.jsonl"


@pytest.mark.skipif(not QUESTIONS.is_file(), reason=f"needs the GSM8K file {QUESTIONS}")
def test_a_clean_score_at_the_floor_is_invalid(shipped, tmp_path, capsys, monkeypatch):
    run, folder = str(tmp_path / "run"), str(tmp_path / "baselines")
    settings = ["--items", "50", "--noise-levels", "0,0.05", "--noise-seeds", "1", "--max-new-tokens", "24"]
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(shipped), "--task", "gsm8k", "--data", str(QUESTIONS), "--out", run, *settings])
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        main(["baseline", "accept", run, "--name", "floor", "--reason", "test", "--baselines-dir", folder])
    assert ended.value.code == 4 and "floor" in capsys.readouterr().err
    monkeypatch.setattr("harness.baselines.book.check_acceptable", lambda run: None)
    with pytest.raises(SystemExit) as ended:
        main(["baseline", "accept", run, "--name", "floor", "--reason", "test", "--baselines-dir", folder])
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        main(["gate", run, "--baseline", "floor", "--baselines-dir", folder])
    assert ended.value.code == 4
    assert "floor" in capsys.readouterr().out
