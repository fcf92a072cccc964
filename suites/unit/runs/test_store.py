"""The store of a run: transactions, resuming, one writer, damaged files and a full disk."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import StoreError
from harness.record import ControlResult, SiteCount
from harness.runs.manifest import EvaluationManifest
from harness.runs.store import Audit, Store

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]


def create(path: Path, manifest: EvaluationManifest) -> None:
    with Store.create(path, manifest):
        pass


def read(path: Path) -> Any:
    with Store.read(path) as store:
        return store.results(), store.counts(), store.audits(), store.control(), store.questions()


COUNT = SiteCount(
    *("layers.3.a", "linear", 0.05, 3, "backward", "weight", "training", "quantizer", "here:1", 1, 2, 3, 4, 5, 6),
    *(7.25, 8.5, 9.75),
)
"""No two of its fields are equal, so that none can stand in the place of another."""


@pytest.fixture
def manifest(make_run: Any) -> EvaluationManifest:
    return make_run.manifest(["i0", "i1"], [0.0, 0.05], 2)


@pytest.fixture
def run(tmp_path: Path, make_run: Any) -> Path:
    return make_run(tmp_path / "run", {0.0: [[1], [0]], 0.05: [[1, 0], [0, 0]]})


def test_everything_that_goes_in_comes_out(tmp_path: Path, manifest: EvaluationManifest, make_result: Any) -> None:
    results = [
        make_result(
            *("i0", 0.0),
            **{"text": "\u00e9\n\t\x00'\"", "tokens": (), "answer": None, "truncated": True},
            scores={"words \u00e9": None, "flexible": 1 / 3},
        ),
        make_result("i1", 0.05, 2**63 - 1, "error", prompt_tokens=0),
        make_result("i0", 1 / 3, 1, 0.0),
    ]
    counts = [COUNT, SiteCount("b", "qk", 0.0)]
    control = ControlResult(1.0, 16, 15, 3, 16, ("problem",))
    with Store.create(tmp_path / "run", manifest) as store:
        store.add_questions({"i0": "q\u00e9?"})
        store.add_batch(results, counts, (Audit(0.05, 12, ("a", "b")),))
        store.add_batch([], (), (Audit(0.0, 3, ()),))
        store.set_control(replace(control, clean_right=0))
        store.set_control(control)
        assert store.done() == {("i0", 0.0, 0), ("i1", 0.05, 2**63 - 1), ("i0", 1 / 3, 1)}
    found = read(tmp_path / "run")
    assert sorted(found[0], key=repr) == sorted(results, key=repr)
    assert sorted(found[1], key=repr) == sorted(counts, key=repr)
    assert found[2:] == ([Audit(0.0, 3, ()), Audit(0.05, 12, ("a", "b"))], control, {"i0": "q\u00e9?"})


def test_ledgers_of_batches_are_added_and_overflow_is_kept(tmp_path: Path, manifest: EvaluationManifest) -> None:
    with Store.create(tmp_path / "run", manifest) as store:
        store.add_batch([], [COUNT])
        store.add_batch([], [COUNT])
        assert store.counts() == [COUNT + COUNT]
        store.add_batch([], [replace(COUNT, signal=math.inf, error=math.nan)])
        store.add_batch([], [COUNT])
        (found,) = store.counts()
    assert found.signal == math.inf
    assert math.isnan(found.error)
    assert (found.calls, found.relative) == (4, 39.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("site", "layers.3.b"),
        ("level", 0.1),
        ("direction", "forward"),
        ("operand", "input"),
        ("phase", "rollout"),
        ("kind", "noise"),
        ("process", "here:2"),
    ],
)
def test_counts_of_something_else_are_kept_apart(
    tmp_path: Path, manifest: EvaluationManifest, field: str, value: Any
) -> None:
    """Another process above all: a run that was killed and resumed has a ledger of each."""
    other = replace(COUNT, **{field: value}, calls=10)
    with Store.create(tmp_path / "run", manifest) as store:
        store.add_batch([], [COUNT, other])
        store.add_batch([], [COUNT])
        found = store.counts()
    assert sorted(found, key=repr) == sorted([COUNT + COUNT, other], key=repr)


def test_a_failing_record_takes_its_whole_batch_with_it(
    tmp_path: Path, manifest: EvaluationManifest, make_result: Any
) -> None:
    with Store.create(tmp_path / "run", manifest) as store:
        store.add_batch([make_result("i0")], [SiteCount("a", "linear", 0.0, calls=1)], (Audit(0.0, 1, ()),))
        before = store.results(), store.counts(), store.audits()
        with pytest.raises(StoreError, match="UNIQUE"):
            store.add_batch(
                [make_result("i1"), make_result("i0")], [SiteCount("a", "linear", 0.0, calls=1)], (Audit(0.0, 1, ()),)
            )
        assert (store.results(), store.counts(), store.audits()) == before
        store.add_batch([make_result("i1")])
        assert len(store.done()) == 2


@pytest.mark.parametrize("part", ["ledger", "audit"])
def test_a_failing_ledger_or_audit_takes_the_records_with_it(
    tmp_path: Path, manifest: EvaluationManifest, make_result: Any, part: str
) -> None:
    counts = [SiteCount("a", "linear", 0.0), SiteCount(None if part == "ledger" else "b", "linear", 0.0)]  # type: ignore[arg-type]
    audit = Audit(None if part == "audit" else 0.0, 1, ())  # type: ignore[arg-type]
    with Store.create(tmp_path / "run", manifest) as store, pytest.raises(StoreError, match="NOT NULL"):
        store.add_batch([make_result()], counts, (audit,))
    assert read(tmp_path / "run")[:3] == ([], [], [])


def test_interrupted_work_keeps_finished_batches_and_frees_the_lock(
    tmp_path: Path, manifest: EvaluationManifest, make_result: Any
) -> None:
    path = tmp_path / "run"

    def interrupted() -> None:
        with Store.create(path, manifest) as store:
            store.add_batch([make_result("i0")])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with Store.create(path, manifest) as store:
        assert store.done() == {("i0", 0.0, 0)}


def test_errors_of_the_caller_are_not_taken_for_errors_of_the_store(
    tmp_path: Path, manifest: EvaluationManifest
) -> None:
    with pytest.raises(FileNotFoundError, match="mine"), Store.create(tmp_path / "run", manifest):
        raise FileNotFoundError("mine")


def test_a_second_writer_is_refused_and_the_first_goes_on(
    tmp_path: Path, manifest: EvaluationManifest, make_result: Any, refusal: Refusal
) -> None:
    path = tmp_path / "run"
    with Store.create(path, manifest) as store:
        assert "another process is writing" in refusal(create, path, manifest, kind=StoreError)
        store.add_batch([make_result()])
        assert len(read(path)[0]) == 1, "reading goes on beside a writer"
    create(path, manifest)


def damage(path: Path, how: str) -> None:
    database = path / "records.sqlite"
    content = database.read_bytes()
    assert len(content) > 3 * 4096
    if how == "garbage":
        database.write_bytes(b"no database" * 100)
    elif how == "half":
        database.write_bytes(content[: len(content) // 2])
    elif how == "a few bytes":
        database.write_bytes(content[:50])
    elif how == "overwritten page":
        database.write_bytes(content[:4096] + b"\xff" * 4096 + content[8192:])
    elif how == "bookkeeping":  # the fragmented bytes of the third page, which no query looks at
        database.write_bytes(content[:8199] + b"\x24" + content[8200:])


@pytest.mark.parametrize("how", ["garbage", "half", "a few bytes", "overwritten page", "bookkeeping"])
def test_a_damaged_database_is_refused_for_reading_and_writing(run: Path, how: str, refusal: Refusal) -> None:
    with Store.read(run) as store:
        manifest = store.manifest
    damage(run, how)
    content = (run / "records.sqlite").read_bytes()
    for refused in (refusal(read, run, kind=StoreError), refusal(create, run, manifest, kind=StoreError)):
        assert str(run) in refused and "SQLite says" in refused and "into another folder" in refused
    assert (run / "records.sqlite").read_bytes() == content


def test_an_empty_database_is_no_run_but_can_be_filled(
    run: Path, manifest: EvaluationManifest, refusal: Refusal
) -> None:
    (run / "records.sqlite").write_bytes(b"")
    assert "no such table" in refusal(read, run, kind=StoreError)
    create(run, manifest)
    assert read(run)[0] == []


def test_a_missing_database_is_named(run: Path, refusal: Refusal) -> None:
    (run / "records.sqlite").unlink()
    assert "no records.sqlite" in refusal(read, run, kind=StoreError)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE records SET tokens = 'x'",
        "UPDATE records SET scores = '5'",
        "UPDATE audits SET problems = '5'",
        "UPDATE control SET result = '[1]'",
        "UPDATE control SET result = '{'",
    ],
)
def test_edited_rows_are_one_clear_line(run: Path, statement: str, refusal: Refusal) -> None:
    with closing(sqlite3.connect(run / "records.sqlite")) as connection, connection:
        connection.execute(statement)
    assert "edited or damaged" in refusal(read, run, kind=StoreError)


FULL = """
import resource, signal, sys
from pathlib import Path
from harness.exceptions import StoreError
from harness.record import ItemResult
from harness.runs.store import Store
from harness.runs.manifest import parse_manifest
import json
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, manifest, limit = Path(sys.argv[1]), parse_manifest(json.loads(sys.argv[2])), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with Store.create(path, manifest) as store:
        for index in range(1000):
            scores = {"strict": 1.0, "flexible": 1.0}
            row = ItemResult(f"i{index}", 0.0, 0, 1.0, "right", "5", scores, 3, (1,) * 500, "x" * 1000, False)
            store.add_batch([row])
