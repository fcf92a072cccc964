"""A stranger finds the test of a module: under its name in the mirrored folder, or importing it there or one above.

Exceptions say why there is none.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
PACKAGE, TESTS = ROOT / "harness", ROOT / "suites" / "unit"

REASONS: Mapping[str, tuple[str, ...]] = {
    "numbers alone: every test that reaches a limit uses them": ("thresholds.py",),
    "arguments and printing: the tests of suites/unit/cli run it through the command line": ("cli/",),
    "beside what they show: calibration/test_report.py, cli/test_replay_verb.py, suites/unit/training": (
        *("reports/calibration_page.py", "reports/replay_page.py", "reports/training_curves.py"),
    ),
    "judged through harness.gates.gate by every test of suites/unit/gates": (
        *("gates/adjusting.py", "gates/bounds.py", "gates/judge.py", "gates/result.py"),
    ),
    "read and judged whole: test_load.py, test_judge.py and the published verdicts": (
        *("claims/compare.py", "claims/parse_claims.py", "claims/parse_experiments.py", "claims/judgements.py"),
    ),
    "simulations: suites/contract/test_calibration_*.py": (*("calibration/losses.py", "calibration/seeds.py"),),
    "adapters, shards and caches as wholes: test_source.py, suites/contract and suites/slow": (
        *("checkpoints/fitting.py", "checkpoints/loading.py", "checkpoints/lora.py", "checkpoints/merging.py"),
        *("checkpoints/modes.py", "checkpoints/opening.py", "checkpoints/outline.py", "checkpoints/unmerged.py"),
        *("checkpoints/verl_merger.py", "checkpoints/exact_merger.py"),
    ),
    "perturbs only inside a model: the laws of suites/contract run over every way, operator and error model": (
        *("noise/ways/", "noise/audit/operands.py", "noise/audit/watching.py", "noise/conflicts.py"),
        *("noise/audit/experts.py", "noise/replay/experts.py"),
        *("noise/custom_ops.py", "noise/estimate/expected.py", "noise/estimate/speed.py", "noise/inject.py"),
        *("noise/injector.py", "noise/layout.py", "noise/probe.py", "noise/protocol.py", "noise/replay/formats.py"),
        *("noise/replay/untouched.py", "noise/scores.py", "noise/sites.py", "numerics/native.py"),
        *("spec/error_base.py", "diagnostics/skeleton.py"),
    ),
    "the ancestor's interface as a whole: suites/unit/integrations/test_noisy_ops.py": (
        *("integrations/noisy_counts.py", "integrations/noisy_settings.py"),
    ),
    "runs only inside vLLM or verl: suites/slow": (
        *("integrations/vllm_plugin/", "training/verl_plugin/", "engines/vllm/"),
    ),
    "one evaluation from end to end: test_run.py, suites/contract and suites/sabotage": ("evaluate/", "engines/"),
    "runs inside a pytest of its own: suites/contract/test_plugin_*.py": ("pytest_plugin/", "suites/"),
    "the dose response as a whole: test_aqn_response.py": ("diagnostics/aqn_probe.py",),
    "the laws of suites/contract/test_aqn_laws.py and cli/test_aqn_apply.py run over every kind of layer": (
        *("aqn/digest.py", "aqn/dose.py", "aqn/dose_file.py", "aqn/passes.py", "aqn/plan.py", "aqn/stored.py"),
        "aqn/worker.py",
    ),
    "held against verl's own sources and configuration by suites/unit/training and suites/slow": ("training/",),
    "read back with every run: test_loaded.py and test_folder.py": ("runs/identity.py",),
}
EXCEPTIONS = {entry: reason for reason, entries in REASONS.items() for entry in entries}
"""Module, or folder (ending in /), without a test in the mirrored folder -> why."""


def modules() -> list[str]:
    """Every module of the package as a path below it, but packages themselves."""
    found = (path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py")))
    return [name for name in found if not name.endswith("__init__.py")]


def imported(path: Path) -> set[str]:
    """Dotted names that a test file imports, or names in a text (as subprocesses and monkeypatches do)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("harness."):
            found.add(node.value.rpartition(".")[0])
    return found


@functools.cache
def imported_in(folder: Path) -> frozenset[str]:
    return frozenset().union(*(imported(path) for path in folder.glob("*.py")))


def has_test(name: str) -> bool:
    """Whether the mirrored folder has a file of the module's name, or it or the one above imports the module."""
    folder = (TESTS / name).parent
    dotted = f"harness.{name.removesuffix('.py').replace('/', '.')}"
    near = [folder] if folder.parent in (TESTS, TESTS.parent) else [folder, folder.parent]
    return (folder / f"test_{Path(name).name}").is_file() or any(dotted in imported_in(each) for each in near)


def excepted(name: str) -> bool:
    return any(name == entry or (entry.endswith("/") and name.startswith(entry)) for entry in EXCEPTIONS)


def test_every_module_has_its_test_where_a_stranger_looks() -> None:
    without = [name for name in modules() if not excepted(name) and not has_test(name)]
    assert not without, "add suites/unit/<package>/test_<module>.py:\n" + "\n".join(without)


def test_every_exception_names_a_module() -> None:
    assert {entry for entry in EXCEPTIONS if not entry.endswith("/")} <= set(modules())


def test_unit_tests_are_marked_as_such_and_their_folders_mirror_the_package() -> None:
    for path in sorted(TESTS.rglob("*.py")):
        assert (PACKAGE / path.relative_to(TESTS)).parent.is_dir(), path
        if path.name.startswith("test_"):
            text = path.read_text(encoding="utf-8")
            assert f"mark.{'contract'}" not in text, f"{path}: laws lie in suites/contract"
            assert "pytest.mark." in text, f"{path}: no marker"
