"""Every verb takes a name on a hub where it takes a folder, and says of what commit its numbers are (a local hub)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

from harness.checkpoints.source import resolve
from harness.exceptions import CheckpointError, StoreError
from harness.gates import key_differences
from harness.library.for_gate import default_run_folder
from harness.pytest_plugin.settings import Settings
from harness.runs.folder import establish
from harness.runs.loaded import load_run
from harness.spec import EvalSpec
from harness.testing.runs import RunMaker
from suites.unit.checkpoints.fake_hub import COMMITS, NAME, Hub
from suites.unit.conftest import Said

pytestmark = pytest.mark.unit

SMALL = ("--task", "arith", "--items", 1, "--noise-levels", 0, "--max-new-tokens", 2, "--no-positive-control")
DOSE = ("--sigma", 0.01)


@pytest.fixture
def twins(hub: Hub, tiny: Path) -> Hub:
    """The hub with the very same files under both commits."""
    hub.folders[COMMITS["v1"]] = tiny
    return hub


def weights_asked(hub: Hub) -> list[str]:
    return [path for path in hub.asked if "safetensors" in path]


def test_a_configuration_comes_without_its_weights(hub: Hub, elsewhere: Path, cli: Callable[..., Said]) -> None:
    found = cli("plan", "--config", f"{NAME}@v1", "--json")
    assert found.code == 0 and found.json["config"].endswith(COMMITS["v1"]) and not weights_asked(hub)
    assert cli("aqn", "plan", "--config", NAME, *DOSE).code == 0 and not weights_asked(hub)


def test_a_configuration_alone_is_no_checkpoint_without_the_hub(
    hub: Hub, elsewhere: Path, cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("plan", "--config", NAME).code == 0
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert cli("plan", "--config", NAME).code == 0
    said = cli("plan", NAME)
    assert said.code == 2 and "not in the cache of the hub either" in said.err and said.err.count("\n") == 1


def test_a_candidate_of_another_commit_is_comparable_and_another_run(
    twins: Hub, elsewhere: Path, cli: Callable[..., Said]
) -> None:
    """The key says what is measured, and both share it; whose numbers they are is what a resumed run must agree on."""
    assert cli("eval", NAME, *SMALL, "--out", "run").code == 0
    again = cli("eval", f"{NAME}@v1", *SMALL, "--out", "run")
    assert again.code == 2 and f"revision ({COMMITS['main']} there, {COMMITS['v1']} now)" in again.err
    assert cli("eval", f"{NAME}@{COMMITS['main']}", *SMALL, "--out", "run").code == 0
    assert cli("eval", f"{NAME}@v1", *SMALL, "--out", "other").code == 0
    one, two = load_run(Path("run")), load_run(Path("other"))
    assert one.arm.key == two.arm.key and not key_differences(one.arm.key, two.arm.key)
    assert one.asked.hub != two.asked.hub
    folders = {default_run_folder(Path(f"{NAME}@{name}"), EvalSpec("arith")).name for name in COMMITS}
    assert len(folders) == 2 and all(folder.startswith("gate-tiny-") for folder in folders)


def test_a_folder_has_no_commit_to_agree_on(tiny: Path, tmp_path: Path) -> None:
    source = resolve(tiny)
    assert source.pinned == {} and source.name == tiny.name
    assert default_run_folder(source, EvalSpec("arith"), tmp_path).name.startswith(f"gate-{tiny.name}-")


def test_scans_and_replays_say_the_commit(twins: Hub, elsewhere: Path, cli: Callable[..., Said]) -> None:
    arguments = ("--format", "mxfp4", "--out", "scan")
    found = cli("scan", NAME, *arguments, "--json")
    assert found.json["checkpoint"]["hub"] == {"id": NAME, "revision": COMMITS["main"]}
    assert f"{NAME} at {COMMITS['main']}" in Path("scan/scan.md").read_text()
    other = cli("scan", f"{NAME}@v1", *arguments)
    assert other.code == 2 and COMMITS["v1"] in other.err
    assert cli("eval", NAME, *SMALL, "--out", "run").code == 0
    item = json.loads(Path("run/manifest.json").read_text())["identity"]["items"][0]
    assert cli("replay", "run", "--item", item, "--level", 0, "--checkpoint", f"{NAME}@v1").code == 0


def test_distributions_are_judged_of_a_name(twins: Hub, elsewhere: Path, cli: Callable[..., Said]) -> None:
    assert cli("eval", NAME, *SMALL, "--out", "run").code == 0
    recorded = cli("divergence", "record", "run", "--out", "reference", "--items", 1)
    assert recorded.code == 0, recorded.err
    gated = cli("divergence", "gate", f"{NAME}@v1", "--reference", "reference", "--kl-margin", 0.5, "--json")
    assert gated.code in (0, 3, 4) and "verdict" in gated.json, gated.err


def test_noise_on_the_weights_of_a_name(hub: Hub, elsewhere: Path, cli: Callable[..., Said]) -> None:
    assert cli("aqn", "plan", NAME, *DOSE).code == 0
    assert cli("aqn", "apply", NAME, *DOSE, "--out", "copy").code == 0
    assert not any(file.is_symlink() for file in Path("copy").iterdir())


def test_a_model_to_train_is_that_of_its_commit(hub: Hub, elsewhere: Path, cli: Callable[..., Said]) -> None:
    found = cli("train", "show", "E5b", "--model", f"{NAME}@v1", "--json")
    assert found.code == 0 and COMMITS["v1"] in found.out


def test_the_base_that_an_adapter_names_is_found_on_the_hub(
    hub: Hub, elsewhere: Path, make_adapter: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(base_model_name_or_path=NAME)
    source = resolve(adapter)
    assert source.pinned == {"base": {"id": NAME, "revision": COMMITS["main"]}}
    assert source.details["base"]["hub"]["revision"] == COMMITS["main"]
    old = resolve(make_adapter(base_model_name_or_path=NAME, revision="v1"))
    assert old.pinned["base"]["revision"] == COMMITS["v1"] and old.settings != source.settings
    assert resolve(adapter, base=Path(f"{NAME}@v1")).pinned["base"]["revision"] == COMMITS["v1"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    lost = make_adapter(base_model_name_or_path="someone/else")
    with pytest.raises(CheckpointError, match=r"base of adapter .* someone/else; no such folder.* give --base FOLDER"):
        resolve(lost)
    with pytest.raises(CheckpointError, match="revision 7 in file"):
        resolve(make_adapter(base_model_name_or_path=NAME, revision=7))


def test_a_name_in_a_suites_table_is_no_path_of_the_project(tmp_path: Path, elsewhere: Path) -> None:
    """The table stands in the project's folder, which is not the one that pytest was started in."""
    project = tmp_path / "project"
    (project / "there" / "model").mkdir(parents=True)
    config: Any = SimpleNamespace(
        invocation_params=SimpleNamespace(dir=elsewhere),
        rootpath=project,
        inipath=project / "pytest.ini",
        getoption=lambda name: None,
    )
    table = {"checkpoint": NAME, "base": "there/model"}
    given = Settings(config, {}, table).given()
    assert given["checkpoint"] == Path(NAME) and given["base"] == project / "there" / "model"


def test_two_commits_are_never_one_run(twins: Hub, elsewhere: Path) -> None:
    """Sabotage: without the commit in what a resumed run must agree on, records of two checkpoints would mix."""
    one = RunMaker().manifest(["a"], [0.0], 1)
    pinned = {"checkpoint": {"id": NAME, "revision": COMMITS["main"]}}
    first = replace(one, identity=replace(one.identity, hub=pinned))
    Path("run").mkdir()
    establish(Path("run"), first)
    establish(Path("run"), first)
    moved = {"checkpoint": pinned["checkpoint"] | {"revision": COMMITS["v1"]}}
    for hub in (moved, None):
        with pytest.raises(StoreError, match="it belongs to another evaluation"):
            establish(Path("run"), replace(one, identity=replace(one.identity, hub=hub)))