except StoreError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_full_disk_is_one_line_and_the_run_resumes(
    tmp_path: Path, manifest: EvaluationManifest, make_result: Any
) -> None:
    path = tmp_path / "run"
    command = [sys.executable, "-c", FULL, str(path), json.dumps(manifest.to_json()), "300000"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert (found.returncode, found.stderr) == (2, "")
    assert found.stdout.count("\n") == 1
    assert "SQLite says" in found.stdout and "it resumes" in found.stdout
    kept = read(path)[0]
    assert 0 < len(kept) < 1000
    assert {result.item for result in kept} == {f"i{index}" for index in range(len(kept))}
    with Store.create(path, manifest) as store:
        store.add_batch([make_result("another")])
        assert len(store.done()) == len(kept) + 1


def test_no_room_for_the_manifest_leaves_nothing_behind(tmp_path: Path, manifest: EvaluationManifest) -> None:
    path = tmp_path / "run"
    command = [sys.executable, "-c", FULL, str(path), json.dumps(manifest.to_json()), "100"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert (found.returncode, found.stdout.count("\n")) == (2, 1), found
    assert "free space" in found.stdout
    assert not path.exists()


def test_sqlites_word_for_a_full_disk_gets_the_same_way_out(
    tmp_path: Path, manifest: EvaluationManifest, make_result: Any, refusal: Refusal
) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *exc: object) -> None: ...

        def executemany(self, *arguments: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    store = Store(tmp_path, manifest, Full())  # type: ignore[arg-type]
    text = refusal(store.add_batch, [make_result()], kind=StoreError)
    assert "database or disk is full; free space" in text and "it resumes" in text
