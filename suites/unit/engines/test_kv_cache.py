"""The cache with room holds what transformers' own cache holds, whatever ends when and whoever reorders it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from harness.engines.kv_cache import ROOM, RoomyLayer, closed_up, keep_rows, roomy_cache
from harness.testing import tiny_model

pytestmark = pytest.mark.unit
HEADS, WIDTH, WIDTH_OF_VALUES = 2, 4, 3


def states(generator: torch.Generator, rows: int, tokens: int) -> tuple[Tensor, Tensor]:
    drawn = torch.randn(rows, HEADS, tokens, WIDTH + WIDTH_OF_VALUES, generator=generator)
    return drawn[..., :WIDTH], drawn[..., WIDTH:]


def same(roomy: RoomyLayer, plain: DynamicLayer) -> None:
    assert torch.equal(roomy.keys, plain.keys)
    assert torch.equal(roomy.values, plain.values)
    assert roomy.get_seq_length() == plain.get_seq_length()


@pytest.mark.parametrize("seed", range(3))
def test_it_holds_what_a_dynamic_layer_holds(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    roomy, plain, rows = RoomyLayer(), DynamicLayer(), 6
    for step in range(2 * ROOM + 5):
        new = states(generator, rows, 7 if step == 0 else 1)
        got = roomy.update(*new)
        plain.update(*new)
        assert torch.equal(got[0], plain.keys)
        if step % 29 == 0 and rows > 1:
            going = torch.randperm(rows, generator=generator) > 0
            kept = closed_up(going)
            rows = len(kept)
            roomy.batch_select_indices(kept)
            plain.batch_select_indices(kept)
        same(roomy, plain)
    assert rows < 6


def test_a_step_copies_nothing_while_there_is_room() -> None:
    layer, generator = RoomyLayer(), torch.Generator().manual_seed(0)
    layer.update(*states(generator, 2, 5))
    places = []
    for _ in range(ROOM + 1):
        layer.update(*states(generator, 2, 1))
        places.append(layer.keys.data_ptr())
    assert [one != other for one, other in pairwise(places)] == [False] * (ROOM - 1) + [True]


def test_what_others_reorder_or_cut_is_taken_as_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    roomy, plain = RoomyLayer(), DynamicLayer()
    first, second, third, wide = (states(generator, rows, 3) for rows in (4, 4, 4, 8))
    for layer in (roomy, plain):
        layer.update(*first)
        layer.reorder_cache(torch.tensor([3, 1, 1, 0]))
        layer.update(*second)
        layer.crop(4)
        layer.update(*third)
        layer.batch_repeat_interleave(2)
        layer.update(*wide)
    same(roomy, plain)


def test_rows_in_any_order_can_be_kept() -> None:
    generator, roomy = torch.Generator().manual_seed(0), RoomyLayer()
    keys, values = states(generator, 5, 3)
    roomy.update(keys, values)
    order = torch.tensor([4, 0, 3])
    roomy.batch_select_indices(order)
    assert torch.equal(roomy.keys, keys[order])
    assert torch.equal(roomy.values, values[order])


def test_the_last_rows_take_the_places_of_those_that_ended() -> None:
    going = torch.tensor([True, False, True, False, True, False, True])
    assert closed_up(going).tolist() == [0, 4, 2, 6]
    assert closed_up(torch.zeros(3, dtype=torch.bool)).tolist() == []
    assert closed_up(torch.ones(3, dtype=torch.bool)).tolist() == [0, 1, 2]


def test_only_layers_that_attend_to_everything_are_replaced() -> None:
    assert {type(layer) for layer in roomy_cache(tiny_model()).layers} == {RoomyLayer}
    sliding = tiny_model()
    sliding.config.layer_types = ["sliding_attention"] * len(sliding.config.layer_types)
    sliding.config.sliding_window = 4
    cache = roomy_cache(sliding)
    assert RoomyLayer not in {type(layer) for layer in cache.layers}
    keep_rows(cache, torch.tensor([0]))  # nothing is held yet
