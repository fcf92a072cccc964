"""The built wheel in other people's suites: their options, markers, ini files and folders stay theirs."""

from __future__ import annotations

import json
import shutil
from xml.etree import ElementTree

import pytest
from filelock import FileLock

from harness.spec import EvalSpec
from suites.contract.plugin_projects import build_wheel, call, run_pytest_in, write

pytestmark = pytest.mark.contract

PASSES = "def test_passes():\n    pass\n"
JUDGES = """
import pytest

@pytest.mark.parametrize("level", [0.05])
def test_keeps_accuracy(robustness, level):
    assert robustness.compare(level, against="clean").drop_at_most(0.45)

def test_asks_too_much(robustness):
    assert robustness.compare(0.05).drop_at_most(0.0)
"""


OUTSIDE = """
import harness
from harness.doctor import stack as doctor_stack
from harness.installed import full_setup

def test_no_advice_names_make():
    print(harness.__file__)
    cures = [value for name, value in vars(doctor_stack).items() if name.isupper() and isinstance(value, str)]
    assert full_setup() in cures
    assert not [cure for cure in cures if "make" in cure or "." in cure.split()]
"""


@pytest.fixture(scope="session")
def shared(tmp_path_factory, worker_id):
    """A folder that the workers of this test run have in common."""
    own = tmp_path_factory.getbasetemp()
    return own if worker_id == "master" else own.parent


def once(shared, name, make):
    """``make(folder)`` by the first worker; every worker gets what it returned, a path."""
    with FileLock(shared / f"{name}.lock"):
        done = shared / f"{name}.done"
        if not done.exists():
            done.write_text(str(make(shared / name)))
        return type(shared)(done.read_text())


@pytest.fixture(scope="session")
def installed(shared):
    """The wheel, installed into a folder of its own."""
    return once(shared, "wheel", lambda work: (work.mkdir(), build_wheel(work))[1])


@pytest.fixture(scope="session")
def finished(shared, shipped):
    """A finished run of 16 items, the one evaluation of this file."""

    def make(folder):
        from harness.evaluate.prepared import prepare
        from harness.evaluate.run import evaluate

        spec = EvalSpec("arith", items=16, levels=(0.0, 0.05), noise_seeds=1)
        evaluate(prepare(shipped, spec, "cpu"), folder)
        return folder

    return once(shared, "run", make)


@pytest.fixture
def run_pytest(installed, tmp_path):
    """Runs pytest with the wheel in a folder of ``tmp_path``."""

    def run(*options, folder=tmp_path, **more):
        return run_pytest_in(folder, *options, installed=installed, **more)

    return run


def test_the_wheel_holds_registry_baseline_and_gate_suite(installed, tmp_path, run_pytest):
    where = write(tmp_path / "empty", test_it_py=OUTSIDE)
    done = run_pytest("-s", folder=where)
    assert done.returncode == 0 and f"{installed}/harness/__init__.py" in done.stdout, done.stdout
    claims = call(where, "harness.cli.main", "claims", "--id", "C7", "--json", installed=installed)
    assert claims.returncode == 0 and json.loads(claims.stdout), claims.stderr
    collected = run_pytest("--pyargs", "harness.suites.gate", "--collect-only", "-q", folder=where)
    assert "test_level_holds_against_the_baseline[5%]" in collected.stdout, collected.stdout + collected.stderr


def test_a_project_that_does_not_use_it_loads_nothing_heavy(tmp_path, run_pytest):
    heavy = ("torch", "transformers", "scipy", "numpy", "click", "rich", "hypothesis", "harness.gates", "harness.spec")
    write(tmp_path, test_it_py=f"import sys\ndef test():\n    assert not [n for n in {heavy} if n in sys.modules]\n")
    done = run_pytest("-W", "error")
    assert done.returncode == 0 and not done.stderr and "robustness: " not in done.stdout, done.stdout + done.stderr


THEIRS = """
def pytest_addoption(parser):
    for name in ("--data", "--device", "--items", "--baseline", "--checkpoint", "--force", "--timeout"):
        parser.addoption(name, default="theirs")
"""
READS = """
def test_they_are_theirs(pytestconfig):
    assert [pytestconfig.getoption(n) for n in ("data", "device", "items", "baseline")] == ["mine"] + 3 * ["theirs"]
"""


