"""Comparing two arms, level by level: PASS, FAIL, INCONCLUSIVE or INVALID. No evidence, no verdict.

Levels, margins and differences are fractions; nothing here imports torch.
"""

from harness.gates.judge import gate
from harness.gates.keys import key_differences
from harness.gates.levels import Judgement, LevelComparison, compare_levels
from harness.gates.policy import GatePolicy
from harness.gates.result import GateResult, LevelVerdict
from harness.gates.verdicts import EXIT_CODES, FAIL, INCONCLUSIVE, INVALID, PASS, exit_code, worst

__all__ = [
    "EXIT_CODES",
    "FAIL",
    "INCONCLUSIVE",
    "INVALID",
    "PASS",
    "GatePolicy",
    "GateResult",
    "Judgement",
    "LevelComparison",
    "LevelVerdict",
    "compare_levels",
    "exit_code",
    "gate",
    "key_differences",
    "worst",
]
