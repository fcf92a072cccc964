"""Every table and every column of a run is under a checksum, whoever changes it and however."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import NotComparableError, StoreError
from harness.record import INVALID_EVIDENCE
from harness.runs import sums
from harness.runs.folder import DATABASE
from harness.runs.loaded import load_run
from harness.runs.manifest import Manifest
from harness.runs.snapshot import snapshot
from harness.runs.store import _SCHEMA, Audit, Store

pytestmark = pytest.mark.unit

ROWS = {0.0: [[1], [0]], 0.05: [[1, 0], [0, 0]]}
Refusal = Callable[..., str]


def tables() -> dict[str, tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return sums.table_columns(connection)


TABLES = tables()


@pytest.fixture
def run(tmp_path: Path, make_run: Any) -> Path:
    path: Path = make_run(tmp_path / "run", ROWS)
    return path


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path / DATABASE)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize(("table", "column"), [(table, column) for table in TABLES for column in TABLES[table]])
def test_an_edit_of_any_column_is_found(run: Path, refusal: Refusal, table: str, column: str) -> None:
    with closing(sqlite3.connect(run / DATABASE)) as connection:
        (kind,) = (row[2] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] == column)
        assert connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0], "there is something to edit"
        first = connection.execute(f"SELECT {column} FROM {table} LIMIT 1").fetchone()[0]
    value = f"'{first} '" if kind == "TEXT" else f"{(first or 0) + 0.5 if kind == 'REAL' else (first or 0) + 1}"
    where = "IS NULL" if first is None else f"= {first!r}"
    edit(run, f"UPDATE OR IGNORE {table} SET {column} = {value} WHERE {column} {where}")
    text = refusal(load_run, run, kind=StoreError)
    assert "checksum" in text or "another manifest" in text


@pytest.mark.parametrize("table", TABLES)
def test_removed_and_repeated_rows_are_found(run: Path, refusal: Refusal, table: str) -> None:
    edit(run, f"DELETE FROM {table}")
    assert f"the checksum of table {table} does not fit: 0 rows" in refusal(load_run, run, kind=StoreError)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE audits SET problems = '[\"x\"]'", "table audits"),
        ("INSERT INTO audits SELECT * FROM audits", "table audits"),
        ("DROP TABLE audits", "table audits is gone"),
        ("CREATE TABLE more (a)", "table more has no checksum"),
        ("ALTER TABLE forwards ADD COLUMN more INTEGER", "table forwards"),
        ("ALTER TABLE audits RENAME COLUMN products TO changed", "table audits"),
        ("DELETE FROM sums WHERE name = 'audits'", "table audits has no checksum"),
        ("DROP TABLE sums", "has no checksum"),
        ("UPDATE sums SET rows = rows + 1", "does not fit"),
    ],
)
def test_edits_of_whole_tables_are_found(run: Path, refusal: Refusal, statement: str, words: str) -> None:
    edit(run, statement)
    assert words in refusal(load_run, run, kind=StoreError)
    if not statement.startswith("CREATE"):
        assert words in refusal(resumed, run, kind=StoreError), "and nothing is added to what was edited"


def resumed(path: Path) -> None:
    with Store.create(path, _manifest(path)):
        pass


def _manifest(path: Path) -> Manifest:
    from harness.runs.folder import read_manifest

    return read_manifest(path)


def test_problems_that_were_wiped_out_do_not_make_a_run_certified(tmp_path: Path, make_run: Any) -> None:
    path = make_run(tmp_path / "bad", ROWS)
    with Store.create(path, _manifest(path)) as store:
        store.add_batch([], (), (Audit(0.05, 7, ("mm ran without noise",)),))
    assert load_run(path).arm.certificate.status == INVALID_EVIDENCE
    edit(path, "UPDATE audits SET problems='[]'")
    with pytest.raises(StoreError, match="table audits") as caught:
        load_run(path)
    assert caught.value.exit_code == 2


def test_a_table_that_is_added_later_is_summed_without_being_named() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(f"{sums.SCHEMA} CREATE TABLE later (a REAL, b BLOB)")
        sums.prepare(connection)
        with connection:
            connection.execute("INSERT INTO later VALUES (1, x'00ff')")
            connection.execute("INSERT INTO later VALUES (?, ?)", (float("inf"), None))
        sums.check(connection)
        ((_, rows, total),) = connection.execute("SELECT * FROM sums").fetchall()
        assert rows == 2 and total != sums.EMPTY
        with connection:
            connection.execute("DELETE FROM later")
        assert connection.execute("SELECT rows, sum FROM sums").fetchall() == [(0, sums.EMPTY)]


def test_what_is_rolled_back_is_not_summed(run: Path, make_run: Any, make_result: Any) -> None:
    with Store.create(run, _manifest(run)) as store, pytest.raises(StoreError, match="UNIQUE"):
        store.add_batch([make_result("i0", 0.1), make_result("i0", 0.1)])
    load_run(run)


def test_records_of_another_run_are_not_this_ones(run: Path, tmp_path: Path, make_run: Any, refusal: Refusal) -> None:
    other = make_run(tmp_path / "other", {0.0: [[1], [1]], 0.05: [[1], [0]]})
    (run / DATABASE).write_bytes((other / DATABASE).read_bytes())
    assert "written under another manifest" in refusal(load_run, run, kind=StoreError)


def state(path: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.iterdir()}


def test_reading_touches_nothing_and_opens_immutable(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda name, **more: opened.append(str(name)) or real(name, **more))
    before = state(run)
    load_run(run)
    assert state(run) == before
    assert [name.endswith("?mode=ro&immutable=1") for name in opened] == [True]


def test_a_path_with_odd_letters_is_opened(tmp_path: Path, make_run: Any) -> None:
    path = make_run(tmp_path / "a?b#c%20 d", ROWS)
    assert len(load_run(path).results) == 6


KILLED = """
import json, os, signal, sys
from pathlib import Path
from harness.record import ItemResult
from harness.runs.folder import read_manifest
from harness.runs.store import Audit, Store
path = Path(sys.argv[1])
with Store.create(path, read_manifest(path)) as store:
    store.add_batch([], (), (Audit(0.05, 7, ("seen before the kill",)),))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_had_committed_is_read(run: Path) -> None:
    """Its rows lie in the journal only: opened as immutable they would be missing without a word."""
    found = subprocess.run([sys.executable, "-c", KILLED, str(run)], capture_output=True, text=True, check=False)
    assert found.returncode == -9, found.stderr
    assert (run / f"{DATABASE}-wal").stat().st_size
    before = state(run)
    certificate = load_run(run).arm.certificate
    assert "seen before the kill" in " ".join(certificate.problems_at(0.05))
    assert state(run) == before, "neither the journal nor its index was touched"
    with Store.create(run, _manifest(run)) as store:
        assert ("seen before the kill",) in [audit.problems for audit in store.audits()]
    assert not (run / f"{DATABASE}-wal").exists()
    assert "seen before the kill" in " ".join(load_run(run).arm.certificate.problems_at(0.05))


