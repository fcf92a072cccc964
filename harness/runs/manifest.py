"""What a number depends on (the measurement key), where it came from, and what makes two runs the same run."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.record import SCHEMA_VERSION
from harness.revision import code_identity, version

PACKAGES = ("robustness-harness", "torch", "transformers", "tokenizers", "numpy", "scipy", "statsmodels", "datasets")


def digest(text: str) -> str:
    """16 hex digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def build_manifest(
    kind: str,
    identity: Mapping[str, Any],
    key: Mapping[str, str],
    details: Mapping[str, Any],
    code: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest of a run.

    ``kind`` is ``evaluation`` or ``external``; ``identity`` is what must agree for a run to be resumed; ``key``
    the measurement key; ``details`` anything else worth keeping (plan, seeds, checkpoint path); ``code`` the identity
    of the code that makes its records (:func:`harness.revision.code_identity`).
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "identity": dict(identity),
        "measurement_key": dict(key),
        **details,
        "code": code_identity() if code is None else dict(code),
        "environment": environment(),
    }


def environment() -> dict[str, Any]:
    """Versions, hardware and the git commit of the working directory (None outside a repository)."""
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "git_commit": _git_commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def _git_commit() -> str | None:
    command = ["git", "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
