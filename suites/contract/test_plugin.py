"""The plugin in a user's own project: a test file outside the repository, its options, its refusals."""

from __future__ import annotations

import pytest

from suites.contract.plugin_projects import REPOSITORY, run_pytest_in

pytestmark = pytest.mark.contract

USER_SUITE = """
import pytest

@pytest.mark.robustness(task="arith", items=20, noise_seeds=1, noise_levels=[0, 0.05])
@pytest.mark.parametrize("level", [0.05])
def test_keeps_accuracy(robustness, level):
    assert robustness.compare(level, against="clean").drop_at_most(0.45)
    assert robustness.accuracy(0.0).low > 0.5

@pytest.mark.robustness(task="arith", items=20, noise_seeds=1, noise_levels=[0, 0.05])
def test_asks_too_much(robustness):
    assert robustness.compare(0.05).drop_at_most(0.0)

def test_without_the_fixture():
    assert True
"""


def run_pytest(folder, *options):
    return run_pytest_in(folder, "-p", "no:cacheprovider", *options, installed=None)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "test_mine.py").write_text(USER_SUITE)
    return tmp_path


def test_a_users_own_suite(project, shipped):
    done = run_pytest(project, f"--robustness-checkpoint={shipped}", "-n", "2")
    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert "INCONCLUSIVE" in done.stdout or "FAIL " in done.stdout
    assert "against clean" in done.stdout
    folders = list((project / ".robustness").glob("gate-*/manifest.json"))
    assert len(folders) == 1, "both tests and all workers share one evaluation"


def test_without_a_checkpoint_the_fixture_fails(project):
    done = run_pytest(project)
    assert done.returncode == 1
    assert "needs --robustness-checkpoint=PATH" in done.stdout
    assert "1 passed, 2 errors" in done.stdout


def test_a_misspelt_marker_argument_names_the_nearest(tmp_path, shipped):
    (tmp_path / "test_mine.py").write_text(USER_SUITE.replace("noise_seeds=1", "noise_seed=1"))
    done = run_pytest(tmp_path, f"--robustness-checkpoint={shipped}")
    assert "did you mean 'noise_seeds'?" in done.stderr


def test_asking_for_this_repositorys_gate_without_a_checkpoint_is_a_usage_error():
    done = run_pytest(REPOSITORY, "-m", "gate", "suites/gate", "-n", "2")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "-m gate without --checkpoint" in done.stderr


def test_a_missing_checkpoint_is_one_clear_line(project):
    done = run_pytest(project, "--robustness-checkpoint=nowhere", "-k", "keeps")
    assert done.returncode == 1
    assert "checkpoint nowhere; no such folder" in done.stdout
    assert "Traceback" not in done.stdout


def test_the_gate_suite_gives_one_test_per_level(shipped, tmp_path):
    options = f"--checkpoint={shipped} --baseline=arith/arith-qwen2 --items 12 --noise-seeds 1 --margin 0.25 -n 2 -v"
    kept = f"--robustness-dir={tmp_path}"
    done = run_pytest(REPOSITORY, "-m", "gate", "suites/gate", kept, *options.split())
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    for level in ("0%", "5%", "10%"):
        assert f"[{level}]" in done.stdout
    assert done.stdout.count("PASS  ") >= 3
