"""Draws of the right strength that are not those of the key."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.noise import injector
from harness.noise.injector import Injector
from harness.numerics.keyed_random import derive_key
from suites.sabotage.planting import Place, Whereabouts, after_counting, drawn, keyed


def signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plus or minus one: variance 1, kurtosis 1."""
    drawn(monkeypatch, lambda z: torch.where(z < 0, -1.0, 1.0))


def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniform on +-sqrt(3): variance 1, no tails."""
    drawn(monkeypatch, lambda z: torch.erf(z / 2**0.5) * 3**0.5)


def cut_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing beyond 2.5, at the same variance."""
    drawn(monkeypatch, lambda z: z.clamp(-2.5, 2.5) * 1.0145)


def the_same_at_all_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Injector, "_label", lambda self, entry, frame, *more: derive_key("site", "any", *more))


def the_same_in_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    def label(self: Any, entry: Any, frame: Any, *more: int) -> int:
        return derive_key("site", entry.site.name.rpartition(".")[2], *more)

    monkeypatch.setattr(Injector, "_label", label)


def opposite_at_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The value projection gets minus the draws of the key projection."""
    honest = Injector._label

    def label(self: Any, entry: Any, frame: Any, *more: int) -> int:
        if entry.site.name.endswith("v_proj"):
            return derive_key("site", entry.site.name.replace("v_proj", "k_proj"), *more)
        return honest(self, entry, frame, *more)

    monkeypatch.setattr(Injector, "_label", label)
    turned = lambda site, place, y, noisy: 2 * y - noisy if site.name.endswith("v_proj") else noisy  # noqa: E731
    after_counting(monkeypatch, turned)


def the_second_seed_opposite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 1 is minus seed 0."""
    keyed(monkeypatch, lambda items, seeds: (items, [0] * len(seeds)))

    def opposite(site: Any, place: Place, y: Tensor, noisy: Tensor) -> Tensor:
        second = torch.tensor(place.seeds, device=y.device).view(-1, *[1] * (y.ndim - 1)) == 1
        return torch.where(second, 2 * y - noisy, noisy)

    after_counting(monkeypatch, opposite)


def one_seed_in_the_middle_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Whereabouts(monkeypatch)

    def change(items: list[str], seeds: list[int]) -> tuple[list[str], list[int]]:
        place = here.place
        middle = place is not None and place.evaluated and 1 <= place.batch <= 2
        return items, [0] * len(seeds) if middle else seeds

    keyed(monkeypatch, change)


def by_the_row_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    keyed(monkeypatch, lambda items, seeds: ([f"{item}/{row}" for row, item in enumerate(items)], seeds))


def by_the_padded_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions that count padding too: the draws depend on who else is in the batch."""
    from harness.noise import frames

    honest = frames.Rows.of

    def of(bases: Tensor, mask: Tensor | None, tokens: int, past: int) -> Any:
        rows = honest(bases, mask, tokens, past)
        columns = torch.arange(past, past + tokens, device=bases.device).expand(len(bases), tokens)
        return frames.replace(rows, keys=frames.counter_keys(bases[:, None], columns))

    monkeypatch.setattr(frames.Rows, "of", of)


def other_seeds_than_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds 7 and 8 in records that say 0 and 1: noise of the right kind that nobody can repeat."""
    keyed(monkeypatch, lambda items, seeds: (items, [seed + 7 for seed in seeds]))


def one_column_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The draws of feature j at feature j + 1."""
    honest = injector.stream_keys

    def moved(key: int, count: int, device: torch.device) -> Any:
        low, high = honest(key, count + 1, device)
        return injector.Keys(low[1:], high[1:])

    monkeypatch.setattr(injector, "stream_keys", moved)


DRAWS = {
    signs: "replay: item",
    bounded: "replay: item",
    cut_tails: "replay: item",
    the_same_at_all_sites: "replay: item",
    the_same_in_all_layers: "replay: item",
    opposite_at_neighbours: "replay: item",
    the_second_seed_opposite: "replay: item",
    one_seed_in_the_middle_batches: "replay: item",
    by_the_row_of_the_batch: "replay: item",
    by_the_padded_column: "replay: item",
    other_seeds_than_named: "replay: item",
    one_column_off: "replay: item",
}
"""Planter -> what is said."""
