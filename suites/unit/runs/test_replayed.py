"""Which records are replayed, and what a certificate says of replays that differ, are others, or are fewer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.record import CERTIFIED, ERROR, INVALID_EVIDENCE, NOT_REPLAYED, Certificate, ItemResult, LevelCertificate
from harness.runs.loaded import load_run
from harness.runs.replay_evidence import NO_ANSWER, with_replays
from harness.runs.replayed import (
    REPEATED,
    REPLAYED,
    Bounds,
    Difference,
    Replay,
    Stored,
    chosen,
    level_replay,
    quota,
    unknown,
)
from harness.runs.store import Store
from harness.spec.errors import Nondeterministic, RelativeGaussian
from harness.spec.tokens import spans_of

pytestmark = pytest.mark.unit
ROWS = {0.0: [[1.0]] * 20, 0.05: [[1.0, 0.0]] * 20}
BATCH = 64


@pytest.fixture(scope="module")
def many(make_result: Callable[..., ItemResult]) -> tuple[list[ItemResult], Stored]:
    """1,000 records of one level, five seeds, stored in batches of 64."""
    results = [make_result(f"i{n // 5:03d}", 0.05, n % 5) for n in range(1000)]
    places = {(result.item, 0.05, result.seed): (n // BATCH, n % BATCH) for n, result in enumerate(results)}
    return results, Stored("a seal", places)


def test_the_rule_takes_enough_of_every_kind(many: Any) -> None:
    results, stored = many
    names = chosen(results, stored, 0.05)
    assert len(set(names)) == len(names) == quota(1000) == 60
    places = [stored.places[name] for name in names]
    assert sum(row == BATCH - 1 for _, row in places) >= 3
    assert sum(row == 0 for _, row in places) >= 3
    assert {seed for _, _, seed in names} == {0, 1, 2, 3, 4}
    assert all(any(third * 5 <= batch < third * 5 + 5 for batch, _ in places) for third in range(3))
    assert quota(5) == 5
    assert quota(100) == 8


def test_records_with_a_selected_token_are_among_those_replayed(
    many: Any, make_result: Callable[..., ItemResult]
) -> None:
    """3 of 1,000 answers reach the step at which the noise acts: the rule would hardly ever replay one of them."""
    results, stored = many
    long = {0, 501, 777}
    results = [replace(result, tokens=(7,) * (40 if n in long else 2)) for n, result in enumerate(results)]
    spans = spans_of(["decode:30-"])
    plain, names = chosen(results, stored, 0.05), chosen(results, stored, 0.05, spans)
    touched = {(results[n].item, 0.05, results[n].seed) for n in long}
    assert touched - set(plain)
    assert names[: len(plain)] == plain and touched <= set(names) and len(names) == len({*plain, *touched})
    assert chosen(results, stored, 0.05, spans_of(["prefill"])) == plain
    clean = [replace(result, level=0.0) for result in results]
    assert chosen(clean, stored, 0.0, spans) == chosen(clean, stored, 0.0)


def test_the_rule_depends_on_everything_stored(many: Any, make_run: Any, make_result: Any, tmp_path: Path) -> None:
    results, stored = many
    names = chosen(results, stored, 0.05)
    assert chosen(list(reversed(results)), stored, 0.05) == names
    assert set(chosen(results, replace(stored, seal="another"), 0.05)) != set(names)
    seals = set()
    for number, change in enumerate([{}, {"tokens": (7, 9)}, {"logits": (1.0, 2.0, 3.0)}, {"logits": (1.0, 2.0, 3.1)}]):
        with Store.create(tmp_path / str(number), make_run.manifest(["i0"], [0.0], 1)) as store:
            store.add_batch([make_result("i0", **change)])
            seals.add(store.stored().seal)
    assert len(seals) == 4


def test_a_finished_run_is_certified_and_says_what_was_replayed(make_run: Any, tmp_path: Path) -> None:
    certificate = load_run(make_run(tmp_path / "run", ROWS)).arm.certificate
    assert certificate.status == CERTIFIED
    assert [(entry.records, entry.of, entry.tokens) for entry in certificate.replays] == [(8, 20, 24), (8, 40, 24)]
    assert certificate.replayed
    assert not certificate.nondeterministic
    assert Certificate.from_json(certificate.to_json()) == certificate


@pytest.mark.parametrize(
    ("kind", "replay", "words"),
    [
        (REPLAYED, Replay(3, (Difference(17, "'x'", "'y'", 1.3),)), "token 17 is 'x' in the record and 'y'"),
        (REPLAYED, Replay(3, (), 0.7, Difference(2, "1.0", "1.7", 0.7)), "the logit of token 2 is 1.0 in the record"),
        (REPLAYED, Replay(2), "2 of 3 tokens were compared"),
        (REPLAYED, Replay(3, problem="its engine left 0 logits"), "its engine left 0 logits"),
        (REPLAYED, Replay(3, drift=float("nan")), "apart"),
    ],
)
def test_a_replay_that_differs_is_invalid(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, replay: Replay, words: str
) -> None:
    honest = Store.add_replays

    def one_wrong(self: Store, kind: str, replays: Any) -> None:
        honest(self, kind, {**replays, next(iter(replays)): replay} if kind == REPLAYED else replays)

    monkeypatch.setattr(Store, "add_replays", one_wrong)
    certificate = load_run(make_run(tmp_path / "run", ROWS)).arm.certificate
    assert certificate.status == INVALID_EVIDENCE
    assert any(words in problem for problem in certificate.problems_at(0.05))


def test_fewer_or_other_replays_are_refused(make_run: Any, make_result: Any, tmp_path: Path) -> None:
    results = [make_result(f"i{n}") for n in range(20)]
    records = {(result.item, 0.0, 0): result for result in results}
    names = chosen(results, Stored("", {}), 0.0)
    others = [name for name in records if name not in names]
    found = {name: Replay(3) for name in names}
    bounds = Bounds(0.1, 0.1)
    assert level_replay(0.0, names, records, found, bounds).problems == ()
    del found[names[0]]
    assert "1 of 8 records" in level_replay(0.0, names, records, found, bounds).problems[0]
    found[others[0]] = Replay(3)
    assert "did not choose" in level_replay(0.0, names, records, found, bounds).problems[1]


def test_a_run_without_its_replays_is_unfinished(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "add_replays", lambda *given: None)
    run = load_run(make_run(tmp_path / "run", ROWS))
    assert not run.complete
    assert run.arm.certificate.status == INVALID_EVIDENCE


def test_an_engine_that_does_not_repeat_itself_is_called_so(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Store.add_replays
    other = Replay(2, (Difference(1, "'a'", "'b'", float("inf")),))

    def twice(self: Store, kind: str, replays: Any) -> None:
        honest(self, kind, {**replays, next(iter(replays)): other} if kind == REPEATED else replays)

    monkeypatch.setattr(Store, "add_replays", twice)
    certificate = load_run(make_run(tmp_path / "run", ROWS)).arm.certificate
    assert certificate.status == CERTIFIED
    assert "token 1 is 'a', then 'b'" in certificate.nondeterministic
    (note,) = certificate.notes
    assert note.startswith("nondeterministic engine, to which discordance is attributed: 1 of 8 clean items")


def test_replays_on_the_model_in_memory_are_said(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Store.add_replays

    def in_memory(self: Store, kind: str, replays: Any) -> None:
        marked = {name: replace(own, in_memory=kind == REPLAYED and name[1] > 0) for name, own in replays.items()}
        honest(self, kind, marked)

    monkeypatch.setattr(Store, "add_replays", in_memory)
    certificate = load_run(make_run(tmp_path / "run", ROWS)).arm.certificate
    assert certificate.status == CERTIFIED
    assert [entry.in_memory for entry in certificate.replays] == [False, True]
    (note,) = certificate.notes
    assert note.startswith("replayed at level 5 % on the model in memory, with its code as it was")
    assert Certificate.from_json(certificate.to_json()) == certificate
    with pytest.raises(ValueError, match="7 fields"):
        Replay.from_json([*Replay(3).to_json(), False])


def test_levels_that_cannot_be_replayed_are_noted(make_run: Any, tmp_path: Path) -> None:
    rows = {0.0: [[1.0]] * 9, 0.05: [[ERROR]] * 9, 0.1: [[ERROR]] * 9}
    notes = load_run(make_run(tmp_path / "run", rows)).arm.certificate.notes
    assert [note for note in notes if note.startswith("not replayed at level 5 % and 10 %") and NO_ANSWER in note]


def test_runs_without_replays_say_so_first(make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Store, "add_replays", lambda *given: None)
        unfinished = load_run(make_run(tmp_path / "unfinished", ROWS))
    assert any("in full at level 0 % and 5 %: 0 of 8, 0 of 8" in note for note in unfinished.arm.certificate.notes)
    with Store.read(unfinished.path) as store:
        manifest = replace(store.manifest, replay=None)
        old = with_replays(Certificate(CERTIFIED), manifest, store, unfinished.results)
    assert (old.status, old.notes) == (INVALID_EVIDENCE, (f"not replayed: {NOT_REPLAYED}",))


def test_a_certificate_from_before_is_checked() -> None:
    level = LevelCertificate(0.05, 1, 1, 1, 1, 1, 0.05, 0.05, 1)
    before = Certificate(CERTIFIED, (level,)).checked()
    assert (before.status, before.problems) == (INVALID_EVIDENCE, (NOT_REPLAYED,))


def test_what_it_does_not_know_is_said() -> None:
    assert unknown(RelativeGaussian(), ["a.b", "a:qk", "c:input"]) == ""
    assert "draws anew" in unknown(Nondeterministic(), ["a"])
    assert "a:add#1" in unknown(RelativeGaussian(), ["a", "a:add#1"])