def test_a_database_without_its_journal_is_an_earlier_state_and_no_other(run: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(run)], capture_output=True, check=False)
    (run / f"{DATABASE}-wal").unlink()
    assert load_run(run).arm.certificate.problems_at(0.05) == ()


def test_a_reader_beside_a_writer_sees_whole_batches(run: Path) -> None:
    with Store.create(run, _manifest(run)) as store:
        store.add_batch([], (), ())
        with snapshot(run) as connection:
            sums.check(connection)
            assert connection.execute("SELECT COUNT(*) FROM records").fetchone() == (6,)


def test_other_code_is_refused_before_anything_is_written(run: Path, make_result: Any, refusal: Refusal) -> None:
    other = replace(_manifest(run), code={"harness": "9.9", "sources": "0" * 16})
    with Store.create(run, other) as store:
        assert len(store.done()) == 6, "a finished run is read as it is"
        text = refusal(store.add_batch, [make_result("i2", 0.1)], kind=NotComparableError, code=4)
    assert "was made by other code: harness (" in text and "9.9 now" in text and "--allow-mixed-code" in text
    assert load_run(run).arm.certificate.notes == ()


def test_mixed_code_is_recorded_and_said(run: Path) -> None:
    other = replace(_manifest(run), code={"harness": "9.9", "sources": "0" * 16})
    with Store.create(run, other, mixed_code=True) as store:
        store.add_batch([], (), ())
    found = load_run(run).arm
    assert len(found.origin.code) == 2
    (note,) = found.certificate.notes
    assert note.startswith("mixed code: 2 versions of the code made these records, which differ in harness (")
    with pytest.raises(NotComparableError, match="other code"), Store.create(run, _manifest(run)) as store:
        store.add_batch([], (), ())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": 1.0, "reason": "right"}, "stored as right"),
        ({"answer": "7"}, "answer '7'"),
        ({"scores": {"strict": 1.0, "flexible": 0.0}}, "strict 1.0"),
        ({"scores": {"strict": 0.0}}, "gives wrong"),
        ({"text": "#### 5"}, "its text gives right"),
        ({"truncated": True}, "its text gives truncated"),
    ],
)
def test_a_score_that_its_text_does_not_give_is_refused(
    tmp_path: Path, make_run: Any, refusal: Refusal, changes: dict[str, Any], words: str
) -> None:
    """Written as it is, so that every checksum fits: by another scorer, or by hand with repaired sums."""
    path = tmp_path / "run"
    with Store.create(path, make_run.manifest(["i0"], [0.0], 1)) as store:
        store.add_questions({"i0": "?"}, {"i0": "5"})
        store.add_batch([replace(make_run.make_result("i0", 0.0, 0, 0), **changes)])
    text = refusal(load_run, path, kind=StoreError)
    assert words in text and "item i0 at level 0, seed 0" in text


def test_a_run_without_right_answers_is_no_evidence(tmp_path: Path, make_run: Any) -> None:
    path = tmp_path / "run"
    with Store.create(path, make_run.manifest(["i0"], [0.0], 1)) as store:
        store.add_questions({"i0": "?"})
        store.add_batch([make_run.make_result("i0")])
    found = load_run(path).arm.certificate
    assert "the scores of 1 items cannot be recomputed" in " ".join(found.problems_at(0.0))
