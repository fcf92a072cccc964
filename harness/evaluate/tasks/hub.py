"""Data from a hub, where one answers; else from its cache at once, without the minute of retries of its client."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

PATIENCE = 3.0
"""Seconds that a hub may take to answer."""


@contextlib.contextmanager
def offline_without_hub(datasets: Any, path: str) -> Iterator[None]:
    """Let the package ``datasets`` look for ``path`` in its cache alone in the block, where no hub answers."""
    config = getattr(datasets, "config", None)
    if config is None or _answers(path):
        yield
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before


def _answers(path: str) -> bool:
    """Whether a hub says anything of ``path``, be it a refusal."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().dataset_info(path, timeout=PATIENCE)
    except HfHubHTTPError:
        return True
    except Exception:  # its client raises what its HTTP library does
        return False
    return True
