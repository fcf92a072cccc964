"""What tests of checkpoints and of gates need again and again: tiny models by seed, ready checkpoints, a scripted
engine, finished runs.

Everything is loaded when it is first asked for, so that importing the package loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.testing.arms import make_arm, make_certificate
    from harness.testing.engine import ScriptedEngine
    from harness.testing.model import tiny_checkpoint, tiny_config, tiny_model
    from harness.testing.runs import RunMaker, make_result, write_run
    from harness.testing.tokenizer import build_tokenizer

_HOMES = {
    "RunMaker": "harness.testing.runs",
    "ScriptedEngine": "harness.testing.engine",
    "build_tokenizer": "harness.testing.tokenizer",
    "make_arm": "harness.testing.arms",
    "make_certificate": "harness.testing.arms",
    "make_result": "harness.testing.runs",
    "tiny_checkpoint": "harness.testing.model",
    "tiny_config": "harness.testing.model",
    "tiny_model": "harness.testing.model",
    "write_run": "harness.testing.runs",
}

__all__ = [
    "RunMaker",
    "ScriptedEngine",
    "build_tokenizer",
    "make_arm",
    "make_certificate",
    "make_result",
    "tiny_checkpoint",
    "tiny_config",
    "tiny_model",
    "write_run",
]


def __getattr__(name: str) -> Any:
    """Load what is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names, and what the package has already loaded."""
    return sorted({*globals(), *__all__})
