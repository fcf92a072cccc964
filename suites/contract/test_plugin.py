"""The plugin in a user's own project: a test file outside the repository, its options, its refusals."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.contract

USER_SUITE = """
import pytest

@pytest.mark.robustness(task="arith", items=60, noise_seeds=1, noise_levels=[0, 0.05])
@pytest.mark.parametrize("level", [0.05])
def test_keeps_accuracy(robustness, level):
    assert robustness.compare(level, against="clean").drop_at_most(0.30)
    assert robustness.accuracy(0.0).low > 0.5

@pytest.mark.robustness(task="arith", items=60, noise_seeds=1, noise_levels=[0, 0.05])
def test_asks_too_much(robustness):
    assert robustness.compare(0.05).drop_at_most(0.0)

def test_without_the_fixture():
    assert True
"""


def run_pytest(folder, *options):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "test_mine.py").write_text(USER_SUITE)
    return tmp_path


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "n2"])
def test_a_users_own_suite(project, shipped, workers):
    done = run_pytest(project, "--checkpoint", str(shipped), *workers)
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "INCONCLUSIVE" in done.stdout or "FAIL " in done.stdout
    assert "against clean" in done.stdout
    folders = list((project / ".robustness").glob("gate-*/manifest.json"))
    assert len(folders) == 1, "both tests and all workers share one evaluation"


def test_without_a_checkpoint_the_fixture_fails(project):
    done = run_pytest(project)
    assert done.returncode == 1
    assert "needs --checkpoint PATH" in done.stdout
    assert "1 passed, 2 errors" in done.stdout


def test_a_misspelt_marker_argument_names_the_nearest(tmp_path, shipped):
    (tmp_path / "test_mine.py").write_text(USER_SUITE.replace("noise_seeds=1", "noise_seed=1"))
    done = run_pytest(tmp_path, "--checkpoint", str(shipped))
    assert "did you mean 'noise_seeds'?" in done.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "n2"])
def test_asking_for_the_gate_without_a_checkpoint_is_a_usage_error(project, workers):
    done = run_pytest(project, "-m", "gate", *workers)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "-m gate without --checkpoint" in done.stderr


def test_a_missing_checkpoint_is_one_clear_line(project):
    done = run_pytest(project, "--checkpoint", "nowhere", "-k", "keeps")
    assert done.returncode == 1
    assert "checkpoint nowhere; no such folder" in done.stdout
    assert "Traceback" not in done.stdout


def test_the_gate_suite_gives_one_test_per_level(shipped, tmp_path, pytestconfig):
    suite = pytestconfig.rootpath / "suites" / "gate"
    options = (
        f"--checkpoint {shipped} --baseline arith/arith-qwen2 --items 20 --noise-seeds 1 --margin 0.2 -n 2 -v".split()
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "gate", str(suite), "--robustness-dir", str(tmp_path), *options],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    for level in ("0%", "5%", "10%"):
        assert f"[{level}]" in done.stdout
    assert done.stdout.count("PASS  ") >= 3
