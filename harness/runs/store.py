"""The crash-safe store of a run: SQLite in WAL mode, one transaction per batch.

A run folder holds ``manifest.json`` (written once, before the first record) and ``records.sqlite``. A batch's
records, ledger counts and audit go in together or not at all, and the checksums of all tables with them
(:mod:`harness.runs.sums`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.exceptions import NotComparableError, StoreError
from harness.likelihoods import DECODING
from harness.record import IDENTITY_FIELDS, ControlResult, ItemResult, SiteCount
from harness.runs import sums
from harness.runs.choice import Trail, Walk
from harness.runs.folder import DATABASE, LOCK, check_empty, differences, establish, guarded, read_manifest
from harness.runs.manifest import AGAIN, EvaluationManifest, Manifest
from harness.runs.replayed import Replay, Stored, sealed
from harness.runs.rows import (
    COUNTS,
    RECORD,
    Audit,
    audit_of,
    audit_row,
    count_of,
    evidence_row,
    record_reader,
    record_row,
    row_digest,
)
from harness.runs.snapshot import snapshot

_LEDGER_ORDER = "level, site, direction, operand, phase, process"
_LEDGER_KEY = f"{_LEDGER_ORDER}, kind"
_ENERGIES = ("signal", "error", "relative")
_COUNT_COLUMNS = ", ".join(f"{name} {'REAL' if name in _ENERGIES else 'INTEGER NOT NULL'}" for name in COUNTS)
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS records (
    item TEXT NOT NULL, level REAL NOT NULL, seed INTEGER NOT NULL, score REAL, reason TEXT NOT NULL, answer TEXT,
    scores TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, tokens TEXT NOT NULL, text TEXT NOT NULL,
    truncated INTEGER NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (level, seed, item));
CREATE TABLE IF NOT EXISTS ledger (
    site TEXT NOT NULL, op TEXT NOT NULL, level REAL NOT NULL, layer INTEGER, direction TEXT NOT NULL,
    operand TEXT NOT NULL, phase TEXT NOT NULL, kind TEXT NOT NULL, process TEXT NOT NULL, {_COUNT_COLUMNS},
    PRIMARY KEY ({_LEDGER_KEY})) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audits (level REAL NOT NULL, products INTEGER NOT NULL, problems TEXT NOT NULL,
    phase TEXT NOT NULL, forwards INTEGER NOT NULL, choice TEXT);
CREATE TABLE IF NOT EXISTS forwards (level REAL PRIMARY KEY, passes INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS control (result TEXT NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS evidence (
    item TEXT NOT NULL, level REAL NOT NULL, seed INTEGER NOT NULL, batch INTEGER NOT NULL, row INTEGER NOT NULL,
    logits TEXT NOT NULL, PRIMARY KEY (level, seed, item)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replays (
    kind TEXT NOT NULL, item TEXT NOT NULL, level REAL NOT NULL, seed INTEGER NOT NULL, result TEXT NOT NULL,
    PRIMARY KEY (kind, level, seed, item)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS questions (item TEXT PRIMARY KEY, question TEXT NOT NULL, reference TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS writers (manifest TEXT NOT NULL, code TEXT NOT NULL, PRIMARY KEY (manifest, code))
    WITHOUT ROWID;
"""


