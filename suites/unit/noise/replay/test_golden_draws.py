"""Engine, second implementation and page are held to the same golden vectors of the draw."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.noise.frames import row_bases
from harness.noise.replay import draws
from harness.numerics import keyed_random as engine

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[4]
GOLDEN = json.loads((ROOT / "fixtures" / "draws" / "golden.json").read_text())
CASES = GOLDEN["draws"]


def unsigned(number: int, bits: int = 64) -> str:
    return f"{number % 2**bits:0{bits // 4}x}"


@pytest.mark.parametrize("labels", GOLDEN["labels"])
def test_keys_of_labels(labels: str) -> None:
    parts = labels.split(",")
    assert unsigned(draws.label_key(*parts)) == unsigned(engine.derive_key(*parts)) == GOLDEN["labels"][labels]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['site']}-{case['column']}-{case['key']}")
def test_second_implementation(case: dict[str, Any]) -> None:
    stream = draws.row_stream(case["item"], case["seed"], case["key"])
    row = draws.counted(stream, [case["position"]])
    head = () if case["head"] is None else (case["head"],)
    column = draws.columns_of(case["site"], case["column"] + 1, *head)[-1:]
    assert (unsigned(stream), unsigned(int(row[0]))) == (case["row_stream"], case["row_key"])
    assert unsigned(int(column[0])) == case["column_key"]
    rows, columns = draws.Side.of(row), draws.Side.of(column)
    assert unsigned(int(draws.hashed(rows, columns)), 32) == case["bits"]
    assert unsigned(int(draws.hashed(rows, columns.salted(1))), 32) == case["salted_bits"]
    assert unsigned(int(draws.normal(rows, columns).view(torch.int32)), 32) == case["z_bits"]
    assert bool(draws.below(rows, columns, 0.5)) == case["below_0.5"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['site']}-{case['column']}-{case['key']}")
def test_engine(case: dict[str, Any]) -> None:
    bases = row_bases([case["item"]], [case["seed"]], case["key"])
    row = engine.counter_keys(bases, torch.tensor([case["position"]]))
    head = () if case["head"] is None else (case["head"],)
    stream = engine.derive_key("site", case["site"], *head)
    assert (unsigned(int(bases)), unsigned(int(row))) == (case["row_stream"], case["row_key"])
    columns = engine.stream_keys(stream, case["column"] + 1, torch.device("cpu"))
    rows, columns = engine.Keys.of(row), engine.Keys(columns.low[-1:], columns.high[-1:])
    assert unsigned(stream) == case["column_stream"]
    assert unsigned(int(engine.bits(rows, columns)), 32) == case["bits"]
    assert unsigned(int(engine.bits(rows, columns.salted(1))), 32) == case["salted_bits"]
    assert unsigned(int(engine.normals(rows, columns).view(torch.int32)), 32) == case["z_bits"]
    assert bool(engine.below(rows, columns, 0.5)) == case["below_0.5"]


def test_by_the_description_in_plain_integers() -> None:
    """The steps of the page, in Python's own integers."""
    for case in CASES:
        x = int(case["bits"], 16)
        total = sum(x.to_bytes(4, "little")) - 510
        z = torch.tensor(float(total * (total * total + 1112070)), dtype=torch.float32) * 5.773953759558026e-09
        assert (total, float(z)) == (case["sum"], case["z"])


def test_the_page_prints_them() -> None:
    page = (ROOT / "docs" / "draws.md").read_text()
    for case in CASES:
        line = f"| {case['row_key']} | {case['column_key']} | {case['bits']} | {case['sum']} | {case['z_bits']} |"
        assert line in page


def test_it_shares_nothing_with_the_engine_but_the_specification() -> None:
    allowed = ("harness.spec", "harness.noise.replay", "harness.exceptions", "harness.extensions")
    for file in (ROOT / "harness" / "noise" / "replay").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert all(name.startswith(allowed) for name in names if name.startswith("harness")), (file.name, names)
            assert not isinstance(node, ast.ImportFrom) or node.level == 0
