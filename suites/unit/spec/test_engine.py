"""How an evaluation is run: what is out of range is refused with the option's name."""

from __future__ import annotations

from typing import Any

import pytest

from harness.exceptions import HarnessError
from harness.spec.engine import EngineOptions

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"batch_size": 0}, "--batch-size 0; a batch holds at least one item"),
        ({"workers": 0}, "--workers 0; at least one engine"),
        ({"timeout": 0.0}, "--timeout 0; it is in seconds, above 0"),
        ({"timeout": float("nan")}, "--timeout nan"),
    ],
)
def test_out_of_range(given: dict[str, Any], words: str) -> None:
    with pytest.raises(HarnessError) as caught:
        EngineOptions(**given)
    assert words in str(caught.value)


def test_the_defaults_stand() -> None:
    assert EngineOptions().workers == 1 and not EngineOptions().mixed_code
