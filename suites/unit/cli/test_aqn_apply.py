"""``harness aqn plan`` and ``apply``, and what an evaluation makes of a perturbed copy and of a damaged ledger."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from harness.aqn.dose_file import FILE, folder_state
from harness.checkpoints.folder import fingerprint_weights
from harness.cli.main import main
from harness.evaluate.prepared import prepare
from harness.exceptions import CheckpointError
from harness.spec import EvalSpec, parse_noise

pytestmark = pytest.mark.unit
SPEC = EvalSpec("arith", items=2, noise=parse_noise("relative_gaussian @ op:linear"), max_new_tokens=4)


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


@pytest.fixture(scope="module")
def copy(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("aqn") / "noisy"
    assert run("aqn", "apply", tiny, "--sigma", "0.05", "--out", out) == 0
    return out


def test_only_the_norms_of_the_copy_differ(tiny, copy):
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny, copy))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and changed == {name for name in before if "norm" in name}
    layers = json.loads((copy / FILE).read_text())["dose"]["layers"]
    for layer in layers:
        change = after[f"{layer['name']}.weight"] - before[f"{layer['name']}.weight"]
        assert float(change.std(correction=0)) == pytest.approx(layer["achieved"], rel=1e-4)


def test_the_same_command_gives_the_same_copy(tiny, copy, tmp_path):
    assert run("aqn", "apply", tiny, "--sigma", "0.05", "--out", tmp_path / "again") == 0
    assert fingerprint_weights(copy) == fingerprint_weights(tmp_path / "again")
    assert run("aqn", "apply", tiny, "--sigma", "0.05", "--seed", "1", "--out", tmp_path / "other") == 0
    assert fingerprint_weights(copy) != fingerprint_weights(tmp_path / "other")


def test_an_evaluation_carries_the_dose(tiny, copy):
    assert prepare(tiny, SPEC).key["aqn"] == "off"
    found = prepare(copy, SPEC).key["aqn"]
    assert found.startswith("absolute sigma 0.05 on 3 rmsnorm step 0 seed 0 [")


def edited(path, edit):
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: edited(file, lambda data: data["dose"].update(sigma=0.01)), "edited or damaged"),
        (lambda file: edited(file, lambda data: data.update(more=1)), "no AQN ledger"),
        (lambda file: file.write_text(file.read_text()[:-40]), "unreadable JSON"),
        (lambda file: file.unlink(), "ledger aqn.json is gone"),
    ],
)
def test_a_damaged_ledger_is_an_error(copy, tmp_path, damage, words):
    folder = tmp_path / "copy"
    shutil.copytree(copy, folder)
    damage(folder / FILE)
    with pytest.raises(CheckpointError, match=words):
        prepare(folder, SPEC)


def test_a_ledger_of_other_weights_is_an_error(tiny, copy, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny, folder)
    shutil.copyfile(copy / FILE, folder / FILE)
    with pytest.raises(CheckpointError, match="other weights"):
        folder_state(folder, fingerprint_weights(folder))


def test_plan_as_json(arith, capsys):
    assert run("aqn", "plan", arith, "--sigma", "0.05", "--multipliers", "targeted:1-2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["matched"] == 9 and [each["multiplier"] for each in found["targets"]] == [0, 0, 1, 1, 1, 1, 0, 0, 0]
    assert all(each["deviation"] > 0 for each in found["targets"])


def test_plan_of_the_1_5b_config_has_57_norms(capsys):
    config = "fixtures/configs/qwen2.5-1.5b.json"
    assert run("aqn", "plan", "--config", config, "--sigma-start", "0.05", "--sigma-end", "0.0005", "--steps", 116) == 0
    assert capsys.readouterr().out.startswith("57 targets, 87,552 elements; sigma 0.05 (absolute) from step 12 on")


@pytest.mark.parametrize(
    "wrong",
    [
        ("plan", "--sigma", "0.05", "--layer-types", "linear"),
        ("plan", "--sigma", "0.05", "--layer-types", "layernorm"),
        ("plan", "--sigma", "0"),
        ("plan", "--sigma", "nan"),
        ("plan",),
        ("plan", "--sigma", "0.05", "--steps", "29"),
        ("plan", "--sigma", "0.05", "--multipliers", "targeted:9"),
        ("plan", "--sigma", "0.05", "--exclude", "layers.*", "--exclude", "norm"),
        ("plan", "--sigma", "0.05", "--mode", "percent"),
        ("apply", "--sigma", "0.05", "--out", "."),
        ("apply", "--sigma-start", "0.05", "--steps", "29", "--out", "x"),
        ("apply", "--sigma", "0.05", "--step", "3", "--out", "x"),
        ("apply", "--sigma-start", "0.05", "--steps", "29", "--step", "0", "--out", "x"),
    ],
)
def test_bad_parameters_are_one_line_and_code_2(wrong, arith, capsys, monkeypatch):
    verb, *rest = wrong
    assert run("aqn", verb, arith, *rest) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.startswith("harness: ") and not captured.out


def test_a_copy_is_not_perturbed_again(copy, tmp_path, capsys):
    assert run("aqn", "apply", copy, "--sigma", "0.05", "--out", tmp_path / "twice") == 2
    assert "perturbed copy itself" in capsys.readouterr().err and not (tmp_path / "twice").exists()
