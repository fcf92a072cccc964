"""``harness train``: list, show, check, their exit codes and their JSON."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli.main import command
from harness.cli.train_options import run_folder
from harness.exceptions import HarnessError
from harness.training import check, machine
from harness.training.book import recipe_names

needs_verl = pytest.mark.skipif(find_spec("verl") is None, reason="verl is not installed: make setup-full")
FREE = machine.MachineState(memory=64, shared=8, ports=True, rays=(), accelerators=0, cores=2)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["train", *arguments])


@pytest.fixture
def free_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "look_around", lambda: FREE)


def test_list_names_every_recipe() -> None:
    found = json.loads(run("list", "--json").output)
    assert [each["name"] for each in found["recipes"]] == list(recipe_names())
    assert found["aliases"]["E5b"] == "E5b-hw"
    assert "E13j" in run("list", "--profile", "gpu").output


def test_show_says_what_a_recipe_repeats_and_feeds() -> None:
    text = run("show", "E8d", "--profile", "gpu").output
    assert "theory E8d" in text and 'passes = ["backward"]' in text
    found = json.loads(run("show", "E5b", "--json").output)
    assert "C1" in found["claims"] and found["name"] == "E5b-hw"


def test_options_change_the_recipe() -> None:
    given = ["--model", "here", "--seed", "7", "--train-data", "t", "--validation-data", "v", "--devices", "2"]
    found = json.loads(run("show", "E5", "--profile", "gpu", *given[2:], "--json").output)
    assert (found["run"]["seed"], found["data"]["train_files"], found["machine"]["devices"]) == (7, "t", 2)


@needs_verl
@pytest.mark.usefixtures("free_machine")
def test_check_prints_settings_expectations_and_findings(tmp_path: Path) -> None:
    done = run("check", "E5b", "--out", str(tmp_path / "run"))
    assert done.exit_code == 0
    for words in ("actor_rollout_ref.rollout.n=4", "29 sites, 116 calls", "sigma of AQN: 0-1: 0", "25 of 25 ok", "GiB"):
        assert words in done.output
    assert not (tmp_path / "run").exists(), "a check writes nothing"


@needs_verl
@pytest.mark.usefixtures("free_machine")
def test_check_as_json(tmp_path: Path) -> None:
    found = json.loads(run("check", "E12", "--profile", "gpu", "--out", str(tmp_path / "r"), "--json").output)
    assert found["refused"] == [] and found["expected"]["steps"] == 29
    assert {each["state"] for each in found["preflight"]} == {"ok", "not checked"}


@needs_verl
@pytest.mark.usefixtures("free_machine")
def test_a_refusal_is_one_line_after_all_findings(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        'base = "E5a"\ntitle = "mine"\n[run]\nsave_every = -1\n[aqn]\nsigma_end = 0.0\n[tiny.run]\nsave_every = -1\n'
    )
    done = run("check", str(file), "--out", str(tmp_path / "run"))
    assert isinstance(done.exception, HarnessError) and done.exception.exit_code == 2
    assert "mine (tiny): aqn_schedule_off: sigma_end 0.0" in str(done.exception)
    assert "(1 more)" in str(done.exception)
    assert "checkpoint_not_saved           refused" in done.output


def test_unknown_recipe_is_refused() -> None:
    done = run("check", "E99")
    assert isinstance(done.exception, HarnessError) and "none of this name" in str(done.exception)


def test_a_run_is_named_by_its_recipe_or_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path("runs") / "training" / "E5b-hw-tiny-seed3"
    place.mkdir(parents=True)
    assert run_folder("E5b", "tiny", 3) == run_folder(str(place), "tiny", None) == place
    assert run_folder("E5b", "gpu", None) == place.with_name("E5b-hw-gpu-seed0")
    for words in (("report", "E5b", "--seed", "3"), ("resume", str(place)), ("import", "elsewhere", "--out", "run")):
        done = run(*words)
        assert isinstance(done.exception, HarnessError) and "it holds no recipe.json" in str(done.exception)
    with pytest.raises(HarnessError, match=r"absent\.toml"):
        run_folder("absent.toml", "tiny", None)
