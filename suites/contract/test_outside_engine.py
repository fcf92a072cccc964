"""An engine of another distribution: found by its entry point, checked, run by the loop, named in the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.doctor.examining import examine
from harness.evaluate.opening import engine_of
from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import HarnessError
from harness.record import CERTIFIED
from harness.runs.loaded import load_run
from harness.spec import ENGINE_GROUP, ENGINES, EngineOptions, EvalSpec, engine_names
from suites.distributions import write_distribution

pytestmark = pytest.mark.contract

CODE = """
from harness.engines.protocol import EngineKind
from harness.engines.transformers import TransformersEngine
from harness.exceptions import HarnessError


def check(spec, device):
    if spec.dtype == "float16":
        raise HarnessError("dtype float16", "mirror computes in float32", "use --dtype float32")


def together(evaluation, options):
    if options.batch_size > 64:
        raise HarnessError(f"--batch-size {options.batch_size}", "mirror takes 64 sequences", "give fewer")


def opened(evaluation, options):
    return TransformersEngine(evaluation)


mirror = EngineKind("mirror", opened, check=check, together=together)
other = EngineKind("of another name", mirror.open)
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with two engines, one of which calls itself otherwise."""
    points = {ENGINE_GROUP: {"mirror": "mirrors:mirror", "misnamed": "mirrors:other"}}
    monkeypatch.syspath_prepend(str(write_distribution(tmp_path / "engines", "mirrors", points, mirrors=CODE)))


@pytest.mark.usefixtures("installed")
def test_it_evaluates_and_is_certified(two_layers: Path, tmp_path: Path) -> None:
    assert engine_names() == (*ENGINES, "mirror", "misnamed")
    spec = EvalSpec(
        *("arith", None, 4), levels=(0.0, 0.1), noise_seeds=1, max_new_tokens=6, engine="mirror", positive_control=False
    )
    evaluate(prepare(two_layers, spec, "cpu"), tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert [level.problems for level in run.arm.certificate.levels] == [(), ()]
    assert (run.arm.certificate.status, run.arm.key["engine"]) == (CERTIFIED, "mirror")


@pytest.mark.usefixtures("installed")
def test_how_it_is_run_is_asked_for_one_engine_too(two_layers: Path) -> None:
    spec = EvalSpec("arith", items=2, levels=(0.0,), engine="mirror", positive_control=False)
    with pytest.raises(HarnessError, match="--batch-size 65; mirror takes 64 sequences"):
        engine_of(prepare(two_layers, spec, "cpu"), EngineOptions(batch_size=65))


@pytest.mark.usefixtures("installed")
def test_doctor_lists_it() -> None:
    engines = [each.name for each in examine(lambda line: None, quick=True).abilities if each.kind == "engine"]
    assert engines == [*ENGINES, "mirror", "misnamed"]


@pytest.mark.usefixtures("installed")
def test_its_own_check_and_its_name_are_asked_for(two_layers: Path) -> None:
    with pytest.raises(HarnessError, match="mirror computes in float32"):
        prepare(two_layers, EvalSpec("arith", items=2, engine="mirror", dtype="float16"), "cpu")
    with pytest.raises(HarnessError, match=r"engine 'misnamed' of mirrors 1\.0; .*it calls itself 'of another name'"):
        prepare(two_layers, EvalSpec("arith", items=2, engine="misnamed"), "cpu")


def test_without_it_the_name_is_unknown() -> None:
    with pytest.raises(HarnessError, match="--engine mirror"):
        EvalSpec("arith", engine="mirror")
