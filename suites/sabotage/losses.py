"""Noise that is counted and does not arrive, or arrives altered."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from suites.sabotage.planting import Place, after_counting, lost

MIDDLE = range(1, 3)
"""The middle ones of four noisy batches."""


def from_the_fourth_forward_on(monkeypatch: pytest.MonkeyPatch) -> None:
    lost(monkeypatch, lambda site, place: place.step >= 3)


def where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every forward over which no dispatch mode is active."""
    lost(monkeypatch, lambda site, place: _get_current_dispatch_mode() is None)


def in_the_middle_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    lost(monkeypatch, lambda site, place: place.batch in MIDDLE)


def in_the_decode_steps_of_one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    lost(monkeypatch, lambda site, place: site.layer == 1 and place.decoding)


def but_at_the_head_in_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    lost(monkeypatch, lambda site, place: site.module != "lm_head" and place.decoding)


def at_the_head_in_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    lost(monkeypatch, lambda site, place: site.module == "lm_head" and place.decoding)


def from_the_second_batch_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a cache would that holds the first batch's session."""
    lost(monkeypatch, lambda site, place: place.batch > 0)


def in_the_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    lost(monkeypatch, lambda site, place: not place.decoding)


def at_the_second_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def clean(site: Any, place: Place, y: Tensor, noisy: Tensor) -> Tensor:
        second = torch.tensor(place.seeds, device=y.device).view(-1, *[1] * (y.ndim - 1)) == 1
        return torch.where(second, y, noisy)

    after_counting(monkeypatch, clean)


def in_the_last_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def clean(site: Any, place: Place, y: Tensor, noisy: Tensor) -> Tensor:
        return torch.cat([noisy[:-1], y[-1:]])

    after_counting(monkeypatch, clean)


def halved_after_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    after_counting(monkeypatch, lambda site, place, y, noisy: y + (noisy - y) / 2)


def scaled_by_97_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    after_counting(monkeypatch, lambda site, place, y, noisy: y + (noisy - y) * 0.97)


def carried_to_the_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noise of one position is half that of the position before it."""

    def mixed(site: Any, place: Place, y: Tensor, noisy: Tensor) -> Tensor:
        relative = torch.where(y != 0, (noisy - y) / y, 0.0)
        if y.ndim != 3 or y.shape[1] < 2:
            return noisy
        before = torch.roll(relative, 1, dims=1)
        return y * (1 + (relative + before) / 2**0.5)

    after_counting(monkeypatch, mixed)


def at_the_first_items_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the two items that come first keep their noise."""
    kept: dict[str, None] = {}

    def chosen(site: Any, place: Place, y: Tensor, noisy: Tensor) -> Tensor:
        for item in here.items:
            if len(kept) < 2:
                kept.setdefault(item)
        mine = torch.tensor([item in kept for item in here.items], device=y.device)
        return torch.where(mine.view(-1, *[1] * (y.ndim - 1)), noisy, y)

    here = after_counting(monkeypatch, chosen)


LOSSES = {
    from_the_fourth_forward_on: "replay: item",
    where_nobody_looks: "replay: item",
    in_the_middle_batches: "replay: item",
    in_the_decode_steps_of_one_layer: "replay: item",
    but_at_the_head_in_decode: "replay: item",
    at_the_head_in_decode: "replay: item",
    from_the_second_batch_on: "replay: item",
    in_the_prefill: "replay: item",
    at_the_second_seed: "replay: item",
    in_the_last_row: "replay: item",
    halved_after_counting: "replay: item",
    scaled_by_97_percent: "replay: item",
    carried_to_the_neighbour: "replay: item",
    at_the_first_items_only: "replay: item",
}
"""Planter -> what is said."""
