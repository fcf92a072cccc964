"""Which claims a published experiment feeds."""

from __future__ import annotations

from typing import Any

import pytest

from harness.claims.feeds import claims_fed
from harness.claims.load import build_registry

pytestmark = pytest.mark.unit


def test_arms_and_references_feed_and_others_do_not(small: dict[str, Any]) -> None:
    small["theory"] = [{"arm": "E8a", "text": "no noise"}]
    registry = build_registry([("small.toml", small)])
    assert claims_fed(registry, ["on"]) == claims_fed(registry, ["off", "00"]) == ("K",)
    assert claims_fed(registry, ["00"]) == ()
    assert claims_fed(registry, [], "E8a") == ("theory E8a",)
