"""Tensors of safetensors files: read by name, digested in the order of names, refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.checkpoints.tensors import Fingerprint, StoredTensors, fingerprint_of, not_finite
from harness.exceptions import CheckpointError

pytestmark = pytest.mark.unit
A, B = torch.arange(4.0).view(2, 2), torch.ones(3, dtype=torch.bfloat16)


def stored(folder: Path, **tensors: torch.Tensor) -> Path:
    save_file(tensors, folder / f"{'-'.join(tensors)}.safetensors")
    return folder / f"{'-'.join(tensors)}.safetensors"


def test_tensors_of_several_files_are_read_by_name(tmp_path: Path) -> None:
    found = StoredTensors("checkpoint x", [stored(tmp_path, b=B), stored(tmp_path, a=A)])
    assert found.names == ("a", "b") and torch.equal(found.read("a"), A) and found.read("b").dtype == torch.bfloat16


def test_the_fingerprint_is_over_names_dtypes_shapes_and_bytes_however_they_are_split(tmp_path: Path) -> None:
    split = fingerprint_of("x", StoredTensors("x", [stored(tmp_path, b=B), stored(tmp_path, a=A)]))
    assert split == fingerprint_of("x", StoredTensors("x", [stored(tmp_path, a=A, b=B)]))
    one = Fingerprint()
    one.add("a", A)
    for other in (("c", A), ("a", A.view(4)), ("a", A.double()), ("a", A + 1)):
        another = Fingerprint()
        another.add(*other)
        assert another.hexdigest() != one.hexdigest()


def test_nan_and_infinity_are_counted_and_refused(tmp_path: Path) -> None:
    bad = torch.tensor([1.0, float("nan"), float("inf")])
    assert not_finite(bad) == 2 and not_finite(torch.arange(3)) == 0
    with pytest.raises(CheckpointError, match="a"):
        fingerprint_of("x", StoredTensors("x", [stored(tmp_path, a=bad)]))


def test_a_name_in_two_files_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    first, second = stored(tmp_path, a=A), stored(tmp_path, a=A, b=B)
    with pytest.raises(CheckpointError):
        StoredTensors("x", [first, second])
    first.write_bytes(first.read_bytes()[:-4])
    with pytest.raises(CheckpointError):
        StoredTensors("x", [first])
    with pytest.raises(CheckpointError, match="hold no tensor"):
        StoredTensors("x", [])
