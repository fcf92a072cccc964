"""The run folder: whose it is, its manifest, and what cannot be written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import StoreError
from harness.runs.folder import establish, read_manifest, write_atomically, write_json
from harness.runs.manifest import EvaluationManifest, ScanManifest
from harness.runs.store import Store

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]
CHANGES = {
    "weights": ("w2", "weights (w1 there, w2 now)"),
    "levels": ((0.0, 0.1), "levels ([0.0, 0.05] there, [0.0, 0.1] now)"),
    "noise_seeds": (3, "noise_seeds (2 there, 3 now)"),
    "items": (("i0",), "items (2 there, 1 now)"),
    "positive_control": (False, "positive_control (True there, False now)"),
}


def create(path: Path, manifest: EvaluationManifest) -> None:
    with Store.create(path, manifest):
        pass


@pytest.fixture
def manifest(make_run: Any) -> EvaluationManifest:
    return make_run.manifest(["i0", "i1"], [0.0, 0.05], 2)


@pytest.mark.parametrize("field", CHANGES)
def test_another_evaluation_is_refused_by_the_name_of_what_differs(
    tmp_path: Path, manifest: EvaluationManifest, make_run: Any, refusal: Refusal, field: str
) -> None:
    path = tmp_path / "run"
    create(path, manifest)
    before = {entry: entry.read_bytes() for entry in path.iterdir()}
    value, words = CHANGES[field]
    other = make_run.manifest(["i0", "i1"], [0.0, 0.05], 2, **{field: value})
    text = refusal(create, path, other, kind=StoreError)
    assert f"it belongs to another evaluation: {words}; use another --out" in text
    assert {entry: entry.read_bytes() for entry in path.iterdir()} == before


def test_a_differing_field_of_the_measurement_key_is_named_itself(
    tmp_path: Path, manifest: EvaluationManifest, make_run: Any, refusal: Refusal
) -> None:
    create(tmp_path, manifest)
    key = dict(manifest.identity.measurement_key) | {"template": "t2", "dtype": "bfloat16"}
    other = make_run.manifest(["i0", "i9"], [0.0, 0.05], 2, measurement_key=key)
    text = refusal(create, tmp_path, other, kind=StoreError)
    assert "dtype (None there, bfloat16 now), template (t1 there, t2 now)" in text
    assert "items (2 there, 2 others now)" in text


def test_the_same_evaluation_keeps_its_first_manifest(tmp_path: Path, manifest: EvaluationManifest) -> None:
    create(tmp_path / "run", manifest)
    with Store.create(tmp_path / "run", replace(manifest, environment={"python": "later"})) as store:
        assert store.manifest == manifest


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "unreadable"),
        ("{", "unreadable"),
        ("[]", "unreadable"),
        ("5", "unreadable"),
        ('{"kind": "evaluation"}', "no schema_version"),
        ('{"schema_version": 99}', "schema version 99, this harness reads 2, 3 and 4"),
        ('{"schema_version": 1}', "schema version 1, this harness reads 2, 3 and 4"),
        ('{"schema_version": 2}', "no kind; it is needed"),
        ("\x80", "unreadable"),
    ],
)
def test_an_unreadable_manifest_is_refused_everywhere(
    tmp_path: Path, manifest: EvaluationManifest, refusal: Refusal, content: str, words: str
) -> None:
    path = tmp_path / "run"
    create(path, manifest)
    (path / "manifest.json").write_bytes(content.encode("latin-1"))
    for refused in (refusal(read_manifest, path, kind=StoreError), refusal(create, path, manifest, kind=StoreError)):
        assert str(path) in refused and words in refused and "into another folder" in refused


@pytest.mark.parametrize("field", ["kind", "identity", "measurement_key", "environment"])
def test_a_manifest_without_one_of_its_parts_is_damaged(
    tmp_path: Path, manifest: EvaluationManifest, refusal: Refusal, field: str
) -> None:
    sound, wrong = manifest.to_json(), "kind = 5" if field == "kind" else f"[{field}]: 5; it must be a table"
    without = {name: value for name, value in sound.items() if name != field}
    for broken, words in ((without, f"manifest.json: no {field}; it is needed"), (sound | {field: 5}, wrong)):
        (tmp_path / "manifest.json").write_text(json.dumps(broken))
        assert words in refusal(read_manifest, tmp_path, kind=StoreError)


def test_a_folder_without_manifest_is_no_run(tmp_path: Path, refusal: Refusal) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        assert "there is no manifest.json" in refusal(read_manifest, path, kind=StoreError)


def test_a_folder_of_someone_elses_is_left_as_it_is(
    tmp_path: Path, manifest: EvaluationManifest, refusal: Refusal
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "holds files (notes.txt)" in refusal(create, tmp_path, manifest, kind=StoreError)
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_an_empty_folder_and_one_left_by_a_killed_start_are_taken(tmp_path: Path, manifest: EvaluationManifest) -> None:
    create(tmp_path, manifest)
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / ".lock").touch()
    (killed / ".manifest.json.x7f3").write_text('{"half')
    create(killed, manifest)
    assert read_manifest(killed) == manifest


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/run", "/dev/null"])
def test_where_nothing_can_be_written_is_one_line(
    tmp_path: Path, manifest: EvaluationManifest, refusal: Refusal, place: str
) -> None:
    (tmp_path / "file").write_text("mine")
    path = tmp_path / place
    assert f"output folder {path}; it cannot be written" in refusal(create, path, manifest, kind=StoreError)
    assert (tmp_path / "file").read_text() == "mine"
    assert os.listdir(tmp_path) == ["file"]


def test_an_atomic_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.md"
    write_atomically(path, "old")
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert os.listdir(tmp_path) == ["report.md"]
    assert path.read_text() == "old"


def test_json_is_written_as_it_is_read(tmp_path: Path) -> None:
    content = {"b": [1, None], "a": "\u00e9"}
    write_json(tmp_path / "one.json", content)
    write_json(tmp_path / "two.json", content, sort_keys=True)
    one, two = ((tmp_path / name).read_text() for name in ("one.json", "two.json"))
    assert json.loads(one) == json.loads(two) == content and one.endswith("}\n")
    assert one.index('"b"') < one.index('"a"') and two.index('"a"') < two.index('"b"')


def test_a_folder_of_another_kind_is_told_by_its_kind_alone(
    tmp_path: Path, manifest: EvaluationManifest, refusal: Refusal
) -> None:
    establish(tmp_path, manifest)
    scan = ScanManifest(identity={"config": "x"}, measurement_key={}, environment={})
    said = refusal(establish, tmp_path, scan, kind=StoreError)
    assert said.endswith("it belongs to another evaluation: kind (evaluation there, scan now); use another --out")
