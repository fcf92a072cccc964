"""The public list: every name loads, nothing heavy comes with the package, and ten lines evaluate and gate."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import harness

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]


def test_every_public_name_loads_and_can_be_called() -> None:
    assert sorted(harness.__all__) == list(harness.__all__)
    for name in harness.__all__:
        assert callable(getattr(harness, name)), name
    assert set(harness.__all__) <= set(dir(harness))
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        _ = harness.evalute  # type: ignore[attr-defined]


def test_the_package_loads_nothing_heavy() -> None:
    code = "import sys, harness; sys.exit(bool({'torch', 'transformers', 'numpy', 'scipy', 'rich'} & {*sys.modules}))"
    environment = {name: value for name, value in os.environ.items() if name != "HARNESS_NOISE"}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0


@pytest.mark.long
def test_the_script_of_the_docs_evaluates_and_gates_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(encoding="utf-8"), re.S)[0]
    assert len(script.strip().splitlines()) <= 10
    (tmp_path / "fixtures").symlink_to(ROOT / "fixtures")
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "library.md", "exec"), {})
    assert capsys.readouterr().out.startswith("INCONCLUSIVE 3")


def test_a_gate_of_a_run_takes_no_other_evaluation(tmp_path: Path, make_run: object) -> None:
    run = make_run(tmp_path / "run", {0.0: [[1]] * 60, 0.05: [[1]] * 60})  # type: ignore[operator]
    baseline = harness.accept_baseline(run, tmp_path / "baselines", "mine", "for a test", False)
    assert baseline
    with pytest.raises(harness.HarnessError, match="made as it was made"):
        harness.gate(run, "mine", None, harness.GateEvaluation(dtype="bfloat16"), None, tmp_path / "baselines")
    first = harness.gate(run, "mine", baselines_dir=tmp_path / "baselines")
    again = harness.gate(str(run), "mine", baselines_dir=str(tmp_path / "baselines"))
    assert (first.repeated, again.repeated, first.unkept) == (False, True, "")
    assert first.verdict == again.verdict
