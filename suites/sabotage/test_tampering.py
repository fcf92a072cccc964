"""Stored runs that were edited, or whose checkpoint changed under them, are found: never a verdict on them."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest

from harness.cli.gate_verb import default_run_folder
from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import StoreError
from harness.runs.loaded import load_run
from harness.spec import EvalSpec

pytestmark = pytest.mark.contract
SPEC = EvalSpec("arith", items=4, levels=(0.0, 0.1), noise_seeds=1, max_new_tokens=8)


@pytest.fixture(scope="module")
def finished(shipped, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    evaluate(prepare(shipped, SPEC, "cpu"), out)
    return out


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


EDITS = {
    "score": "UPDATE records SET score = 1.0, reason = 'right' WHERE level > 0",
    "reason": "UPDATE records SET reason = 'foo'",
    "type": "UPDATE records SET score = 'x'",
    "item": "UPDATE records SET item = 'foreign' WHERE item = (SELECT MIN(item) FROM records)",
    "control": "UPDATE control SET result = '[1.0, 0, 0, 0, 0, []]'",
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_record_is_found(copy, edit):
    with sqlite3.connect(copy / "records.sqlite") as connection:
        connection.execute(EDITS[edit])
    with pytest.raises(StoreError, match="checksum") as caught:
        load_run(copy)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("part", ["positive_control", "kind", "measurement_key"])
def test_an_edited_manifest_is_found(copy, part):
    manifest = json.loads((copy / "manifest.json").read_text())
    if part == "positive_control":
        manifest["identity"][part] = False
    elif part == "kind":
        manifest[part] = "external"
    else:
        manifest[part]["dtype"] = "bfloat16"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="checksum"):
        load_run(copy)


def test_another_configuration_is_another_run(finished, shipped, tmp_path):
    """The same weights with another rotary base give other outputs: the finished run is not theirs."""
    changed = shutil.copytree(shipped, tmp_path / "changed")
    config = json.loads((changed / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 100.0
    (changed / "config.json").write_text(json.dumps(config))
    with pytest.raises(StoreError, match="another evaluation: settings"):
        evaluate(prepare(changed, SPEC, "cpu"), finished)
    assert default_run_folder(changed, SPEC) != default_run_folder(shipped, SPEC)
    (changed / "config.json").write_text((shipped / "config.json").read_text())
    assert (
        default_run_folder(changed, SPEC).name.split("-")[-1] == default_run_folder(shipped, SPEC).name.split("-")[-1]
    )
    template = changed / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "Assistant"))
    assert (
        default_run_folder(changed, SPEC).name.split("-")[-1] != default_run_folder(shipped, SPEC).name.split("-")[-1]
    )


def test_other_data_behind_the_same_path_is_another_run(shipped, tmp_path):
    data = tmp_path / "data.jsonl"
    spec = EvalSpec("gsm8k", data=str(data))
    data.write_text('{"question": "1?", "answer": "#### 1"}\n')
    before = default_run_folder(shipped, spec)
    data.write_text('{"question": "2?", "answer": "#### 2"}\n')
    assert default_run_folder(shipped, spec) != before
