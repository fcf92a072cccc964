"""What a plain ``pytest`` leaves out: collected, and skipped with the reason and the way to run it.

The short options (``--checkpoint``, ``--baseline``, ...) are there by ``robustness_short_options`` in pyproject.toml.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from _pytest.mark.expression import Expression  # the evaluator of -m itself; pytest exports none

ON_REQUEST = {
    "bench": "a benchmark; run it with -m bench",
    "thorough": "longer than CI affords; run it with -m thorough",
    "slow": "needs the vLLM or training stack; run it with -m slow",
}
ACCELERATOR = ("gpu", "gpu_long")
GATE_NEEDS = "needs --checkpoint=PATH and --baseline=NAME (pytest -m gate)"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the full training experiments (-m gpu_long suites/published)."""
    group = parser.getgroup("training", "full training experiments (-m gpu_long)")
    group.addoption("--training-seeds", type=int, default=3, metavar="N", help="training seeds of each (default: 3)")
    group.addoption("--training-models", type=Path, metavar="FOLDER", help="models, each under its published name")
    group.addoption("--training-data", type=Path, metavar="FOLDER", help="TASK/train.parquet and validation.parquet")
    group.addoption("--training-out", type=Path, default=Path("runs/experiments"), metavar="FOLDER", help="their runs")


def asks_for(config: pytest.Config, marker: str) -> bool:
    """True where the -m expression selects a test because it carries ``marker``."""
    text = config.getoption("markexpr", "")
    if not text:
        return False
    expression = Expression.compile(text)

    def selects(marked: str) -> bool:
        def matches(name: str, /, **_: object) -> bool:
            return name == marked

        return bool(expression.evaluate(matches))

    return selects(marker) and not selects("")


def pytest_configure(config: pytest.Config) -> None:
    """Asking for the gate without a checkpoint is a usage error, never green."""
    if not asks_for(config, "gate") or config.getoption("collectonly", False) or config.getoption("help", False):
        return
    given = _gate_values(config)
    for option in ("checkpoint", "baseline"):
        if not given[option]:
            raise pytest.UsageError(f"-m gate without --{option}: {GATE_NEEDS}; no evidence, no verdict")


@pytest.hookimpl(trylast=True)
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
    _skip_gates(config, items)


def _skip_gates(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where nothing but gate tests is left they are not skipped: their fixture then fails them."""
    gates = [item for item in items if item.get_closest_marker("gate")]
    if len(gates) < len(items) and not asks_for(config, "gate") and not _gate_values(config)["checkpoint"]:
        for item in gates:
            item.add_marker(pytest.mark.skip(reason=GATE_NEEDS))


def _gate_values(config: pytest.Config) -> dict[str, object]:
    from harness.pytest_plugin.settings import SETTINGS

    return config.stash[SETTINGS].given()


def _accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()
