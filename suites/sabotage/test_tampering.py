"""Edits by hand of a stored run end in exit code 2, or 4 for sound files that do not fit: never in a verdict."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3

import pytest

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import HarnessError
from harness.runs.folder import DATABASE, MANIFEST
from harness.runs.loaded import load_run
from harness.spec import EvalSpec
from suites.sabotage.editing import column_edits, content, edit, leaves, other, row_edits, with_leaf
from suites.small import lower_layers

pytestmark = pytest.mark.contract
SPEC = EvalSpec("arith", items=3, levels=(0.0, 0.1), noise_seeds=2, max_new_tokens=4)
FLIPS = 40
"""Bytes of a file that are flipped, one at a time."""


def evaluated(checkpoint, out, spec=SPEC):
    evaluate(prepare(checkpoint, spec, "cpu"), out, 4)
    return out


@pytest.fixture(scope="module")
def checkpoint(shipped, tmp_path_factory):
    return lower_layers(shipped, tmp_path_factory.mktemp("checkpoint") / "two-layers")


@pytest.fixture(scope="module")
def finished(checkpoint, tmp_path_factory):
    return evaluated(checkpoint, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def another(shipped, tmp_path_factory):
    """A run of another checkpoint with the same specification."""
    checkpoint = lower_layers(shipped, tmp_path_factory.mktemp("checkpoint") / "three-layers", 3)
    return evaluated(checkpoint, tmp_path_factory.mktemp("runs") / "another")


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def refusal(path):
    """What ``path`` is refused with, None where it is read."""
    try:
        load_run(path)
    except HarnessError as error:
        return error
    return None


def said(path):
    """What reading ``path`` is refused with, and its exit code."""
    with pytest.raises(HarnessError) as caught:
        load_run(path)
    return str(caught.value), caught.value.exit_code


def test_the_untouched_copy_is_read(finished, copy):
    assert load_run(copy).results == load_run(finished).results
    assert len(load_run(copy).results) == 9


EDITS = column_edits() | row_edits()


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_table_is_found_and_named(copy, name):
    if not edit(copy, EDITS[name]):
        pytest.skip(f"the run has no such row: {name}")
    words, code = said(copy)
    assert code == 2, words
    assert str(copy) in words
    assert "checksum" in words or name.partition(".")[0].partition(":")[0] in words, words


def test_bytes_of_the_database_that_are_flipped(finished, tmp_path):
    """Each is found, or lies where nothing is stored: no run ever reads as another one."""
    whole = (finished / DATABASE).read_bytes()
    expected, chance, found = content(finished), random.Random(12), 0
    written = [place for place, byte in enumerate(whole) if byte]
    for number in range(FLIPS):
        folder = shutil.copytree(finished, tmp_path / str(number))
        place = chance.choice(written)
        (folder / DATABASE).write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        refused = refusal(folder)
        if refused is None:
            assert content(folder) == expected, f"byte {place}"
        else:
            assert refused.exit_code == 2
            assert str(folder) in str(refused)
            found += 1
    assert found > FLIPS / 2


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("file", [DATABASE, MANIFEST])
def test_a_file_that_was_cut(copy, file, share):
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(whole[: int(share * len(whole))])
    words, code = said(copy)
    assert code == 2
    assert str(copy) in words


@pytest.mark.parametrize("file", [DATABASE, MANIFEST])
def test_a_file_that_is_gone(copy, file):
    (copy / file).unlink()
    words, code = said(copy)
    assert code == 2
    assert file in words


@pytest.mark.parametrize("file", [DATABASE, MANIFEST])
def test_a_file_of_another_run(copy, another, file):
    """Records beside the manifest of another checkpoint: each file is sound, and they do not belong together."""
    shutil.copyfile(another / file, copy / file)
    words, code = said(copy)
    assert code == 2
    assert "written under another manifest" in words


def test_a_record_copied_from_another_run(copy, another):
    with sqlite3.connect(copy / DATABASE) as connection:
        connection.execute("ATTACH ? AS other", (str(another / DATABASE),))
        connection.execute("DELETE FROM records WHERE level > 0")
        connection.execute("INSERT INTO records SELECT * FROM other.records WHERE level > 0")
    words, code = said(copy)
    assert code == 2
    assert "records" in words


def test_a_record_copied_to_another_seed(copy):
    """The row carries its own checksum along, which names its seed."""
    with sqlite3.connect(copy / DATABASE) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(records)")]
        taken = ", ".join("1" if column == "seed" else column for column in columns)
        connection.execute("DELETE FROM records WHERE seed = 1")
        connection.execute(f"INSERT INTO records SELECT {taken} FROM records WHERE level > 0")
    assert said(copy)[1] == 2


def manifest_leaves():
    """The fields of a manifest that every run has, without the values of its many sites."""
    return ("schema_version", "kind", "identity", "measurement_key", "plan", "environment", "checkpoint", "spec")


@pytest.mark.parametrize("field", manifest_leaves())
def test_an_edited_manifest_is_found(finished, copy, field):
    """Every value below ``field``, one after the other."""
    manifest = json.loads((finished / MANIFEST).read_text())
    paths = [path for path in leaves({field: manifest[field]}) if path]
    chance = random.Random(field)
    for path in chance.sample(paths, min(25, len(paths))):
        (copy / MANIFEST).write_text(json.dumps(with_leaf(manifest, path, other)))
        words, code = said(copy)
        assert code == 2, (path, words)
        assert MANIFEST in words or "schema version" in words or "the folder of a" in words, (path, words)
