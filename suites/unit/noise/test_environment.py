"""``HARNESS_NOISE``: read by ``import harness``, on in every model of the process, or loudly not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.exceptions import HarnessError, NoiseSpecError
from harness.noise import environment

pytestmark = pytest.mark.long
CHILD = Path(__file__).with_name("environment_child.py")
SPEC = "relative_gaussian(0.05) @ op:linear when:both; relative_gaussian(0.2) @ op:embedding"
PRODUCTS = 7 * 2 + 1
"""Linears of the child's model; it has one embedding."""


def start(*command: str, noise: str | None = None) -> subprocess.Popen[str]:
    given = {name: text for name, text in os.environ.items() if name != environment.VARIABLE}
    given["OMP_NUM_THREADS"] = "1"  # the child forks, and OpenMP's threads do not survive that
    if noise is not None:
        given[environment.VARIABLE] = noise
    return subprocess.Popen(
        [sys.executable, *command], env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def processes():
    """Two processes with the same variable: (what each printed, its lines on standard error)."""
    found = []
    for process in [start(str(CHILD), noise=SPEC) for _ in range(2)]:
        code, out, err = finish(process)
        assert code == 0, err
        found.append(([json.loads(line) for line in out.splitlines()], err.splitlines()))
    return found


@pytest.fixture(scope="module")
def seen(processes):
    """What the first process itself found."""
    return processes[0][0][0]


def test_it_is_echoed_once_with_the_process_id_and_the_specification(processes):
    for (parent, child), lines in processes:
        on = re.compile(rf"harness: HARNESS_NOISE is on in process (\d+): {re.escape(SPEC)}")
        pids = [int(match[1]) for line in lines if (match := on.fullmatch(line))]
        # the parent and both of its forked children
        assert len(pids) == len(set(pids)) == 3
        assert pids[0] == parent["pid"] and child["pid"] in pids


def test_the_first_call_counts_like_every_other(seen):
    """Its hooks come too late for it, and are called by hand."""
    first, twice = seen["first"], seen["twice"]
    assert first.keys() == twice.keys()
    for label, (calls, rows, changed) in first.items():
        assert (calls, rows) == (1, 5), label  # five tokens are not padding
        assert twice[label][:2] == [2, 10]
        assert 0 < changed < twice[label][2]


def test_gradients_too(seen):
    backward = [calls for label, (calls, _, _) in seen["trained"].items() if "backward" in label]
    assert backward == [1] * 2 * PRODUCTS
    assert seen["draws"][0] != seen["draws"][1]  # two forwards of the same input


def test_two_processes_draw_the_same(processes):
    (one, other) = (found for (found, _), _ in processes)
    assert one["pid"] != other["pid"]
    assert {**one, "pid": 0} == {**other, "pid": 0}


def test_the_global_generator_is_left_alone(seen):
    assert seen["rng_kept"]


def test_generation_goes_on_with_the_same_sessions(seen):
    assert len(seen["generated"][0]) == 6 + 3
    assert seen["sessions"] == 2  # one for each specification


def test_the_last_line_says_what_was_injected(processes):
    for (parent, child), lines in processes:
        said = [line for line in lines if " changed " in line]
        assert len(said) == 2  # the forked child that called no model leaves it to its parent
        for line, found in zip(said, (child, parent), strict=True):
            assert re.match(rf"harness: HARNESS_NOISE in process {found['pid']} changed [1-9]\d* of \d+ elements", line)
        assert "1 model (Qwen2ForCausalLM)" in said[0]
        assert child["calls"] == PRODUCTS + 1 < parent["calls"]


def test_nothing_is_imported_where_it_is_not_set():
    code, out, err = finish(start("-c", "import sys, harness; print(*sorted(sys.modules))"))
    assert (code, err) == (0, "")
    names = set(out.split())
    assert {name for name in names if name.partition(".")[0] == "harness"} == {"harness"}
    assert "torch" not in names


def test_no_module_of_the_package_imports_torch_by_itself():
    """What ``import harness`` may come to need without a model."""
    light = ("harness.noise", "harness.noise.environment", "harness.spec", "harness.cli.main", "harness.integrations")
    code, out, err = finish(start("-c", f"import sys, {', '.join(light)}; print('torch' in sys.modules)"))
    assert (code, out.strip(), err) == (0, "False", "")


@pytest.mark.parametrize(
    ("command", "code"), [(("-c", "import harness; print('went on')"), 1), (("-m", "harness.cli.main", "--help"), 2)]
)
def test_a_wrong_text_stops_the_process(command, code):
    found, out, err = finish(start(*command, noise="relative_gausian(0.05) @ op:linear"))
    assert (found, out) == (code, "")
    last = err.splitlines()[-1]
    assert "HARNESS_NOISE: unknown error model 'relative_gausian'; did you mean 'relative_gaussian'?" in last
    if code == 2:
        assert err.count("\n") == 1 and last.startswith("harness: ")
    else:
        assert last.startswith("harness.exceptions.NoiseSpecError: ")


def test_no_model_is_said_aloud(tmp_path):
    """The installed command, in a verb that runs no model."""
    command = str(Path(sys.executable).with_name("harness"))
    listing = start(command, "baseline", "list", "--baselines-dir", str(tmp_path), noise="relative_bias(0.1)")
    code, out, err = finish(listing)
    assert (code, out) == (0, "")
    echoed, _, last = err.splitlines()
    assert re.fullmatch(r"harness: HARNESS_NOISE is on in process \d+: relative_bias\(0.1\) @ op:linear", echoed)
    assert re.fullmatch(r"harness: HARNESS_NOISE in process \d+ injected NOTHING: no model was called", last)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "HARNESS_NOISE is empty"),
        ("  ", "HARNESS_NOISE is empty"),
        ("relative_gaussian @ op:linear", "has no strength"),
        ("relative_gaussian(0.1) @ op:linear; relative_gaussian @ op:add", "has no strength"),
        ("relative_gaussian(0.1) @ op:linaer", "did you mean 'linear'"),
        ("relative_gaussian(0.1); relative_gaussian(0.1)", "given twice"),
        ("relative_gaussian(0.1);", "between semicolons"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(NoiseSpecError, match=message) as caught:
        environment.parse(text)
    assert "HARNESS_NOISE" in str(caught.value) and "\n" not in str(caught.value)


def test_strength_zero_is_the_clean_control():
    (spec,) = environment.parse("relative_gaussian(0) @ op:linear")
    assert spec.level == 0


def test_an_evaluation_is_refused(cli, arith, tmp_path, monkeypatch):
    monkeypatch.setenv(environment.VARIABLE, SPEC)
    baselines = Path(__file__).parents[3] / "baselines"
    for arguments in (
        ("eval", arith),
        ("gate", arith, "--baseline", "arith/arith-qwen2", "--baselines-dir", baselines),
    ):
        said = cli(*arguments, "--out", tmp_path / "run")
        assert said.code == 2
        assert "HARNESS_NOISE is set" in said.line and "--noise" in said.line
    assert not (tmp_path / "run").exists()


def test_the_fixture_of_the_plugin_refuses(tiny, tmp_path, monkeypatch):
    from harness.gate_options import in_pytest
    from harness.pytest_plugin.fixture import Robustness
    from harness.pytest_plugin.settings import SETTINGS

    given = {row.key: row.default for row in in_pytest()} | {"checkpoint": tiny, "dir": Path("runs")}
    config = SimpleNamespace(
        stash={SETTINGS: SimpleNamespace(given=lambda marker, **call: given)},
        workerinput={},
        pluginmanager=SimpleNamespace(getplugin=lambda name: None),
        invocation_params=SimpleNamespace(dir=tmp_path),
    )
    monkeypatch.setenv(environment.VARIABLE, SPEC)
    with pytest.raises(pytest.fail.Exception, match="HARNESS_NOISE is set"):
        Robustness(config, {}, []).run  # noqa: B018 - it evaluates when it is asked for


def test_without_the_variable_nothing_is_refused(monkeypatch):
    monkeypatch.delenv(environment.VARIABLE, raising=False)
    environment.refuse("an evaluation")
    monkeypatch.setenv(environment.VARIABLE, "")
    with pytest.raises(HarnessError, match="a clean arm"):
        environment.refuse("an evaluation")