class Store:
    """A run folder. :meth:`create` opens one for writing, :meth:`read` a finished or partial one for reading."""

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        connection: sqlite3.Connection,
        code: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self._connection = connection
        self._code = code
        self._walk, self._last = Walk(), 0

    @classmethod
    @contextlib.contextmanager
    def create(cls, path: Path, manifest: Manifest, mixed_code: bool = False) -> Iterator[Store]:
        """Open ``path`` for one writer, new or to be resumed.

        ``manifest.identity`` is compared with the one already there: another checkpoint or specification
        raises :class:`StoreError` naming the fields, and nothing is touched. Where other code (``manifest.code``)
        has written before, :class:`NotComparableError` is raised before anything is added, unless ``mixed_code``
        allows and records it: see :meth:`check_code`.
        """
        fresh = not path.exists()
        with _locked(path):
            try:
                with guarded(path):
                    stored = establish(path, manifest)
            except BaseException:
                if fresh:
                    _remove(path)
                raise
            with _connected(path / DATABASE) as connection:
                store = cls(path, stored, connection, None if mixed_code else manifest.code or {})
                with guarded(path), store._decoding():
                    if sums.table_columns(connection):
                        sums.check(connection, whole=False)
                    connection.executescript(f"BEGIN; {_SCHEMA} {sums.SCHEMA} COMMIT;")
                    sums.prepare(connection)
                store._sign(manifest.code or {}, mixed_code)
                yield store

    @classmethod
    @contextlib.contextmanager
    def read(cls, path: Path) -> Iterator[Store]:
        """Open the run at ``path`` for reading. Raises :class:`StoreError` for what is not a sound run folder."""
        manifest = read_manifest(path)
        if not (path / DATABASE).is_file():
            raise StoreError(f"run {path}", f"it has no {DATABASE}", "run the evaluation again: it resumes")
        with snapshot(path) as connection:
            store = cls(path, manifest, connection)
            if manifest.current:
                with guarded(path), store._decoding():
                    sums.check(connection)
                store._check_manifest()
            yield store

    def _sign(self, code: Mapping[str, Any], mixed_code: bool) -> None:
        """Says that these records belong to this manifest and are written by ``code``."""
        if self.codes():
            self._check_manifest()
            if not mixed_code:
                return
        with guarded(self.path), self._connection:
            row = self.manifest.digest, json.dumps(code, sort_keys=True)
            self._connection.execute("INSERT OR IGNORE INTO writers VALUES (?, ?)", row)

    def _check_manifest(self) -> None:
        if {row[0] for row in self._rows("SELECT manifest FROM writers")} != {self.manifest.digest}:
            raise StoreError(
                f"run {self.path}",
                "its records were written under another manifest: one of the two files is a copy from elsewhere",
                "copy the whole folder again, or evaluate again into another one",
            )

    def codes(self) -> tuple[dict[str, Any], ...]:
        """Return every version of the code that has written here; empty in runs of older versions."""
        if "writers" not in sums.table_columns(self._connection):
            return ()
        with self._decoding():
            return tuple(json.loads(row[0]) for row in self._rows("SELECT code FROM writers ORDER BY code"))

    def check_code(self) -> None:
        """Raise :class:`NotComparableError` where code that differs from this one has written here before."""
        if self._code is None:
            return
        for other in self.codes():
            differing = differences(other, self._code)
            if differing:
                raise NotComparableError(
                    f"run {self.path} was made by other code: {', '.join(differing)}",
                    "records of two versions are not one measurement",
                    "evaluate into another --out, or give --allow-mixed-code, which every report will say",
                )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing goes in."""
        self.check_code()
        with guarded(self.path), self._connection:
            yield self._connection

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with guarded(self.path):
            return self._connection.execute(query).fetchall()

    @contextlib.contextmanager
    def _decoding(self) -> Iterator[None]:
        """Rows that SQLite finds sound and this module did not write."""
        try:
            yield
        except (ValueError, TypeError) as error:
            raise StoreError(f"records of {self.path}", f"edited or damaged ({error})", AGAIN) from None

    def add_batch(
        self,
        results: Iterable[ItemResult],
        counts: Iterable[SiteCount] = (),
        audits: Iterable[Audit] = (),
        passes: Mapping[float, int] | None = None,
    ) -> None:
        """Store records, ledger counts (added to those there) and audits of one batch, in one transaction.

        ``passes`` says by level how often quantized weights were booked; by default a batch is decoded together, so
        that it takes as many forward passes as its longest record has steps.
        """
        results = list(results)
        if passes is None:
            steps: dict[float, int] = {}
            for result in results:
                steps[result.level] = max(steps.get(result.level, 0), result.steps)
            passes = steps
        with self._transaction() as transaction:
            transaction.executemany(
                f"INSERT INTO records VALUES ({', '.join('?' * (len(RECORD) + 1))})",
                [record_row(result) for result in results],
            )
            (batch,) = transaction.execute("SELECT COALESCE(MAX(batch) + 1, 0) FROM evidence").fetchone()
            transaction.executemany(
                "INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?)",
                [evidence_row(result, batch, row) for row, result in enumerate(results)],
            )
            adding = ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTS)
            transaction.executemany(
                f"INSERT INTO ledger VALUES ({', '.join('?' * (IDENTITY_FIELDS + len(COUNTS)))}) "
                f"ON CONFLICT ({_LEDGER_KEY}) DO UPDATE SET {adding}",
                [astuple(count) for count in counts],
            )
            transaction.executemany(
                "INSERT INTO forwards VALUES (?, ?) "
                "ON CONFLICT (level) DO UPDATE SET passes = passes + excluded.passes",
                list(passes.items()),
            )
            transaction.executemany(
                "INSERT INTO audits VALUES (?, ?, ?, ?, ?, ?)",
                [audit_row(audit) for audit in audits],
            )

    def add_questions(self, questions: Mapping[str, str], references: Mapping[str, str] | None = None) -> None:
        """Store the text of every item and its right answer, once: flips are shown and scores recomputed without the
        task's data."""
        there, right = self.questions(), references or {}
        rows = [(item, text, right.get(item)) for item, text in questions.items() if item not in there]
        if not rows:
            return
        with self._transaction() as transaction:
            transaction.executemany("INSERT INTO questions VALUES (?, ?, ?)", rows)

    def set_control(self, result: ControlResult) -> None:
        """Store the outcome of the positive control, once per run."""
        with self._transaction() as transaction:
            transaction.execute("DELETE FROM control")
            row = (json.dumps(astuple(result)),)
            transaction.execute("INSERT INTO control VALUES (?, ?)", (*row, row_digest(row)))

    def done(self) -> set[tuple[str, float, int]]:
        """Return (item, level, seed) of every record there."""
        return {(item, level, seed) for item, level, seed in self._rows("SELECT item, level, seed FROM records")}

    def results(self) -> Sequence[ItemResult]:
        """Return every record, ordered by level, seed and item.

        Row by row: a run may hold a million. Where the sum of the table was checked on opening, the rows need no
        second look.
        """
        own = isinstance(self.manifest, EvaluationManifest)  # answers made elsewhere keep the texts of their writer
        scored = own and self.manifest.measurement_key.get("decoding") == DECODING
        read = record_reader(self.manifest.schema_version, vouched=self.manifest.current, scored=scored)
        with guarded(self.path), self._decoding():
            rows = self._connection.execute("SELECT * FROM records ORDER BY level, seed, item")
            return [read(row) for row in rows]

    def counts(self) -> Sequence[SiteCount]:
        """Return the ledger, ordered by level and site, an entry for each process that wrote."""
        rows = self._rows(f"SELECT * FROM ledger ORDER BY {_LEDGER_ORDER}")
        with self._decoding():
            return [count_of(row, self.manifest.schema_version) for row in rows]

    def audits(self) -> Sequence[Audit]:
        """Return every audit, in order of level."""
        rows = self._rows("SELECT * FROM audits ORDER BY level")
        with self._decoding():
            return [audit_of(*row) for row in rows]

    def trail(self) -> Trail:
        """Return the trail of all records in the order they were stored; what it took of earlier ones is kept."""
        rows = self._rows(f"SELECT rowid, sha256 FROM records WHERE rowid > {self._last:d} ORDER BY rowid")
        for number, digest in rows:
            self._walk.add(digest)
            self._last = number
        return self._walk.trail

    def trails(self, numbers: Iterable[int]) -> dict[int, Trail]:
        """Return the trail of the first n records for each n of ``numbers``; of all there are where they are fewer."""
        walk, found = Walk(), {}
        rows = iter(self._rows("SELECT sha256 FROM records ORDER BY rowid") if numbers else ())
        for number in sorted(set(numbers)):
            for (digest,) in itertools.islice(rows, number - walk.records):
                walk.add(digest)
            found[number] = walk.trail
        return found

    def forwards(self) -> dict[float, int]:
        """Return forward passes of the stored batches, by level; those of runs that quantize nothing are not needed."""
        return dict(self._rows("SELECT level, passes FROM forwards"))

    def control(self) -> ControlResult | None:
        """Return the outcome of the positive control, or None where it has not run."""
        rows = self._rows("SELECT result, sha256 FROM control")
        if not rows:
            return None
        with self._decoding():
            if rows[0][1] != row_digest(rows[0][:1]):
                raise ValueError("the checksum of the positive control does not fit")
            scale, items, clean, noisy, changed, problems = json.loads(rows[0][0])
            return ControlResult(scale, items, clean, noisy, changed, tuple(problems))

    def stored(self) -> Stored:
        """Return what the choice of the replayed records follows from."""
        beside = (
            "SELECT r.sha256, e.batch, e.row, e.logits FROM records r LEFT JOIN evidence e USING (level, seed, item) "
            "ORDER BY level, seed, item"
        )
        with guarded(self.path):
            seal = sealed(self._connection.execute(beside))
            rows = self._connection.execute("SELECT item, level, seed, batch, row FROM evidence")
            return Stored(seal, {(item, level, seed): (batch, place) for item, level, seed, batch, place in rows})

    def logits(self, level: float) -> dict[tuple[str, float, int], tuple[float | None, ...]]:
        """Return the logits of the tokens of every record of ``level``, as its engine left them (None: not finite)."""
        rows = self._rows(f"SELECT item, level, seed, logits FROM evidence WHERE level = {float(level)!r}")
        with self._decoding():
            return {tuple(row[:3]): tuple(json.loads(row[3])) for row in rows}

    def add_replays(self, kind: str, replays: Mapping[tuple[str, float, int], Replay]) -> None:
        """Store second answers to stored records, by (item, level, seed); each once."""
        with self._transaction() as transaction:
            transaction.executemany(
                "INSERT INTO replays VALUES (?, ?, ?, ?, ?)",
                [(kind, *name, json.dumps(replay.to_json())) for name, replay in replays.items()],
            )

    def replays(self, kind: str) -> dict[tuple[str, float, int], Replay]:
        """Return the second answers of ``kind``, by (item, level, seed)."""
        if not self._has("replays"):
            return {}
        rows = self._rows(f"SELECT item, level, seed, result FROM replays WHERE kind = '{kind}'")
        with self._decoding():
            return {tuple(row[:3]): Replay.from_json(json.loads(row[3])) for row in rows}

    def _has(self, table: str) -> bool:
        return bool(self._rows(f"SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{table}'"))

    def questions(self) -> dict[str, str]:
        """Return item hash -> question text."""
        return dict(self._rows("SELECT item, question FROM questions"))

    def references(self) -> dict[str, str]:
        """Return item hash -> right answer, of the items whose answer was stored."""
        if "reference" not in sums.table_columns(self._connection).get("questions", ()):
            return {}
        return dict(self._rows("SELECT item, reference FROM questions WHERE reference IS NOT NULL"))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Makes the folder ``path`` and holds it against other writers."""
    try:
        check_empty(path)
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(f"run {path}", "another process is writing to it", "wait, or use another --out") from None
    except OSError as error:
        raise StoreError(
            f"output folder {path}", f"it cannot be written ({error.strerror or error})", "choose another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _remove(path: Path) -> None:
    """Takes back a folder that was made for a run and could not get its manifest."""
    with contextlib.suppress(OSError):
        (path / LOCK).unlink()
        path.rmdir()


@contextlib.contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a connection to the sound database ``path``; errors of opening, checking and closing it are one line."""
    with guarded(path.parent):
        connection = sqlite3.connect(path)
    try:
        with guarded(path.parent):
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            if connection.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("the file is damaged (quick_check)")
        yield connection
    finally:
        with guarded(path.parent):
            connection.close()
