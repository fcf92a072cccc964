"""The baseline file: everything comes back, one changed outcome is one changed line, damage is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.baselines.file import Baseline, dump, load
from harness.exceptions import HarnessError
from harness.record import CERTIFIED, ERROR, EXTERNAL, RIGHT, TRUNCATED, UNPARSED, WRONG, Arm, Certificate, Outcome
from harness.runs.loaded import load_run
from harness.runs.manifest import checksum
from harness.spec import EvalSpec

pytestmark = pytest.mark.unit

ROWS = {
    0.0: [[1], ["truncated"], [0]],
    0.05: [[1, 0], ["unparsed", "error"], [0, 1]],
    1 / 3: [[1, 1], [0, 0], [1, "truncated"]],
}


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory, make_run: Any) -> Baseline:
    run = load_run(make_run(tmp_path_factory.mktemp("baseline") / "run", ROWS))
    arm = replace(run.arm, label="baseline a/b", questions={})
    return Baseline("a/b", "it is \u201cgood\u201d", "2026-11-22", {"checkpoint": None}, run.manifest.spec, arm)


@pytest.fixture
def file(baseline: Baseline, tmp_path: Path) -> Path:
    path = tmp_path / "b.json"
    path.write_text(dump(baseline))
    return path


def test_what_was_written_is_read(baseline: Baseline, file: Path) -> None:
    found = load(file)
    assert found == baseline
    assert dump(found) == dump(baseline)


def test_the_shipped_baseline_is_still_what_this_version_writes() -> None:
    """The schema of run folders may change; the file's own may not without a new version of it."""
    file = Path(__file__).parents[3] / "baselines" / "arith" / "arith-qwen2.json"
    found = load(file)
    assert dump(found) == file.read_text()
    assert found.arm.certificate.status == CERTIFIED
    assert found.spec is not None
    spec = EvalSpec.from_json(dict(found.spec))
    assert str(spec.noise) == found.arm.key["noise"]
    assert {level: len(items) for level, items in found.arm.outcomes.items()} == dict.fromkeys(spec.levels, 200)


outcomes = st.sampled_from(
    [Outcome(1.0, RIGHT), Outcome(0.0, WRONG), *(Outcome(None, reason) for reason in (UNPARSED, TRUNCATED, ERROR))]
)
levels = st.floats(0, 1, exclude_max=True, allow_subnormal=False).map(abs)
rows = st.dictionaries(st.integers(0, 2**63 - 1), outcomes, min_size=1, max_size=3)
tables = st.dictionaries(
    levels, st.dictionaries(st.text("abcdef", min_size=1), rows, min_size=1, max_size=4), max_size=3
)


@settings(deadline=None, max_examples=50)
@given(tables)
def test_any_outcomes_come_back_with_gaps_and_odd_levels(tmp_path_factory: Any, table: Any) -> None:
    arm = Arm("baseline x", {"task": "t"}, table, Certificate(EXTERNAL))
    path = tmp_path_factory.getbasetemp() / "any_baseline.json"
    path.write_text(dump(Baseline("x", "r", "2026-01-01", {}, None, arm)))
    assert load(path).arm == arm


def test_one_changed_outcome_is_one_changed_line_its_sum_and_the_checksum(baseline: Baseline) -> None:
    cells = {level: {item: dict(row) for item, row in table.items()} for level, table in baseline.arm.outcomes.items()}
    cells[0.05]["i1"][1] = Outcome(1.0, RIGHT)
    changed = replace(baseline, arm=replace(baseline.arm, outcomes=cells))
    before, after = dump(baseline).splitlines(), dump(changed).splitlines()
    assert len(before) == len(after)
    differing = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(differing) == 3
    (old, new), *others = sorted(differing, key=lambda pair: '"i1"' not in pair[0])
    assert sorted(new.split('"')[1] for _, new in others) == ["right", "sha256"]
    assert old.strip().startswith('"i1": {"0": "t Yf"') and '"ue jTjT"' in old
    assert new == old.replace('"ue jTjT"', '"u1 jTjT"')


def test_the_file_is_readable_and_git_friendly(baseline: Baseline) -> None:
    text = dump(baseline)
    assert text.endswith("}\n")
    assert max(len(line) for line in text.splitlines()) < 400
    assert list(json.loads(text)["items"]) == ["i0", "i1", "i2"]
    assert json.loads(text)["items"]["i0"] == {
        "0": "1 jT",
        "0.05": "10 jTjT",
        "0.3333333333333333": "11 jTjT",
    }
    assert [line[:10] for line in text.splitlines()[-5:-2]] == ['    "i0": ', '    "i1": ', '    "i2": ']


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(file: Path, refusal: Callable[..., str], share: float) -> None:
    text = file.read_text()
    file.write_text(text[: int(len(text) * share)])
    found = refusal(load, file)
    assert str(file) in found and "truncated or not JSON" in found and "restore it" in found


EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an outcome": lambda data: data["items"]["i0"].update({"0": "0"}),
    "a removed item": lambda data: data["items"].pop("i2"),
    "the reason": lambda data: data.update(reason="better"),
    "the key": lambda data: data["measurement_key"].update(engine="other"),
    "the certificate": lambda data: data["certificate"].update(problems=[]) or data["certificate"].update(status="x"),
    "another field": lambda data: data.update(more=1),
    "a removed field": lambda data: data.pop("provenance"),
    "the checksum": lambda data: data.update(sha256="0" * 64),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_file_is_refused(file: Path, refusal: Callable[..., str], edit: str) -> None:
    data = json.loads(file.read_text())
    EDITS[edit](data)
    file.write_text(json.dumps(data))
    assert "its checksum does not fit: it was edited or damaged" in refusal(load, file)


