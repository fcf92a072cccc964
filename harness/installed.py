"""Where this package lies: in a checkout of the repository, or installed from a wheel. Advice and data depend on it."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def in_checkout() -> bool:
    """Return whether the package lies in its repository, where ``make`` has its targets."""
    return all((PACKAGE.parent / name).is_file() for name in ("Makefile", "pyproject.toml", "constraints.txt"))


def shipped() -> Path:
    """Return the folder of the data that come along: the baselines of the repository, and the registry of published
    claims."""
    inside = PACKAGE / "shipped"  # a wheel has it there, see setup.py
    return inside if inside.is_dir() else PACKAGE.parent / "baselines"


def advice(target: str, otherwise: str) -> str:
    """Return ``make TARGET`` in a checkout, ``otherwise`` where there is no Makefile."""
    return f"make {target}" if in_checkout() else otherwise


def full_setup() -> str:
    """Return how to get the vLLM and training stack."""
    return advice("setup-full", "python -m pip install 'robustness-harness[vllm,verl]'")
