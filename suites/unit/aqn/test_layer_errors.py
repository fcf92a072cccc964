"""Errors of layers out of a scan or a table, and what is neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.aqn.layer_errors import errors_of
from harness.exceptions import HarnessError

pytestmark = pytest.mark.unit


def file(folder: Path, data: Any) -> Path:
    path = folder / "errors.json"
    path.write_text(json.dumps(data))
    return path


def row(layer: int, decibels: float, fmt: str = "mxfp4", what: str = "weights") -> dict[str, Any]:
    return {"format": fmt, "group": f"model.layers.{layer}", "what": what, "metrics": {"sqnr_db": decibels}}


def test_a_table_maps_layers_to_errors(tmp_path: Path) -> None:
    assert errors_of(file(tmp_path, {"0": 0.12, "11": 1})) == {0: 0.12, 11: 1.0}


def test_the_error_of_a_scan_is_the_root_of_noise_over_signal(tmp_path: Path) -> None:
    data = {
        "layers": [
            row(0, 20.0),
            row(3, 40.0),
            row(3, 10.0, what="activations"),
        ]
    }
    found = errors_of(file(tmp_path, data))
    assert list(found) == [0, 3] and list(found.values()) == pytest.approx([0.1, 0.01])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"a": 0.1}, "it maps layers to numbers"),
        ({"0": True}, "it maps layers to numbers"),
        ({"0": 0}, "it is a finite number above 0"),
        (
            {"layers": [row(0, 20.0), row(0, 20.0, "fp8")]},
            "the errors are those of one format",
        ),
        ({"layers": []}, "with formats none"),
        ({"layers": [{"what": "weights"}]}, "it is not the report of a scan"),
    ],
)
def test_what_is_neither_is_one_line(tmp_path: Path, data: Any, words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        errors_of(file(tmp_path, data))