CONTRADICTIONS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "an outcome": (lambda data: data["items"]["i0"].update({"0": "0 jT"}), "its sums are not those of its items"),
    "a removed item": (lambda data: data["items"].pop("i2"), "its sums are not"),
    "sums": (lambda data: data["sums"]["0"].update(right=3), "its sums are not"),
    "no sites": (lambda data: _level(data).update(sites=0), "level 0.05 has no sites"),
    "fewer sites": (lambda data: _level(data).update(sites=1), "has 1 sites, its coverage 2"),
    "rows": (lambda data: _level(data).update(counted_rows=7), "counts 7 token rows"),
    "no rows": (lambda data: _level(data).update(counted_rows=0, expected_rows=0), "counts 0 token rows"),
    "no audit": (lambda data: _level(data).update(audited=0), "was not audited"),
    "no effect": (lambda data: _level(data).update(changed=0), "changed 0 elements"),
    "noise in the clean arm": (lambda data: _level(data, 0).update(changed=5), "changed 5 elements"),
    "a problem": (lambda data: _level(data).update(problems=["bad"]), "certified and has problems"),
    "its status": (lambda data: data["certificate"].update(status="invalid"), "its certificate is 'invalid'"),
    "no levels": (lambda data: data["certificate"].update(levels=[]), "not of the levels of its items"),
    "coverage": (lambda data: data["certificate"].pop("coverage"), "coverage is not that of its measurement key"),
    "key": (lambda data: data["measurement_key"].update(coverage="29 sites"), "coverage is not that of its"),
    "external": (lambda data: data["certificate"].update(status=EXTERNAL), "an external baseline has no ledger"),
}


def _level(data: dict[str, Any], index: int = 1) -> dict[str, Any]:
    return data["certificate"]["levels"][index]


@pytest.mark.parametrize("edit", CONTRADICTIONS)
def test_a_file_that_contradicts_itself_is_refused_whatever_its_checksum(
    file: Path, refusal: Callable[..., str], edit: str
) -> None:
    data = json.loads(file.read_text())
    change, words = CONTRADICTIONS[edit]
    change(data)
    data["sha256"] = checksum(data)
    file.write_text(json.dumps(data))
    found = refusal(load, file)
    assert "it contradicts itself" in found and words in found


def test_a_file_of_version_1_is_read_and_decides_nothing(file: Path) -> None:
    data = json.loads(file.read_text())
    for name in ("sums", "weights", "settings", "code"):
        del data[name]
    del data["certificate"]["coverage"], data["measurement_key"]["coverage"]
    data["items"] = {
        item: {level: codes.split()[0] for level, codes in row.items()} for item, row in data["items"].items()
    }
    data["schema_version"] = 1
    data["sha256"] = checksum(data)
    file.write_text(json.dumps(data))
    found = load(file)
    assert found.arm.outcomes[0.0]["i0"] == {0: Outcome(1.0, RIGHT)}
    (words,) = found.arm.certificate.problems_at(0.05)
    assert "version 1 has no coverage" in words and "accept a new run" in words


@pytest.mark.parametrize("edit", ["code", "length", "seeds", "certificate"])
def test_an_edited_file_with_a_new_checksum_is_still_one_line(
    file: Path, refusal: Callable[..., str], edit: str
) -> None:
    data = json.loads(file.read_text())
    if edit == "code":
        data["items"]["i0"]["0"] = "z"
    elif edit == "length":
        data["items"]["i0"]["0.05"] = "1"
    elif edit == "seeds":
        data["seeds"] = [1]
    else:
        data["certificate"] = {}
    data["sha256"] = checksum(data)
    file.write_text(json.dumps(data))
    assert "it is damaged" in refusal(load, file)


def test_another_version_is_named_whatever_else_it_holds(file: Path, refusal: Callable[..., str]) -> None:
    data = json.loads(file.read_text())
    file.write_text(json.dumps(data | {"schema_version": 4, "new_field": 1}))
    assert "schema version 4, this harness reads 1, 2, 3" in refusal(load, file)


@pytest.mark.parametrize("text", ["[]", "{}", "5", '{"schema_version": 1}', '{"items": {}, "sha256": ""}'])
def test_other_json_is_no_baseline(file: Path, refusal: Callable[..., str], text: str) -> None:
    file.write_text(text)
    assert "it is not a baseline file" in refusal(load, file)


def test_a_binary_a_folder_and_a_missing_file_are_one_line(tmp_path: Path, refusal: Callable[..., str]) -> None:
    (tmp_path / "binary.json").write_bytes(b"\x80\x00")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    words = {"binary.json": "not UTF-8 text", "deep.json": "truncated or not JSON", ".": "it cannot be read"}
    for name, said in words.items():
        assert said in refusal(load, tmp_path / name)
    assert "no such file" in refusal(load, tmp_path / "missing.json")
    with pytest.raises(HarnessError):
        load(tmp_path / "binary.json" / "below")
