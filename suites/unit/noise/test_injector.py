"""The short way of nearly every call gives what the general way gives, bit for bit and count for count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.noise import NoiseSession, build_plan, injector
from harness.spec import parse_noise
from harness.testing import tiny_model

pytestmark = pytest.mark.unit
LENGTHS = (5, 3, 4)
ERRORS = ("relative_gaussian(0.1)", "spike(0.02)", "truncation(0.1)", "systematic_bias(0.05)")


def padded() -> tuple[Tensor, Tensor]:
    ids = torch.randint(1, 60, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(0))
    mask = torch.stack([(torch.arange(max(LENGTHS)) >= max(LENGTHS) - length).long() for length in LENGTHS])
    return ids, mask


@torch.inference_mode()
def run(text: str) -> tuple[Tensor, Any]:
    """Logits and counts of one forward of a padded batch."""
    model = tiny_model()
    ids, mask = padded()
    plan = build_plan(model, parse_noise(text))
    items = [f"item {row}" for row in range(len(LENGTHS))]
    with NoiseSession(model, plan) as session, session.batch(items, [0, 1, 2], 0.1, prompts=LENGTHS):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        counts = session.ledger.drain(0.1)
    return logits, counts


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["op:linear", "op:linear tokens:first"])
def test_both_ways_agree(error: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short: list[bool] = []
    honest: Callable[..., bool] = injector._is_whole

    def noted(*given: Any) -> bool:
        short.append(honest(*given))
        return short[-1]

    monkeypatch.setattr(injector, "_is_whole", noted)
    logits, counts = run(f"{error} @ {where}")
    assert any(short) is ("tokens" not in where)
    monkeypatch.setattr(injector, "_is_whole", lambda *given: False)
    again, counted = run(f"{error} @ {where}")
    assert torch.equal(logits, again)
    assert counts == counted


def test_rows_that_are_not_those_of_the_forward_take_the_general_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that sees one token of each sequence: its shape is not that of the forward."""
    taken: list[tuple[str, bool]] = []
    honest: Callable[..., bool] = injector._is_whole

    def noted(site: Any, *given: Any) -> bool:
        taken.append((site.name, honest(site, *given)))
        return taken[-1][1]

    monkeypatch.setattr(injector, "_is_whole", noted)
    model = tiny_model()
    ids, mask = padded()
    plan = build_plan(model, parse_noise("relative_gaussian(0.1) @ op:linear"))
    with torch.inference_mode(), NoiseSession(model, plan) as session, session.batch(["a", "b", "c"], [0, 0, 0], 0.1):
        model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=1)
        head = session.ledger.drain(0.1)["lm_head"]
    assert [short for name, short in taken if name == "lm_head"] == [False]
    assert head.rows == len(LENGTHS)
