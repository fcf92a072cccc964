"""The registry alone knows what engines there are: its names, and who else names one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import harness
from harness.engines.registry import ENGINES, engine_kind
from harness.exceptions import HarnessError
from harness.spec import ENGINES as NAMES
from harness.spec import EvalSpec, engine_names

pytestmark = pytest.mark.unit
PACKAGE = Path(harness.__file__).parent


def test_the_specification_knows_the_names_of_the_registry_in_its_order() -> None:
    assert tuple(ENGINES) == NAMES == engine_names()
    assert EvalSpec("arith").engine in ENGINES
    assert all(engine_kind(name).name == name for name in NAMES)


def test_an_unknown_engine_is_named_with_the_nearest() -> None:
    with pytest.raises(HarnessError, match=r"--engine vlm; .*did you mean 'vllm'"):
        EvalSpec("arith", engine="vlm")
    with pytest.raises(HarnessError, match=r"^unknown engine 'vlm'; did you mean 'vllm'\?$"):
        engine_kind("vlm")


@pytest.mark.parametrize("part", ["evaluate", "library", "runs", "gates", "diagnostics"])
def test_nobody_but_the_registry_and_the_engines_names_one(part: str) -> None:
    named = []
    for path in sorted((PACKAGE / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in NAMES and path.name not in DISTRIBUTIONS:
                named.append(f"{path.relative_to(PACKAGE)}: {node.value}")
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(OWN):
                named.append(f"{path.relative_to(PACKAGE)} imports {node.module}")
    assert not named


OWN = ("harness.engines.vllm", "harness.engines.transformers")
DISTRIBUTIONS = ("machine.py",)
"""Files in which the word is the name of a distribution."""
