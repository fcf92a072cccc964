"""What a plain ``pytest`` leaves out: collected, and skipped with the reason and the way to run it."""

from __future__ import annotations

import pytest

from harness.pytest_plugin.plugin import asks_for

ON_REQUEST = {
    "bench": "a benchmark; run it with -m bench",
    "thorough": "longer than CI affords; run it with -m thorough",
    "slow": "needs the vLLM or training stack; run it with -m slow",
}
ACCELERATOR = ("gpu", "gpu_long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips what was not asked for, and what this machine cannot run."""
    for item in items:
        for marker, reason in ON_REQUEST.items():
            if item.get_closest_marker(marker) and not asks_for(config, marker):
                item.add_marker(pytest.mark.skip(reason=reason))
        for marker in ACCELERATOR:
            if not item.get_closest_marker(marker):
                continue
            if not asks_for(config, marker):
                item.add_marker(pytest.mark.skip(reason=f"needs an accelerator; run it with -m {marker}"))
            elif not _accelerator():
                item.add_marker(pytest.mark.skip(reason="needs an accelerator: torch.accelerator finds none here"))


def _accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()
