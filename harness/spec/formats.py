"""Number formats that fake quantization knows, as rows of data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "fp8_e4m3": "float8_e4m3fn",
        "fp8_e5m2": "float8_e5m2",
        "bf16": "bfloat16",
        "fp16": "float16",
    }
)
"""Format -> the torch dtype that rounds to it element by element, nearest even, without a scale."""
