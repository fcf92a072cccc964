"""``harness doctor``: what it finds, what it prints, and when it is no success."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.doctor import examining
from harness.doctor.abilities import abilities, repair
from harness.doctor.examining import Diagnosis
from harness.doctor.findings import BROKEN, EVERYTHING, MISSING, VERL, VLLM, WORKS, Finding
from harness.doctor.stack import SETUP, SETUP_FULL, Stack

pytestmark = pytest.mark.long
Verb = Callable[..., Any]
TESTS = Stack({"pytest": "9", "hypothesis": "6", "pytest-benchmark": "5"})
NUMPY = Finding("numpy", WORKS, "2", needed=True, concerns=EVERYTHING)
TORCH = Finding("torch", BROKEN, "ImportError: no", needed=True, concerns=EVERYTHING, cure=SETUP)
ABSENT = Finding("vllm", MISSING, "only needed for the vllm engine", concerns=(VLLM, VERL), cure=SETUP_FULL)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[Finding]], None]:
    """Makes these the doctor's findings."""

    def put(findings: Sequence[Finding]) -> None:
        found = Diagnosis(tuple(findings), abilities(findings, TESTS, False), repair(findings), {"numpy": "2"})
        monkeypatch.setattr(examining, "examine", lambda say, quick: found)

    return put


def test_everything_needed_works_here(cli: Verb) -> None:
    said = cli("doctor")
    assert said.code == 0
    for words in ("torch", "transformers models", "C compiler", "noise kernel", "quantizer kernel", "accelerator"):
        assert words in said.out
    assert "vllm" in said.out
    assert said.out.strip().endswith("everything that is needed works")
    assert said.err.startswith("importing transformers models")


def test_quick_imports_nothing() -> None:
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        "try: main(['doctor', '--quick'])\n"
        "except SystemExit as end: code = end.code\n"
        "sys.exit(code or (3 if {'torch', 'transformers', 'vllm'} & {*sys.modules} else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nobody looked for an accelerator" in done.stdout


def test_everything_is_in_one_json_object(cli: Verb, plant: Callable[..., None]) -> None:
    plant([NUMPY, ABSENT])
    found = cli("doctor", "--json")
    assert (found.code, found.json["sound"], found.json["lacking"]) == (0, True, [])
    assert found.json["repair"] == {"command": SETUP_FULL, "adds": True}
    assert found.json["versions"] == {"numpy": "2"}
    slow = {"kind": "marker", "name": "slow", "runs": False, "why": "vllm is missing"}
    assert slow in found.json["abilities"]
    plant([TORCH, ABSENT])
    found = cli("doctor", "--json")
    assert (found.code, found.json["sound"], found.json["lacking"]) == (2, False, ["torch"])
    assert found.json["repair"] == {"command": SETUP, "adds": False}
    assert found.json["findings"][0] == {
        **{"part": "torch", "state": "broken", "detail": "ImportError: no", "needed": True},
        **{"concerns": list(EVERYTHING), "cure": SETUP},
    }


def test_the_table_ends_with_the_command_and_the_sentence(cli: Verb, plant: Callable[..., None]) -> None:
    plant([TORCH, ABSENT])
    said = cli("doctor")
    assert said.code == 2
    assert said.out.splitlines()[-2:] == [f"to repair it: {SETUP}", "needed and not working: torch"]
    plant([NUMPY, ABSENT])
    assert f"to add what is missing: {SETUP_FULL}" in cli("doctor").out.splitlines()
    plant([NUMPY])
    assert "to repair" not in cli("doctor").out


def test_an_optional_engine_fails_only_where_it_is_asked_for(cli: Verb, plant: Callable[..., None]) -> None:
    plant([NUMPY, ABSENT])
    assert cli("doctor").code == 0
    said = cli("doctor", "--need", "vllm", "--need", "verl")
    assert said.code == 2
    assert said.out.splitlines()[-1] == "needed and not working: vllm, verl"
    plant([NUMPY])
    assert cli("doctor", "--need", "vllm", "--need", "verl").code == 0


def test_what_cannot_be_imported_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'x'") if name == "rich" else OSError("libfoo.so\nsecond line")

    assert examining._package("numpy").state == WORKS
    monkeypatch.setattr(importlib, "import_module", fail)
    absent, torch = examining._package("rich"), examining._package("torch")
    assert (absent.state, absent.cure) == (MISSING, SETUP)
    assert (torch.state, torch.detail, torch.sound) == (BROKEN, "OSError: libfoo.so second line", False)
    assert torch.cure.endswith("--force-reinstall --no-deps torch")


def test_kernels_that_fail_are_said_and_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.numerics import native

    monkeypatch.setattr(native, "available", lambda dtype: False)
    assert examining._noise_kernel().state == MISSING

    def raises() -> Finding:
        raise RuntimeError("driver")

    assert examining._guarded("accelerator", raises) == Finding("accelerator", BROKEN, "RuntimeError: driver")
    assert not examining._guarded("statistics", raises).sound
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(examining.shutil, "which", lambda name: None)
    assert examining._compiler().state == MISSING


def test_statistics_that_decide_too_easily_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import harness.stats

    assert examining._statistics().state == WORKS
    monkeypatch.setattr(harness.stats, "tango", lambda lost, gained, n: harness.stats.Interval(0.0, 0.0, 0.0))
    assert examining._statistics().state == BROKEN


@pytest.mark.parametrize("given", [("--need", "vllm"), ("--quick",)])
def test_options_of_the_examination_do_not_belong_to_the_calibration(cli: Verb, given: tuple[str, ...]) -> None:
    said = cli("doctor", "--calibrate", *given)
    assert said.code == 2
    assert f"{given[0]}; it does not belong to --calibrate; leave one" in said.line


def test_what_cannot_be_needed_is_refused(cli: Verb) -> None:
    said = cli("doctor", "--need", "vlm")
    assert said.code == 2
    assert "'vlm' is not one of 'vllm', 'verl'" in said.line
