"""Log-likelihoods of texts in a baseline file: every number comes back as it was, and a damaged one is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.baselines.file import Baseline, dump, load
from harness.baselines.texts import holds_texts, read_text_row, text_row, text_tokens
from harness.gates import PASS, GatePolicy, gate
from harness.record import MEASURED, Arm, Origin, TextOutcome
from harness.runs.manifest import checksum
from harness.testing.arms import TEXT_KEY, make_arm, make_text_arm

pytestmark = pytest.mark.unit
EXTERNAL = "external, uncertified"
ROWS = [[-1234.56789, -1233.1], [-1e-9, -20.125], [-17.0, None]]
SIZES = [400, 3, 9]


@pytest.fixture
def arm() -> Arm:
    """Two seeds at 10 %, one of the third document missing; external, so that no ledger is asked for."""
    found = make_text_arm({0.0: [-1230.0, -0.5, -16.0], 0.1: ROWS}, SIZES, clusters={"i0000": "c", "i0001": "c"})
    answers = {0.1: {"i0000": {0: "aB", 1: "-_"}}}
    return replace(
        found, certificate=replace(found.certificate, status=EXTERNAL, levels=()), origin=Origin("w", answers=answers)
    )


@pytest.fixture
def file(arm: Arm, tmp_path: Path) -> Path:
    path = tmp_path / "b.json"
    path.write_text(dump(Baseline("b", "a test", "2026-11-29", {}, None, arm)))
    return path


def test_every_number_comes_back_and_the_text_is_the_same(arm: Arm, file: Path) -> None:
    found = load(file)
    assert found.arm.outcomes == arm.outcomes and dict(found.arm.clusters) == dict(arm.clusters)
    assert found.arm.origin.answers == arm.origin.answers
    assert dump(found) == file.read_text()
    assert holds_texts(found.arm) and not holds_texts(make_arm({0.0: [1, 0]}))
    assert found.arm.outcomes[0.1]["i0002"] == {0: TextOutcome(None, MEASURED, -17.0, 9)}


def test_it_is_one_line_for_each_document_under_a_version_of_its_own(file: Path) -> None:
    data, lines = json.loads(file.read_text()), file.read_text().splitlines()
    assert data["schema_version"] == 3
    assert [line for line in lines if "i0000" in line and "tokens" in line] == [
        '    "i0000": {"tokens": 400, "0": "-1230.0", "0.1": "-1234.56789 -1233.1 | aB-_"},'
    ]
    assert data["items"]["i0002"] == {"tokens": 9, "0": "-16.0", "0.1": "-17.0 ."}
    assert data["sums"]["0"] == {"items": 3, "records": 3, "nats": -1246.5}


@pytest.mark.parametrize(
    ("item", "change", "words"),
    [
        ("i0001", {"0": "-0.25"}, "its sums are not those of its items"),
        ("i0001", {"0": "nan"}, "damaged"),
        ("i0001", {"0": "-inf"}, "damaged"),
        ("i0001", {"0": "right"}, "damaged"),
        ("i0001", {"0": "-0.5 -0.5"}, "damaged"),
        ("i0001", {"tokens": 0}, "damaged"),
        ("i0001", {"tokens": True}, "damaged"),
        ("i0001", {"tokens": "3"}, "damaged"),
    ],
)
def test_what_cannot_be_is_refused(
    file: Path, refusal: Callable[..., str], item: str, change: dict[str, object], words: str
) -> None:
    data = json.loads(file.read_text())
    data["items"][item] |= change
    data["sha256"] = checksum(data)
    file.write_text(json.dumps(data))
    assert words in refusal(load, file)


def test_a_row_and_its_text_are_inverses() -> None:
    cells = {0: TextOutcome(None, MEASURED, -0.1, 7), 2: TextOutcome(None, MEASURED, -1e6, 7)}
    assert text_row(cells, [0, 1, 2]) == "-0.1 . -1000000.0"
    assert read_text_row("-0.1 . -1000000.0", 7, [0, 1, 2]) == cells
    assert text_tokens(make_text_arm({0.0: [None, -2.0]}, [3, 4]), "i0001") == 4


def test_a_gate_against_the_file_is_one_against_the_run(tmp_path: Path) -> None:
    sizes = [30 + place % 7 for place in range(90)]
    arm = make_text_arm({0.0: [-2.5 * size for size in sizes]}, sizes, key={**TEXT_KEY, "dtype": "float32"})
    arm = replace(arm, certificate=replace(arm.certificate, status=EXTERNAL, levels=()))
    path = tmp_path / "b.json"
    path.write_text(dump(Baseline("b", "a test", "2026-11-29", {}, None, arm)))
    policy = GatePolicy(nats_margin=0.05)
    stored, direct = gate(arm, load(path).arm, policy), gate(arm, replace(arm, label="baseline b"), policy)
    assert stored.verdict == PASS and stored.to_json() == direct.to_json()