@pytest.mark.parametrize("ini", ["[pytest]\n", "[pytest]\nrobustness_short_options = true\n"], ids=["long", "short"])
def test_their_options_are_theirs(tmp_path, run_pytest, ini):
    write(tmp_path, conftest_py=THEIRS, test_it_py=READS, pytest_ini=ini)
    done = run_pytest("--data", "mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("ours is --robustness-data" in done.stdout) == ("short" in ini)


MARKED = """
import pytest

@pytest.mark.gate
def test_their_gate():
    assert False

@pytest.mark.slow
def test_slow():
    pass

def test_plain():
    pass
"""


@pytest.mark.parametrize("options", [(), ("-m", "gate"), ("-n", "2")], ids=["all", "m-gate", "n2"])
def test_their_gate_marker_is_theirs(tmp_path, run_pytest, options):
    ini = "[pytest]\naddopts = --strict-markers --strict-config\nmarkers =\n    gate: theirs\n    slow: theirs\n"
    write(tmp_path, test_it_py=MARKED, pytest_ini=ini)
    done = run_pytest(*options)
    assert done.returncode == 1 and "1 failed" in done.stdout and "skipped" not in done.stdout, done.stdout


def test_our_markers_are_not_forced_on_them(tmp_path, run_pytest):
    write(tmp_path, test_it_py="import pytest\n@pytest.mark.gate\ndef test():\n    pass\n")
    done = run_pytest("--strict-markers")
    assert done.returncode == 2 and "'gate' not found in `markers`" in done.stdout
    assert "@pytest.mark.robustness(" in run_pytest("--markers").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("'arith'", "test_it.py::test: robustness('arith'); the marker has no positional arguments"),
        ("noise_seed=1", "did you mean 'noise_seeds'?"),
        ("items='many'", "it is a whole number"),
        ("report='x'", "robustness(report=...)"),
    ],
)
def test_a_bad_marker_is_a_usage_error(tmp_path, run_pytest, arguments, words):
    marked = f"import pytest\n@pytest.mark.robustness({arguments})\ndef test(robustness):\n    pass\n"
    write(tmp_path, test_it_py=marked)
    done = run_pytest()
    assert done.returncode == pytest.ExitCode.USAGE_ERROR and words in done.stderr, done.stdout + done.stderr


def test_a_bad_marker_in_a_worker_is_a_failure(tmp_path, run_pytest):
    write(tmp_path, test_it_py="import pytest\n@pytest.mark.robustness('arith')\ndef test():\n    pass\n")
    done = run_pytest("-n", "2")
    assert done.returncode == 1 and "no positional arguments" in done.stdout, done.stdout


XFAIL = "import pytest\n@pytest.mark.xfail\ndef test_fixed_long_ago():\n    pass\n"


@pytest.fixture
def strict(tmp_path):
    """A project whose ini makes a passing xfail red, and a checkpoint elsewhere with a conftest of its own."""
    write(tmp_path / "elsewhere" / "model", config_json="{}", conftest_py="raise SystemExit('run by pytest')")
    return write(tmp_path / "project", test_it_py=XFAIL, pytest_ini="[pytest]\nxfail_strict = true\n")


@pytest.mark.parametrize("option", ["--robustness-checkpoint", "--robustness-baselines-dir"])
def test_a_path_after_a_space_does_not_take_the_ini_away(strict, run_pytest, option):
    model = strict.parent / "elsewhere" / "model"
    refused = run_pytest(option, str(model), folder=strict)
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"write {option}={model}" in refused.stderr and "pytest.ini would not be in force" in refused.stderr
    kept = run_pytest(f"{option}={model}", folder=strict)
    assert kept.returncode == 1 and "[XPASS(strict)]" in kept.stdout
    assert sorted(path.name for path in model.iterdir()) == ["config.json", "conftest.py"]


def test_nor_by_the_environment_nor_by_a_short_name_nor_without_an_ini(strict, run_pytest):
    model = strict.parent / "elsewhere" / "model"
    by_environment = run_pytest(folder=strict, PYTEST_ADDOPTS=f"--robustness-checkpoint {model}")
    assert f"write --robustness-checkpoint={model}" in by_environment.stderr
    write(model.parent, pytest_ini="[pytest]\n")
    before = run_pytest("--robustness-checkpoint", str(model), ".", folder=strict)
    assert f"write --robustness-checkpoint={model}" in before.stderr
    (model.parent / "pytest.ini").unlink()
    (strict / "pytest.ini").unlink()
    without = run_pytest("--robustness-checkpoint", str(model), folder=strict)
    assert f"{strict} would not be the rootdir" in without.stderr
    (strict / "pytest.ini").write_text("[pytest]\nrobustness_short_options = true\n")
    short = run_pytest("--checkpoint", str(model), folder=strict)
    assert f"write --checkpoint={model}" in short.stderr
    assert not (model / ".pytest_cache").exists() and not (model.parent / ".pytest_cache").exists()


def test_a_path_in_the_project_may_stand_after_a_space(strict, run_pytest):
    write(strict / "model", config_json="{}")
    done = run_pytest("--robustness-checkpoint", "model", folder=strict)
    assert done.returncode == 1 and "[XPASS(strict)]" in done.stdout, done.stderr


def test_a_comparison_without_a_verdict_fails(tmp_path, run_pytest, finished):
    suite = """
def test_left(robustness):
    robustness.compare(0.05)

def test_asserted(robustness):
    assert robustness.compare(0.05)

def test_failed_before(robustness):
    robustness.compare(0.05)
    assert False
"""
    write(tmp_path, test_it_py=suite)
    done = run_pytest(f"--robustness-checkpoint={finished}")
    assert "2 failed, 1 passed, 1 error" in done.stdout, done.stdout
    assert "a comparison was never judged: 5 % against clean; judge it" in done.stdout
    assert "TypeError: a comparison is no verdict; judge it" in done.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "n2"])
