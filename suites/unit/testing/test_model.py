"""Tiny models: equal weights by seed, every architecture, and checkpoints that an evaluation takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness import EvalSpec
from harness.evaluate.prepared import prepare
from harness.exceptions import HarnessError
from harness.testing import tiny_checkpoint, tiny_config, tiny_model
from harness.testing.model import ARCHITECTURES

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_every_architecture_is_built_and_runs(architecture: str) -> None:
    model = tiny_model(architecture)
    assert sum(parameter.numel() for parameter in model.parameters()) < 100_000
    logits = model(torch.tensor([[1, 2, 3]])).logits
    assert logits.shape == (1, 3, 64) and not model.training


def test_the_seed_alone_decides_the_weights_and_the_global_state_stays() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, again, other = tiny_model(seed=3), tiny_model(seed=3), tiny_model(seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


def test_sizes_dtype_and_attention_are_the_callers() -> None:
    model = tiny_model("llama", attention="sdpa", dtype=torch.bfloat16, num_hidden_layers=1)
    assert model.config.num_hidden_layers == 1 and model.config._attn_implementation == "sdpa"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert tiny_config(hidden_size=16).hidden_size == 16


def test_an_unknown_architecture_is_refused_with_the_nearest() -> None:
    with pytest.raises(HarnessError, match=r"architecture 'lama'; tiny ones are .*; did you mean 'llama'\?"):
        tiny_model("lama")


def test_a_checkpoint_can_be_evaluated(tmp_path: Path) -> None:
    path = tiny_checkpoint(tmp_path / "model", seed=1)
    assert json.loads((path / "config.json").read_text())["vocab_size"] == 260
    prepared = prepare(path, EvalSpec("arith", items=2), "cpu")
    assert len(prepared.prompts) == 2


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, harness.testing; print('torch' in sys.modules, sorted(harness.testing.__all__)[0])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.startswith(
        "False RunMaker"
    )
    with pytest.raises(AttributeError, match="tiny_modle"):
        __import__("harness.testing").testing.tiny_modle  # noqa: B018
