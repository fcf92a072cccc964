"""What the parts of ``harness doctor`` hand each other: findings, and what they make possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WORKS, MISSING, BROKEN = "works", "missing", "broken"
TRANSFORMERS, VLLM, VERL = "transformers", "vllm", "verl"
"""What a finding may stand in the way of: the two engines, and training."""

EVERYTHING = (TRANSFORMERS, VLLM, VERL)


@dataclass(frozen=True)
class Finding:
    """One line of the table: ``state`` works, missing or broken; ``needed`` parts decide the exit code.

    Unless it works, it stands in the way of what ``concerns`` names, and ``cure`` is the command that repairs it
    ("" where none is known).
    """

    part: str
    state: str
    detail: str
    needed: bool = False
    concerns: tuple[str, ...] = ()
    cure: str = ""

    @property
    def sound(self) -> bool:
        """False where something that is needed does not work."""
        return self.state == WORKS or not self.needed


@dataclass(frozen=True)
class Ability:
    """Whether an engine, training, or the tests of a pytest marker can run here, and ``why`` not."""

    kind: str
    name: str
    runs: bool
    why: str = ""


def in_the_way(findings: Sequence[Finding], name: str) -> str:
    """Return why ``name`` (one of ``EVERYTHING``) cannot run: the first hindrance; "" where it can."""
    found = [finding for finding in findings if name in finding.concerns and finding.state != WORKS]
    words = [f"{each.part} is missing" if each.state == MISSING else f"{each.part}: {each.detail}" for each in found]
    return words[0] + (f" (and {len(words) - 1} more)" if len(words) > 1 else "") if words else ""
