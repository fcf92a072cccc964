"""What Inspect 0.3.285 wrote is read as it was written: epochs are seeds, letters are scores, archives are logs."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate.imported import archive
from harness.evaluate.imported.formats import read_results
from suites.unit.evaluate.imported.written import INSPECT

pytestmark = pytest.mark.unit
ZSTANDARD = importlib.util.find_spec("zstandard") is not None


def changed(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    log = json.loads((INSPECT / "a.json").read_text())
    change(log)
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    return path


def test_a_real_log_has_its_samples_by_epoch() -> None:
    read = read_results(INSPECT / "a.json")
    assert read.tool == "inspect 0.3.285" and read.task == "arith_mock" and read.metrics == ("match", "includes")
    assert [(row.seed, row.reference) for row in read.rows[:2]] == [(0, "338"), (0, "195")]
    assert len(read.rows) == 8 and {row.seed for row in read.rows} == {0, 1}
    assert len({row.content for row in read.rows}) == 4
    assert read.means["match"] == sum(row.values["match"] or 0 for row in read.rows) / 8 == 0.875
    other = read_results(INSPECT / "b.json")
    assert {row.content for row in other.rows} == {row.content for row in read.rows}
    assert other.conditions == read.conditions and other.files != read.files


@pytest.mark.skipif(not ZSTANDARD, reason="zstandard is not installed")
def test_a_real_archive_is_a_log() -> None:
    read = read_results(INSPECT / "two.eval")
    assert read.task == "arith_mock" and len(read.rows) == 2 and read.rows[1].text == "so it is\n195"
    content = read_results(INSPECT / "a.json").rows
    assert {row.content for row in read.rows} == {row.content for row in content[:2]}


def test_without_zstandard_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]) -> None:
    monkeypatch.setattr(archive.importlib.util, "find_spec", lambda name: None)
    text = refusal(read_results, INSPECT / "two.eval")
    assert "pip install zstandard" in text and "inspect log convert --to json" in text


def test_an_archive_of_older_versions_is_a_log_too(tmp_path: Path) -> None:
    log = json.loads((INSPECT / "a.json").read_text())
    path = tmp_path / "old.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for sample in log.pop("samples"):
            target.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        target.writestr("header.json", json.dumps(log))
    read = read_results(path)
    assert read.rows[0].content == read_results(INSPECT / "a.json").rows[0].content and len(read.rows) == 8


@pytest.mark.parametrize("cut", [200, 4000, 8000])
def test_a_damaged_archive_is_one_line(tmp_path: Path, refusal: Callable[..., str], cut: int) -> None:
    path = tmp_path / "cut.eval"
    path.write_bytes((INSPECT / "two.eval").read_bytes()[:cut])
    assert "the archive is damaged" in refusal(read_results, path)


@pytest.mark.skipif(not ZSTANDARD, reason="zstandard is not installed")
def test_a_flipped_bit_in_an_archive_is_found(tmp_path: Path, refusal: Callable[..., str]) -> None:
    content = bytearray((INSPECT / "two.eval").read_bytes())
    with zipfile.ZipFile(INSPECT / "two.eval") as archive_:
        info = archive_.getinfo("samples/1_epoch_1.json")
    content[info.header_offset + 200] ^= 4
    path = tmp_path / "flipped.eval"
    path.write_bytes(content)
    assert "damaged" in refusal(read_results, path)


def test_an_archive_without_a_header_was_not_ended(tmp_path: Path, refusal: Callable[..., str]) -> None:
    path = tmp_path / "begun.eval"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("_journal/start.json", "{}")
    assert "the evaluation did not end" in refusal(read_results, path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda log: log.update(status="error"), "its status is error: the evaluation did not end"),
        (lambda log: log["samples"].pop(), "it states 8 samples and holds 7"),
        (lambda log: log["samples"][0].pop("epoch"), "sample 1: no epoch"),
        (lambda log: log["samples"][0].update(id=None), "sample 1: id = None"),
        (
            lambda log: log["samples"][0]["scores"]["match"].update(value="good"),
            "match = 'good'; a score is one of",
        ),
        (lambda log: log.pop("samples"), "samples = None"),
        (lambda log: log.update(version="2"), "version = '2'"),
    ],
)
def test_what_is_no_ended_log_is_one_line(
    tmp_path: Path, refusal: Callable[..., str], change: Callable[[dict[str, Any]], object], said: str
) -> None:
    assert said in refusal(read_results, changed(tmp_path, change))


def test_letters_parts_failures_and_what_was_not_scored(tmp_path: Path) -> None:
    def change(log: dict[str, Any]) -> None:
        values = ["P", {"first": 1, "second": False}, float("nan"), "N"]
        for sample, value in zip(log["samples"], values, strict=False):
            sample["scores"]["match"]["value"] = value
        log["samples"][4]["error"] = {"message": "timed out"}

    rows = read_results(changed(tmp_path, change)).rows
    assert [row.values.get("match") for row in rows[:4]] == [0.5, None, None, 0.0]
    assert (rows[1].values["match/first"], rows[1].values["match/second"]) == (1.0, 0.0)
    assert [row.error for row in rows] == [False] * 4 + [True] + [False] * 3


def test_messages_are_the_same_item_whatever_their_ids(tmp_path: Path) -> None:
    def messages(number: str) -> Callable[[dict[str, Any]], object]:
        one = [{"id": number, "role": "user", "content": "What?", "source": "input"}]
        return lambda log: log["samples"][0].update(input=one)

    first = read_results(changed(tmp_path, messages("a1"))).rows[0]
    assert first.content == read_results(changed(tmp_path, messages("b2"))).rows[0].content
