"""How an adapter is evaluated (standard library only, so that options can name it)."""

from __future__ import annotations

MERGED, UNMERGED = "merged", "unmerged"
ADAPTER_MODES = (MERGED, UNMERGED)
"""Merged into the weights of its base, or run beside them."""
