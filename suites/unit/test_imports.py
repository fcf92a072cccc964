"""The one direction of imports, held for every module: no arrow upwards, no circle, no torch below the line.

Every import statement counts, also inside functions and under ``TYPE_CHECKING``: what a module only names is part of
what a reader has to know.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "harness"
ORDER = (
    *(
        "text",
        "exceptions",
        "extensions",
        "thresholds",
        "installed",
        "revision",
        "coverage",
        "progress",
        "strict",
        "spec",
        "distributions",
        "likelihoods",
        "record",
        "votes",
    ),
    *("answers", "scorers", "ledger", "quant_error", "training_record", "gate_options"),
    *("stats", "runs", "gates", "baselines"),
    *("calibration", "numerics", "noise", "checkpoints", "aqn", "integrations", "engines", "evaluate", "training"),
    *("diagnostics", "claims", "doctor", "reports", "library", "testing", "cli", "__main__", "pytest_plugin"),
    "suites",
)
"""From the bottom to the top: a part imports itself and what stands before it."""

WITHOUT_TORCH = (*ORDER[: ORDER.index("numerics")], "claims", "reports")
HEAVY = ("torch", "transformers", "vllm", "verl", "ray", "datasets", "peft")


def modules(root: Path) -> dict[str, Path]:
    """Dotted name of every module under ``root`` -> its file."""
    found = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """Every dotted name that an import statement of ``tree`` may mean."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def named(path: Path) -> frozenset[str]:
    """Every dotted name that the file imports."""
    return frozenset(imported(ast.parse(path.read_text(encoding="utf-8"))))


def graph(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """Module -> modules of the package that it imports."""
    found = {name: {_home(target, files) for target in named(path)} for name, path in files.items()}
    return {name: targets - {name, ""} for name, targets in found.items()}


def _home(target: str, files: Mapping[str, Path]) -> str:
    """The module that ``target`` is or stands in, empty where it is none of ``files``."""
    return next((name for name in (target, target.rpartition(".")[0]) if name in files), "")


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import one another (strongly connected components of several modules)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for target in sorted(edges[name]):
            if target not in order:
                visit(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in stack:
                lowest[name] = min(lowest[name], order[target])
        if lowest[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(edges):
        if name not in order:
            visit(name)
    return found


FILES = modules(ROOT)
EDGES = graph(FILES)


def part(name: str) -> str:
    """The top-level part of the package that a module belongs to; empty for the package itself."""
    return name.partition(".")[2].partition(".")[0]


def test_every_part_of_the_package_has_its_place_in_the_order() -> None:
    assert {part(name) for name in FILES} - {""} == set(ORDER)


def test_no_import_points_upwards() -> None:
    rank = {name: number for number, name in enumerate(ORDER)}
    upwards = [
        f"{name} imports {target}"
        for name, targets in EDGES.items()
        for target in targets
        if part(name) and (not part(target) or rank[part(target)] > rank[part(name)])
    ]
    assert not upwards


def test_no_module_is_in_a_circle() -> None:
    assert circles(EDGES) == []


@pytest.mark.parametrize("below", WITHOUT_TORCH)
def test_below_the_line_nothing_heavy_is_imported_nor_reached(below: str) -> None:
    found = []
    for start in (name for name in FILES if part(name) == below):
        seen, waiting = {start}, [start]
        while waiting:
            name = waiting.pop()
            found += [f"{start}: {name} imports {t}" for t in named(FILES[name]) if t.partition(".")[0] in HEAVY]
            waiting += EDGES[name] - seen
            seen |= EDGES[name]
    assert not found


def test_the_walk_finds_what_it_is_for(tmp_path: Path) -> None:
    package = tmp_path / "toy"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("def f():\n    from toy import two\n    return two\n")
    (package / "two.py").write_text("from toy.three import x\n")
    (package / "three.py").write_text("import typing\nif typing.TYPE_CHECKING:\n    import toy.one\nx = 1\n")
    assert circles(graph(modules(package))) == [["toy.one", "toy.three", "toy.two"]]
    assert sys.getrecursionlimit() > len(FILES), "the walk is recursive"
