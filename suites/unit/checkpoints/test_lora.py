"""One way to open adapters and one forward: eval and scan refuse alike, and the update is added as peft adds it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.checkpoints.base_record import BASE_FIELD
from harness.checkpoints.loading import load_model
from harness.checkpoints.lora import read_config
from harness.checkpoints.unmerged import attach
from harness.exceptions import CheckpointError
from suites.unit.checkpoints.checkpoint_parts import PATHS, TARGETS
from suites.unit.conftest import Said

pytestmark = pytest.mark.unit

Make = Callable[..., Path]


def _verbs(adapter: Path, out: Path) -> list[list[object]]:
    """Every verb that opens a checkpoint."""
    scans = ["scan", adapter, "--format", "mxfp4"]
    return [["eval", adapter, "--out", out], ["plan", adapter], scans, [*scans, "--adapter", "unmerged"]]


@pytest.mark.parametrize("switch", [{"use_new_method": True}, {"use_dora": True}, {"new_scale": 0.5}, {"extra": [1]}])
def test_a_switch_that_is_not_known_is_refused_by_every_verb(
    make_adapter: Make, tmp_path: Path, cli: Callable[..., Said], switch: dict[str, Any]
) -> None:
    adapter = make_adapter(**switch)
    (name,) = switch
    lines = set()
    for words in _verbs(adapter, tmp_path / "run"):
        said = cli(*words)
        assert said.code == 2 and "only plain LoRA on linears is understood" in said.line and name in said.line
        lines.add(said.line)
    assert len(lines) == 1


@pytest.mark.parametrize("value", [None, False, [], {}, 0, ""])
def test_an_unknown_switch_that_is_off_changes_nothing(make_adapter: Make, value: Any) -> None:
    assert read_config(make_adapter(use_new_method=value))["r"]


def test_a_misspelt_switch_is_named(make_adapter: Make, refusal: Callable[..., str]) -> None:
    line = refusal(read_config, make_adapter(use_rslorra=True), kind=CheckpointError)
    assert "use_rslorra True, a setting that is not known here" in line


def test_another_base_than_the_recorded_one_is_exit_code_4_for_every_verb(
    make_adapter: Make, tmp_path: Path, cli: Callable[..., Said]
) -> None:
    adapter = make_adapter(**{BASE_FIELD: "0" * 64})
    for words in _verbs(adapter, tmp_path / "run"):
        said = cli(*words)
        assert said.code == 4 and f"the adapter records {'0' * 16}... ({BASE_FIELD})" in said.line


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_update_is_added_as_peft_adds_it(tiny: Path, make_adapter: Make, dtype: str) -> None:
    """The product of the factors is not rounded to bfloat16 before the sum is."""
    peft = pytest.importorskip("peft")
    adapter = make_adapter()
    ours = load_model(tiny, dtype, "eager")
    attach(ours, adapter)
    theirs = peft.PeftModel.from_pretrained(load_model(tiny, dtype, "eager"), str(adapter)).eval().get_base_model()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for target, (_, inner) in TARGETS.items():
            x = torch.randn(3, 50, inner, generator=generator).to(getattr(torch, dtype))
            path = f"model.layers.0.{PATHS[target]}"
            one, other = ours.get_submodule(path)(x), theirs.get_submodule(path)(x)
            assert one.dtype == other.dtype == x.dtype
            assert torch.equal(one, other)
