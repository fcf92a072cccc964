"""Keys of AQN's draws: a piece of a weight has those of its place in the whole."""

from __future__ import annotations

import pytest
import torch

from harness.aqn.draws import Region, draw_keys

pytestmark = pytest.mark.unit
CPU = torch.device("cpu")


def test_rows_of_a_piece_are_those_of_the_whole() -> None:
    whole = Region.all_of(torch.empty(2, 3, 4))
    assert whole.rows(CPU).tolist() == [0, 1, 2, 3, 4, 5]
    assert Region((1, 2, 4), (2, 3, 4), (1, 1, 0)).rows(CPU).tolist() == [4, 5]


@pytest.mark.parametrize(("offset", "shape"), [((2, 1), (3, 4)), ((0, 0), (6, 5)), ((5, 4), (1, 1))])
def test_a_piece_has_the_keys_of_its_place(offset: tuple[int, int], shape: tuple[int, int]) -> None:
    whole = draw_keys(3, 7, "norm", Region((6, 5), (6, 5), (0, 0)), CPU)
    piece = draw_keys(3, 7, "norm", Region(shape, (6, 5), offset), CPU)
    for ours, theirs in zip(piece.rows, whole.rows, strict=True):
        assert torch.equal(ours, theirs[offset[0] : offset[0] + shape[0]])
    for ours, theirs in zip(piece.columns, whole.columns, strict=True):
        assert torch.equal(ours, theirs[:, offset[1] : offset[1] + shape[1]])


@pytest.mark.parametrize("other", [(4, 7, "norm"), (3, 8, "norm"), (3, 7, "other")])
def test_seed_step_and_name_change_the_keys(other: tuple[int, int, str]) -> None:
    region = Region((4, 4), (4, 4), (0, 0))
    assert not torch.equal(draw_keys(3, 7, "norm", region, CPU).rows[0], draw_keys(*other, region, CPU).rows[0])
