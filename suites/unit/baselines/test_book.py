"""The folder of baselines: accepting, finding, listing and comparing."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.baselines.book import accept, check_acceptable, diff, find, listed, load_named, path_of
from harness.exceptions import HarnessError, NotComparableError
from harness.runs.loaded import load_run
from harness.runs.store import Store
from harness.spec import EvalSpec
from harness.testing.arms import make_arm

pytestmark = pytest.mark.long

Refusal = Callable[..., str]
ROWS = {0.0: [[1], [1], [0]], 0.05: [[1, 0], [1, 1], ["unparsed", 0]]}


@pytest.fixture
def run(tmp_path: Path, make_run: Any) -> Path:
    return make_run(tmp_path / "run", ROWS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "baselines"


def test_an_accepted_run_comes_back_with_its_provenance(run: Path, folder: Path) -> None:
    path = accept(run, folder, "arith/tiny-1.0", "  the first one  ")
    assert path == folder / "arith" / "tiny-1.0.json"
    found, stored = load_named(folder, "arith/tiny-1.0"), load_run(run)
    assert found.arm.outcomes == stored.arm.outcomes
    assert (found.arm.key, found.arm.certificate) == (stored.arm.key, stored.arm.certificate)
    assert (found.name, found.reason) == ("arith/tiny-1.0", "the first one")
    assert found.accepted == datetime.datetime.now(datetime.UTC).date().isoformat()
    assert found.provenance == {
        "checkpoint": stored.evaluation.checkpoint,
        "environment": stored.manifest.environment,
    }
    assert found.spec is not None
    assert EvalSpec.from_json(dict(found.spec)) == EvalSpec("arith", items=3, levels=(0.0, 0.05), noise_seeds=2)
    assert [name for name, _ in listed(folder)] == ["arith/tiny-1.0"]
    assert load_named(folder, str(path)) == found


def test_an_existing_name_is_kept_unless_replaced(run: Path, folder: Path, refusal: Refusal) -> None:
    path = accept(run, folder, "a", "first")
    before = path.read_bytes()
    assert "it exists already" in refusal(accept, run, folder, "a", "second")
    assert path.read_bytes() == before
    accept(run, folder, "a", "second", True)
    assert load_named(folder, "a").reason == "second"


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_baseline_says_why(run: Path, folder: Path, refusal: Refusal, reason: str) -> None:
    assert "--reason is empty" in refusal(accept, run, folder, "a", reason)
    assert not folder.exists()


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b", "a b", "a\n", "-a", "\u00e9", "a.json", "a" * 101]
)
def test_a_name_that_is_no_plain_path_is_refused(run: Path, folder: Path, refusal: Refusal, name: str) -> None:
    assert "baseline name" in refusal(accept, run, folder, name, "because")
    assert os.listdir(run.parent) == ["run"]


@pytest.mark.parametrize("name", ["a", "arith/qwen2.5-1.5b_v2", "A/b/C.d"])
def test_plain_names_are_paths_below_the_folder(name: str) -> None:
    assert path_of(Path("x"), name) == Path(f"x/{name}.json")


def test_an_invalid_run_is_no_baseline(tmp_path: Path, make_run: Any, folder: Path, refusal: Refusal) -> None:
    path = make_run(tmp_path / "bad", ROWS, changed=0, error=0.0, relative=0.0)
    with pytest.raises(NotComparableError, match=r"is INVALID \(ineffective injection: layers.0.up") as caught:
        accept(path, folder, "a", "because")
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert not folder.exists()


def test_an_unfinished_run_is_no_baseline(
    tmp_path: Path, make_run: Any, make_result: Any, folder: Path, refusal: Refusal
) -> None:
    with Store.create(tmp_path / "part", make_run.manifest(["i0"], [0.0, 0.05], 2)) as store:
        store.add_batch([make_result("i0")])
    text = refusal(accept, tmp_path / "part", folder, "a", "because", kind=NotComparableError, code=4)
    assert "lacks 2 records" in text
    assert not folder.exists()


def test_what_is_no_run_is_no_baseline(tmp_path: Path, folder: Path, refusal: Refusal) -> None:
    assert "there is no manifest.json" in refusal(accept, tmp_path, folder, "a", "because")


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/baselines"])
def test_a_folder_that_cannot_be_written_is_one_line(run: Path, tmp_path: Path, refusal: Refusal, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    assert "it cannot be written" in refusal(accept, run, tmp_path / place, "a", "because")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_no_half_baseline(
    run: Path, folder: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = accept(run, folder, "a", "first")
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert "No space left on device" in refusal(accept, run, folder, "a", "second", True)
    assert "No space left on device" in refusal(accept, run, folder, "b", "second")
    assert path.read_bytes() == before
    assert os.listdir(folder) == ["a.json"]


def test_a_missing_baseline_names_the_nearest(
    run: Path, folder: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("harness.baselines.book.shipped", lambda: tmp_path / "nothing came along")
    assert "accept a run with harness baseline accept" in refusal(find, folder, "arith/tiny")
    accept(run, folder, "arith/tiny", "because")
    accept(run, folder, "gsm8k/big", "because")
    text = refusal(find, folder, "arith/tinny")
    assert f"baseline 'arith/tinny'; there is none under {folder}; did you mean 'arith/tiny'?" in text
    assert "no such file" in refusal(find, folder, str(folder / "x.json"))
    with pytest.raises(HarnessError, match="known: arith/tiny, gsm8k/big"):
        find(folder, "zzzzzz")


def test_a_diff_counts_what_differs_at_every_level(run: Path, tmp_path: Path, make_run: Any, folder: Path) -> None:
    accept(run, folder, "old", "because")
    rows = {0.0: [[1], [0], [0], [1]], 0.05: [[1, 0], [1, "error"], [0, 0]], 0.1: [[1, 1]]}
    new, old = load_run(make_run(tmp_path / "new", rows)).arm, load_named(folder, "old").arm
    found = diff(old, new)
    assert found.changed == {
        0.0: {"i1": {0: ("right", "wrong")}},
        0.05: {"i1": {1: ("right", "error")}, "i2": {0: ("unparsed", "wrong")}},
    }
    assert found.only_left == {0.0: 0, 0.05: 0, 0.1: 0}
    assert found.only_right == {0.0: 1, 0.05: 0, 0.1: 2}
    assert found.to_json()["only_right"] == {"0": 1, "0.05": 0, "0.1": 2}
    assert found.key == ()
    assert diff(old, old).changed == {}


def test_a_run_at_the_floor_is_no_baseline(tmp_path: Path, make_run: Any, folder: Path, refusal: Refusal) -> None:
    path = make_run(tmp_path / "floor", {0.0: [[0], [0], [1], [0]], 0.05: [[0], [0], [0], [0]]})
    text = refusal(accept, path, folder, "a", "because", kind=NotComparableError, code=4)
    assert "is at the floor: the lower bound of its clean accuracy is " in text and " on 4 items, below 10 %" in text
    assert not folder.exists()


def test_sampled_answers_to_an_item_are_no_items_of_their_own(refusal: Refusal) -> None:
    """5 of 30 items are always right: 50 of 300 answers would lie above the floor, 5 of 30 items do not."""
    arm = make_arm({0.0: [[1] * 10] * 5 + [[0] * 10] * 25})
    run: Any = SimpleNamespace(path="run", manifest=SimpleNamespace(floor=None), arm=arm)
    assert " on 30 items, below 10 %" in refusal(check_acceptable, run, kind=NotComparableError, code=4)


def test_an_accepted_baseline_holds_what_made_it(run: Path, folder: Path) -> None:
    accept(run, folder, "a", "because")
    found, stored = load_named(folder, "a").arm, load_run(run).arm
    assert found.origin == stored.origin
    assert found.origin.weights == "w1" and found.origin.code and found.certificate.coverage is not None
