"""Row keys depend on seed, item and position without padding, and on nothing else."""

import pytest
import torch

from harness.noise.frames import Rows, row_bases

pytestmark = pytest.mark.unit


def keys(items, seeds, mask=None, tokens=4, past=0):
    return Rows.of(row_bases(items, seeds), mask, tokens, past)


def test_position_is_counted_without_padding():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    padded = keys(["a", "b"], [0, 0], mask)
    alone = keys(["a"], [0], None, tokens=2)
    assert torch.equal(padded.keys[0, 2:], alone.keys[0])
    assert padded.positions[0, 2:].tolist() == [0, 1]
    assert padded.key_positions.tolist() == [[-1, -1, 0, 1], [0, 1, 2, 3]]
    assert padded.count == 6
    assert padded.visible == 3 + 10


def test_a_decode_step_continues_the_prefill():
    whole = keys(["a"], [0], None, tokens=5)
    step = keys(["a"], [0], None, tokens=1, past=4)
    assert torch.equal(step.keys[0], whole.keys[0, 4:])
    assert step.visible == 5


def test_seed_item_and_position_all_matter():
    found = {int(k) for item in "ab" for seed in (0, 1) for k in keys([item], [seed]).keys[0]}
    assert len(found) == 16


def test_shared_mode_leaves_the_item_out():
    shared = row_bases(["a", "b"], [3, 3], "shared")
    assert shared[0] == shared[1]
    assert row_bases(["a"], [4], "shared")[0] != shared[0]


def test_last_rows_are_those_of_the_end():
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    rows = keys(["a", "b"], [0, 0], mask)
    assert torch.equal(rows.last(1).keys, rows.keys[:, -1:])
    assert rows.last(1).count == 2
    assert rows.last(3).count == 5
    assert rows.last(4) is rows


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="attention mask"):
        keys(["a"], [0], torch.ones(1, 3), tokens=4)
