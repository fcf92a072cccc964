"""Which engines and which pytest markers can run here, why not, and the one command that repairs it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from harness.doctor.findings import BROKEN, MISSING, TRANSFORMERS, VERL, VLLM, Ability, Finding, in_the_way
from harness.doctor.stack import SETUP, UNINSTALL, Stack
from harness.spec import engine_names

STACKS = {"transformers": TRANSFORMERS, "vllm": VLLM, "vllm-compiled": VLLM}
"""Engine of the package -> what must be sound for it; one of another distribution needs what its own check says."""
TESTS = ("pytest", "hypothesis")
BENCH = "pytest-benchmark"
NO_DEVICE = {True: "", False: "no accelerator here", None: "nobody looked for an accelerator (--quick)"}


@dataclass(frozen=True)
class Repair:
    """``command`` mends what is broken, or where nothing is (``adds``) installs what is optional and missing."""

    command: str
    adds: bool


def abilities(findings: Sequence[Finding], stack: Stack, accelerator: bool | None) -> tuple[Ability, ...]:
    """Return engines, training and markers, in the order of the table; ``accelerator`` is None where nobody looked.

    The engines are those of the registry's names; one of another distribution counts as running where the base does,
    since only an evaluation can ask it.
    """
    whys = {name: in_the_way(findings, name) for name in (TRANSFORMERS, VLLM, VERL)}
    engines = {name: whys[STACKS.get(name, TRANSFORMERS)] for name in engine_names()}
    base = whys[TRANSFORMERS] or _lacking(TESTS, stack)
    heavy = base or whys[VERL] or whys[VLLM]
    device = base or NO_DEVICE[accelerator]
    markers = {
        **dict.fromkeys(("unit", "long", "contract", "thorough"), base),
        "slow": heavy,
        **dict.fromkeys(("gpu", "gpu_long"), device),
        "bench": base or _lacking((BENCH,), stack),
        "gate": whys[TRANSFORMERS] or _lacking(("pytest",), stack),
    }
    return (
        *(Ability("engine", name, not why, why) for name, why in engines.items()),
        Ability("training", VERL, not whys[VERL], whys[VERL]),
        *(Ability("marker", name, not why, why) for name, why in markers.items()),
    )


def repair(findings: Sequence[Finding]) -> Repair | None:
    """Return the one command for what is broken or needed and missing; for what is only missing where nothing else
    is."""
    broken = [each for each in findings if each.cure and (each.state == BROKEN or not each.sound)]
    if broken:
        return Repair(_one([each.cure for each in broken]), adds=False)
    missing = [each.cure for each in findings if each.cure and each.state == MISSING]
    return Repair(_one(missing), adds=True) if missing else None


def _one(cures: Sequence[str]) -> str:
    """The cures as one command line; ``make setup-full`` does what the smaller ones do."""
    cures = [cure.replace("python -m", f"{shlex.quote(sys.executable)} -m") for cure in dict.fromkeys(cures)]
    full = [cure for cure in cures if cure.endswith("setup-full")]
    if full:
        return max(full, key=len)
    # removals first: what is installed afterwards must find the place empty
    return " && ".join(sorted(cures, key=lambda cure: (UNINSTALL not in cure, cure != SETUP)))


def _lacking(names: Sequence[str], stack: Stack) -> str:
    absent = [name for name in names if name not in stack.versions]
    return f"{', '.join(absent)} not installed" if absent else ""
