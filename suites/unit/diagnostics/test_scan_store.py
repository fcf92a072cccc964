"""The lines a scan keeps: appended whole, resumed, and refused where they are of something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from harness.diagnostics.scan_store import LINES, ScanStore
from harness.exceptions import StoreError
from harness.runs.folder import LOCK

pytestmark = pytest.mark.unit

IDENTITY = {"settings": {"formats": ["mxfp4"]}, "tensors": "abc"}


def test_values_come_back_and_a_torn_line_is_dropped(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with ScanStore.open(out, IDENTITY) as store:
        store.add({"a": 1.5}, "weights", "one")
        store.add([1, 2], "weights", "two")
    file = out / LINES
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:20])
    with ScanStore.open(out, IDENTITY) as store:
        assert store.get("weights", "one") == {"a": 1.5}
        assert store.get("weights", "two") == [1, 2]
        assert store.get("weights", "three") is None
        store.add("x", "fingerprint")
    with ScanStore.open(out, IDENTITY) as store:
        assert store.get("fingerprint") == "x"
    assert file.read_bytes().startswith(whole)


def test_an_edited_line_is_refused(tmp_path: Path, refusal) -> None:
    with ScanStore.open(tmp_path, IDENTITY) as store:
        store.add(1.25, "weights", "one")
    file = tmp_path / LINES
    file.write_text(file.read_text().replace("1.25", "1.75"))
    assert "checksum" in refusal(_open, tmp_path, IDENTITY, kind=StoreError)


def test_another_scan_is_refused_and_untouched(tmp_path: Path, refusal) -> None:
    with ScanStore.open(tmp_path, IDENTITY) as store:
        store.add(1, "one")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    said = refusal(_open, tmp_path, {**IDENTITY, "settings": {"formats": ["nvfp4"]}}, kind=StoreError)
    assert "formats" in said
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_strangers_and_other_writers_are_refused(tmp_path: Path, refusal) -> None:
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "thesis.txt").write_text("mine")
    assert "thesis.txt" in refusal(_open, tmp_path / "strange", IDENTITY, kind=StoreError)
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / LOCK):
        assert "another process" in refusal(_open, tmp_path / "out", IDENTITY, kind=StoreError)


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    with ScanStore.open(None, IDENTITY) as store:
        store.add(1, "one")
        assert store.get("one") == 1
    assert list(tmp_path.iterdir()) == []


def _open(path: Path, identity: dict) -> None:
    with ScanStore.open(path, identity):
        pass