def test_verdicts_are_shown_first_and_kept_for_ci(tmp_path, run_pytest, finished, workers):
    write(tmp_path, test_it_py=JUDGES)
    options = ("--robustness-report=out", "--junitxml=all.xml", *workers)
    done = run_pytest(f"--robustness-checkpoint={finished}", *options)
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout, done.stdout
    shown = done.stdout.split("test_asks_too_much ____")[1].strip("_ \n").splitlines()
    failure = [line for line in shown if not line.startswith("[gw")]
    assert failure[0].startswith(("INCONCLUSIVE level 5 %: ", "FAIL level 5 %: ")), failure
    assert failure[1].startswith(("-", "=")), failure
    assert "pp against clean, limit 0 pp, n 16" in failure[0]
    table = done.stdout.split("= robustness =")[1]
    assert "  5 %  PASS " in table and "reports: " in table
    found = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert found["verdicts"]["PASS"] == 1 and {row["level"] for row in found["judged"]} == {0.05}
    assert "| 5 % | PASS | 16 |" in (tmp_path / "out" / "robustness.md").read_text()
    junit = ElementTree.parse(tmp_path / "out" / "robustness.xml").getroot()[0]
    assert (junit.get("tests"), junit.get("failures")) == ("2", "1")
    properties = {each.get("name") for each in ElementTree.parse(tmp_path / "all.xml").iter("property")}
    assert properties == {"robustness", "robustness_verdict"}


def test_the_packaged_gate_suite_against_the_shipped_baseline(tmp_path, run_pytest, finished):
    options = (f"--robustness-checkpoint={finished}", "--robustness-baseline=arith/arith-qwen2")
    done = run_pytest("--pyargs", "harness.suites.gate", *options, "--robustness-noise-levels=0,0.05")
    assert "is a run, made as it was made" in done.stdout
    misspelt = run_pytest("--pyargs", "harness.suites.gate", options[0], "--robustness-baseline=arith/arith-qwen")
    assert misspelt.returncode == 2 and "did you mean 'arith/arith-qwen2'?" in misspelt.stdout, misspelt.stdout
    assert "plugin.py" not in misspelt.stdout
    part = ("--robustness-items=16", "--robustness-noise-seeds=1")
    done = run_pytest("--pyargs", "harness.suites.gate", *options, "--robustness-margin=0.45", *part)
    assert "quick check, declared: the first 16 of 200 items" in done.stdout
    assert "1 failed, 2 passed" in done.stdout and "baseline arith/arith-qwen2" in done.stdout, done.stdout
    assert "INVALID level 10 %: the run has no such level" in done.stdout


SHOWS = """
import pytest

@pytest.mark.robustness(margin=0.3)
def test_marked(robustness):
    assert robustness.gate(0.05)

def test_plain(robustness):
    assert robustness.gate(0.05)
"""


def test_where_a_value_comes_from(tmp_path, run_pytest, finished):
    shutil.copytree(finished, tmp_path / "run")
    table = '[tool.robustness]\ncheckpoint = "run"\nbaseline = "arith/arith-qwen2"\nmargin = 0.41\n'
    table += "items = 16\nnoise_seeds = 1\n"
    write(tmp_path, test_it_py=SHOWS, pyproject_toml=table)

    def limits(*options):
        done = run_pytest("--robustness-report=out", *options, "--rootdir", str(tmp_path))
        judged = json.loads((tmp_path / "out" / "robustness.json").read_text())["judged"]
        assert len(judged) == 2, done.stdout + done.stderr
        return {row["test"].split("::")[1]: row["limit"] for row in judged}

    assert limits() == {"test_marked": 0.3, "test_plain": 0.41}
    (tmp_path / "pytest.ini").write_text("[pytest]\nrobustness_margin = 0.42\n")
    assert limits() == {"test_marked": 0.3, "test_plain": 0.42}
    assert limits("--robustness-margin=0.43") == {"test_marked": 0.43, "test_plain": 0.43}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("pyproject_toml", "[tool.robustness]\nmargins = 0.1\n", "did you mean 'margin'?"),
        ("pyproject_toml", "[tool.robustness]\nmargin = 'wide'\n", "[tool.robustness] margin = 'wide'; it is a number"),
        ("pyproject_toml", "[tool]\nrobustness = 3\n", "it must be a table"),
        ("pytest_ini", "[pytest]\nrobustness_margins = 0.1\n", "did you mean 'robustness_margin'?"),
    ],
)
def test_unknown_keys_and_values_are_refused(tmp_path, run_pytest, name, text, words):
    write(tmp_path, test_it_py=PASSES, **{name: text})
    done = run_pytest()
    assert done.returncode == pytest.ExitCode.USAGE_ERROR and words in done.stderr, done.stdout + done.stderr
