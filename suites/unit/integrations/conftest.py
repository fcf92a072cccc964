"""State of the ancestor's interface, and operands of bare calls."""

import pytest
import torch

from harness.integrations.noisy_state import NoisyOps
from harness.noise.phases import declare


@pytest.fixture
def ops():
    """A process' worth of state, switched off afterwards."""
    state = NoisyOps()
    yield state
    if state.get_injection_stats()["enabled"]:
        state.disable()
    declare("")


@pytest.fixture
def x():
    return torch.randn(40, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)


@pytest.fixture
def w():
    return torch.randn(8, 8, generator=torch.Generator().manual_seed(2), requires_grad=True)
