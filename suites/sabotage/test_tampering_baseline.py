"""Edits of a baseline file or a stored verdict end in exit code 2, or 4 where it is sound and does not fit."""

from __future__ import annotations

import json
import random
import shutil

import pytest

from harness.baselines.book import accept
from harness.baselines.file import load
from harness.cli.main import main
from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import HarnessError
from harness.runs.manifest import checksum
from harness.spec import EvalSpec
from suites.sabotage.editing import leaves, other, with_leaf

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def baseline(shipped, tmp_path_factory):
    """A baseline of the shipped checkpoint, which answers right; the folder and the run with it."""
    spec = EvalSpec("arith", items=16, levels=(0.0, 0.1), noise_seeds=1)
    folder = tmp_path_factory.mktemp("baselines")
    evaluate(prepare(shipped, spec, "cpu"), folder / "run")
    accept(folder / "run", folder, "sound", "for the test")
    return folder


def exit_code(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    return ended.value.code


def gated(folder, name="sound"):
    return exit_code("gate", folder / "run", "--baseline", name, "--baselines-dir", folder, "--margin", "0.3")


def test_the_untouched_baseline_is_judged(baseline, capsys):
    assert gated(baseline) in (0, 3), capsys.readouterr()


def test_an_edited_baseline_is_found(baseline, capsys):
    """Every value of the file, one after the other, its checksum left alone."""
    sound = json.loads((baseline / "sound.json").read_text())
    chance = random.Random(3)
    paths = [path for path in leaves(sound) if path[0] != "sha256"]
    for path in chance.sample(paths, 60):
        (baseline / "edited.json").write_text(json.dumps(with_leaf(sound, path, other)))
        assert gated(baseline, "edited") == 2, path
        words = capsys.readouterr().err
        assert "edited.json" in words, (path, words)


def repaired(baseline, change):
    """The baseline with an edit by somebody who repairs the checksum of the file."""
    data = json.loads((baseline / "sound.json").read_text())
    change(data)
    data["sha256"] = checksum(data)
    (baseline / "edited.json").write_text(json.dumps(data))
    return "edited"


def no_sites(data):
    for level in data["certificate"]["levels"]:
        level["sites"] = 0


def no_levels(data):
    data["certificate"]["levels"] = []


def all_right(data):
    for row in data["items"].values():
        row.update({level: "1" * len(codes) for level, codes in row.items()})


def lost_item(data):
    data["items"].pop(next(iter(data["items"])))


def all_wrong(data):
    for row in data["items"].values():
        row.update({level: "0" * len(codes) for level, codes in row.items()})


REPAIRED = {no_sites: "site", no_levels: "", all_right: "", all_wrong: "", lost_item: ""}


@pytest.mark.parametrize("change", REPAIRED, ids=lambda change: change.__name__)
def test_a_baseline_that_contradicts_itself_is_refused(baseline, capsys, change):
    """Its own sum is repaired: certificate and items still have to follow from each other."""
    name = repaired(baseline, change)
    assert gated(baseline, name) == 2
    words = capsys.readouterr().err
    assert "edited.json" in words
    assert REPAIRED[change] in words


def test_another_key_in_a_repaired_baseline_is_not_compared(baseline, capsys):
    name = repaired(baseline, lambda data: data["measurement_key"].update(scorer="flexible"))
    assert gated(baseline, name) in (2, 4)


@pytest.mark.parametrize("level", ["0", "0.1"])
def test_a_cut_baseline_is_refused(baseline, capsys, level):
    text = (baseline / "sound.json").read_text()
    (baseline / "edited.json").write_text(text[: len(text) // (2 if level == "0" else 3)])
    assert gated(baseline, "edited") == 2
    with pytest.raises(HarnessError, match=r"edited\.json"):
        load(baseline / "edited.json")


def test_an_edited_verdict_is_found(baseline, tmp_path, capsys):
    folder = shutil.copytree(baseline, tmp_path / "copy")
    shutil.rmtree(folder / "run" / "verdicts", ignore_errors=True)
    gated(folder)
    written = [path for path in (folder / "run" / "verdicts").rglob("*.json") if '"verdict": "' in path.read_text()]
    assert written
    for verdict in written:
        verdict.write_text(verdict.read_text().replace('"verdict": "', '"verdict": "NOT '))
    assert gated(folder) in (2, 4)
    assert "verdict" in capsys.readouterr().err
