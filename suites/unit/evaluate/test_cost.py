"""The line that says beforehand what an evaluation costs: what it counts, and nothing that its records cannot tell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.evaluate.cost import cost_line
from harness.evaluate.prepared import prepare
from harness.spec import EngineOptions, EvalSpec

pytestmark = pytest.mark.unit
EFFECT = "minimum detectable effect"


def line(checkpoint: Path, spec: EvalSpec) -> str:
    prepared = prepare(checkpoint, spec)
    return cost_line(prepared, prepared.draws, EngineOptions())


def test_one_is_not_said_as_several_and_seeds_only_where_a_level_has_them(tiny: Path) -> None:
    spec = EvalSpec("arith", items=2, levels=(0.0, 0.05), noise_seeds=1, max_new_tokens=2)
    said = line(tiny, spec)
    assert "4 of 4 generations to do: 2 items x 2 levels, 1 noise seed above level 0, at most 2 new tokens; " in said
    assert EFFECT in said
    clean = line(tiny, EvalSpec("arith", items=1, levels=(0.0,), max_new_tokens=2))
    assert "1 of 1 generations to do: 1 item x 1 level, at most 2 new tokens; " in clean and "seed" not in clean


def test_no_effect_in_points_is_promised_where_nothing_is_right_or_wrong(tiny: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("The cold sea.", "The grey sea.")))
    said = line(tiny, EvalSpec("perplexity", str(texts), items=None, levels=(0.0, 0.05), noise_seeds=2))
    assert "6 of 6 records to do: 2 items x 2 levels, 2 noise seeds above level 0, " in said
    assert EFFECT not in said and "percentage points" not in said


def test_clusters_are_named_where_there_are_any(tiny: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"UID": kind, "sentence_good": f"They {kind}.", "sentence_bad": f"They {kind}s."} for kind in ("go", "eat")]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = line(tiny, EvalSpec("blimp", str(pairs), items=None, levels=(0.0,)))
    assert said.endswith("if 5 % of the pairs disagree; larger where items of a cluster move together)")
    pairs.write_text(json.dumps(rows[0]) + "\n")
    assert "cluster" not in line(tiny, EvalSpec("blimp", str(pairs), items=None, levels=(0.0,)))
