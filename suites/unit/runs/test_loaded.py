"""Stored runs read back as arms."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.answers import RULE
from harness.diagnostics.scan_store import ScanStore
from harness.exceptions import NotComparableError, StoreError
from harness.gates import GatePolicy, gate
from harness.record import CERTIFIED, INVALID_EVIDENCE, NOISE, QUANTIZER, SCHEMA_VERSION, Outcome
from harness.runs import sums
from harness.runs.loaded import complete_run, is_run, load_run
from harness.runs.manifest import checksum
from harness.runs.store import Store

pytestmark = pytest.mark.unit

ROWS = {0.0: [[1], ["truncated"]], 0.05: [[1, 0], ["unparsed", "error"]]}


def rewrite(path: Path, manifest: dict[str, Any]) -> None:
    """Puts another manifest in place and repairs every checksum: damage that none of them can see."""
    manifest["sha256"] = checksum(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))
    with closing(sqlite3.connect(path / "records.sqlite")) as connection:
        sums.prepare(connection)
        with connection:
            connection.execute("UPDATE writers SET manifest = ?", (manifest["sha256"],))


def test_a_run_comes_back_as_an_arm(tmp_path: Path, make_run: Any) -> None:
    path = make_run(tmp_path / "run", ROWS)
    assert is_run(path) and not is_run(tmp_path)
    run = complete_run(path)
    assert run.arm.outcomes == {
        0.0: {"i0": {0: Outcome(1.0, "right")}, "i1": {0: Outcome(None, "truncated")}},
        0.05: {
            "i0": {0: Outcome(1.0, "right"), 1: Outcome(0.0, "wrong")},
            "i1": {0: Outcome(None, "unparsed"), 1: Outcome(None, "error")},
        },
    }
    assert run.arm.label == str(path)
    assert run.arm.key == run.manifest.measurement_key
    assert run.arm.questions == {"i0": "question i0?", "i1": "question i1?"}
    assert run.arm.certificate.status == CERTIFIED
    assert (run.missing, run.complete, len(run.results), len(run.counts)) == (0, True, 6, 4)


def test_an_unfinished_run_loads_and_may_not_be_judged(tmp_path: Path, make_run: Any, make_result: Any) -> None:
    path = tmp_path / "run"
    with Store.create(path, make_run.manifest(["i0", "i1"], [0.0, 0.05, 0.1], 2)) as store:
        store.add_batch([make_result("i0")])
    run = load_run(path)
    assert (run.missing, run.complete) == (9, False)
    assert run.arm.certificate.status == INVALID_EVIDENCE
    with pytest.raises(NotComparableError, match=r"lacks 9 records.*resume it with harness eval") as caught:
        complete_run(path)
    assert caught.value.exit_code == 4


def test_the_folder_of_a_scan_is_named_with_the_way_out(tmp_path: Path) -> None:
    with ScanStore.open(tmp_path / "scanned", {"settings": {}}):
        pass
    for load in (load_run, complete_run):
        with pytest.raises(StoreError, match=r"scanned is the folder of a scan; .* no answers .*; give the --out of"):
            load(tmp_path / "scanned")


def test_a_run_that_lacks_its_control_only_is_unfinished(tmp_path: Path, make_run: Any) -> None:
    path = make_run(tmp_path / "run", ROWS, control=None)
    assert (load_run(path).missing, load_run(path).complete) == (0, False)
    with pytest.raises(NotComparableError, match="positive control"):
        complete_run(path)


def test_the_certificate_is_recomputed_from_what_is_stored(tmp_path: Path, make_run: Any) -> None:
    path = make_run(tmp_path / "run", ROWS, changed=0, error=0.0, relative=0.0)
    found = load_run(path).arm.certificate
    assert found.status == INVALID_EVIDENCE
    assert found.problems_at(0.0) == ()
    assert "changed none" in " ".join(found.problems_at(0.05))


@pytest.mark.parametrize("part", ["plan", "levels", "items", "noise_seeds", "positive_control", "site"])
def test_a_manifest_with_a_damaged_part_is_one_line(
    tmp_path: Path, make_run: Any, refusal: Callable[..., str], part: str
) -> None:
    path = make_run(tmp_path / "run", ROWS)
    manifest = json.loads((path / "manifest.json").read_text())
    if part == "plan":
        del manifest["plan"]
    elif part == "site":
        del manifest["plan"]["sites"][0]["columns"]
    elif part == "positive_control":
        del manifest["identity"]["positive_control"]
    else:
        manifest["identity"][part] = "x" if part == "levels" else None
    rewrite(path, manifest)
    text = refusal(load_run, path, kind=StoreError)
    assert f"run {path}, manifest.json" in text and "evaluate again into another folder" in text


SCHEMA_2 = Path(__file__).with_name("schema2")
"""A run that was written before checksums, coverage and replays: two items at 0 and 10 %, its tables as SQL."""


SCHEMA_3 = Path(__file__).with_name("schema3")
"""Two runs of the version before scores were a mapping: ``judged``, 40 items with the verdict of its day against
itself, and ``quantized``, 2 items on the lower half of the shipped checkpoint with the certificate of its day."""


def restored(stored: Path, path: Path) -> Path:
    """The run folder at ``path``, from the manifest and the SQL in ``stored``."""
    path.mkdir()
    (path / "manifest.json").write_bytes((stored / "manifest.json").read_bytes())
    with closing(sqlite3.connect(path / "records.sqlite")) as connection:
        connection.executescript((stored / "records.sql").read_text())
    return path


@pytest.fixture
def older(tmp_path: Path) -> Path:
    return restored(SCHEMA_2, tmp_path / "older")


def test_a_run_of_schema_2_is_read_and_is_no_evidence(older: Path) -> None:
    run = load_run(older)
    assert [(result.level, result.seed) for result in run.results] == [(0.0, 0), (0.0, 0), (0.1, 0), (0.1, 0)]
    first = run.results[0]
    assert (first.item, first.prompt_tokens, len(first.tokens)) == ("0b6ccd422bb3a463", 142, 64)
    assert (first.score, first.scores) == (None, {"strict": 1.0, "flexible": 1.0})
    assert first.text.endswith("22*3=66\n#### 66") and first.truncated
    assert len({count.site for count in run.counts}) == 29
    assert run.complete and run.arm.certificate.status == INVALID_EVIDENCE
    assert any("schema version 2" in words for words in run.arm.certificate.problems)
    assert any("not replayed" in words for words in run.arm.certificate.problems)


def test_a_record_of_schema_2_that_was_edited_is_found(older: Path) -> None:
    with closing(sqlite3.connect(older / "records.sqlite")) as connection, connection:
        connection.execute("UPDATE records SET tokens = '[1, 2]' WHERE level = 0.1")
    with pytest.raises(StoreError, match="the checksum of item"):
        load_run(older)


def test_the_verdict_on_a_run_of_schema_3_is_unchanged(tmp_path: Path) -> None:
    run = complete_run(restored(SCHEMA_3 / "judged", tmp_path / "run"))
    assert run.manifest.schema_version == 3 and run.arm.certificate.status == CERTIFIED
    assert run.results[0].scores == {"strict": run.results[0].score, "flexible": run.results[0].score}
    arm = replace(run.arm, label="run")
    found = json.loads(json.dumps(gate(arm, arm, GatePolicy(margin=0.25)).to_json()))
    assert found["baseline"]["key"].pop("scorer_rule") == RULE, "its answers were read anew by the rule of today"
    assert found.pop("alpha") == {"accuracy": 0.05, "difference": 0.05}
    assert found == json.loads((SCHEMA_3 / "judged" / "verdict.json").read_text())


def test_the_counts_of_schema_3_are_told_apart_when_they_are_read(tmp_path: Path) -> None:
    run = load_run(restored(SCHEMA_3 / "quantized", tmp_path / "run"))
    found = json.loads(json.dumps(run.arm.certificate.to_json()))
    assert found == json.loads((SCHEMA_3 / "quantized" / "certificate.json").read_text())
    kinds = {kind: {count.label for count in run.counts if count.kind == kind} for kind in (NOISE, QUANTIZER)}
    assert (len(kinds[NOISE]), len(kinds[QUANTIZER])) == (15, 28)
    assert all(label.endswith((":weight", ":input")) for label in kinds[QUANTIZER])


def test_a_run_of_schema_3_is_not_resumed(tmp_path: Path) -> None:
    path = restored(SCHEMA_3 / "judged", tmp_path / "run")
    manifest = replace(load_run(path).manifest, schema_version=SCHEMA_VERSION, sha256=None)
    with pytest.raises(StoreError, match="schema version 3 there, 4 now"), Store.create(path, manifest):
        pass


def test_a_record_of_schema_3_that_was_edited_is_found(tmp_path: Path) -> None:
    path = restored(SCHEMA_3 / "judged", tmp_path / "run")
    with closing(sqlite3.connect(path / "records.sqlite")) as connection, connection:
        connection.execute("UPDATE records SET flexible = 0.0 WHERE item = 'i3'")
    with pytest.raises(StoreError, match="the checksum of table records"):
        load_run(path)
