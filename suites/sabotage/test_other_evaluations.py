"""Another configuration, template or data file under the same path is another run, and goes into another folder."""

from __future__ import annotations

import json
import shutil

import pytest

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import StoreError
from harness.library.for_gate import default_run_folder
from harness.spec import EvalSpec

pytestmark = pytest.mark.contract
SPEC = EvalSpec("arith", items=4, levels=(0.0, 0.1), noise_seeds=1, max_new_tokens=8)


@pytest.fixture(scope="module")
def finished(shipped, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    evaluate(prepare(shipped, SPEC, "cpu"), out)
    return out


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
