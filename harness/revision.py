"""The identity of the code that makes numbers: a hash of the sources that touch them, and the versions beside it.

Standard library only, so that processes of any engine can say it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

INJECTING = ("harness.numerics", "harness.noise", "harness.integrations.vllm_plugin")
"""Packages that decide what is injected."""

MEASURING = (
    *INJECTING,
    *("harness.spec", "harness.checkpoints", "harness.engines", "harness.evaluate", "harness.aqn", "harness.scorers"),
)
"""Packages that decide what a record holds."""

FILES = (
    *(
        "answers.py",
        "coverage.py",
        "distributions.py",
        "ledger.py",
        "likelihoods.py",
        "quant_error.py",
        "record.py",
        "text.py",
    ),
    "thresholds.py",
)
"""Modules directly in ``harness`` that do, too."""

_SUFFIXES = (".py", ".c", ".h")
_PACKAGES = ("torch", "transformers", "tokenizers", "peft")


@functools.cache
def revision(packages: Sequence[str] = MEASURING, files: Sequence[str] = ()) -> str:
    """Return 16 hex digits of SHA-256 over names and content of the sources in ``packages``, and of ``files`` in
    harness."""
    digest = hashlib.sha256()
    for package in packages:
        folder = Path(str(resources.files(package)))
        for file in sorted(file for file in folder.rglob("*") if file.suffix in _SUFFIXES):
            _add(digest, f"{package}/{file.relative_to(folder)}", file)
    for name in files:
        _add(digest, name, Path(str(resources.files("harness"))) / name)
    return digest.hexdigest()[:16]


def code_identity(
    engine: str = "",
    cpu_capability: str | None = None,
    beside: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return what must not change within a run: versions of harness, torch, transformers and of ``engine`` (empty:
    nothing was generated), the hash of the sources, and which vector instructions torch uses (``cpu_capability``).

    ``beside`` is what the engine needs in addition: name -> distributions, of which the first that is installed counts.
    """
    code: dict[str, Any] = {"harness": version("robustness-harness"), "sources": revision(MEASURING, FILES)}
    if engine:
        code |= {name: version(name) for name in _PACKAGES}
        code["cpu_capability"] = cpu_capability
    for name, distributions in beside.items():
        code[name] = next((found for each in distributions if (found := version(each)) is not None), None)
    return code


def version(package: str) -> str | None:
    """Return the installed version of a distribution, None where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _add(digest: Any, name: str, file: Path) -> None:
    content = file.read_bytes()
    digest.update(f"{name} {len(content)}\n".encode())
    digest.update(content)
