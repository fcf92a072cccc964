"""Fixtures that several suites share: tiny random models, the shipped checkpoint, its prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings
from transformers import PreTrainedModel

from harness.evaluate.prepared import prepare
from harness.spec import EvalSpec
from harness.testing import tiny_model
from suites.small import lower_layers

# the machines are shared: how long an example takes says nothing
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

SHIPPED = Path(__file__).parents[1] / "fixtures" / "arith-qwen2"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Two workers share two cores: more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture
def toy():
    """Builds a two-layer Qwen2 with random weights: ``toy("eager")``."""

    def build(attention: str = "sdpa", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        return tiny_model(attention=attention, dtype=dtype)

    return build


@pytest.fixture(scope="session")
def shipped():
    """The path of the shipped checkpoint."""
    return SHIPPED


@pytest.fixture(scope="session")
def two_layers(tmp_path_factory):
    """The path of the lower half of the shipped checkpoint: it answers nothing right, in a blink."""
    return lower_layers(SHIPPED, tmp_path_factory.mktemp("two-layers") / "checkpoint")


@pytest.fixture(scope="session")
def prepared_matmul():
    """28 items on the shipped checkpoint with noise on linears and attention products."""
    from harness.spec import parse_noise

    noise = parse_noise("relative_gaussian @ profile:matmul")
    return prepare(SHIPPED, EvalSpec("arith", items=28, noise=noise, noise_seeds=1), "cpu")
