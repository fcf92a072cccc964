"""Names on a hub: pinned to a commit, read back from the cache, one line where no hub answers. The hub is local."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from harness.checkpoints import hub as ours
from harness.checkpoints.hub import hub_of, located
from harness.checkpoints.source import CheckpointRef, here, resolve, resolve_again
from harness.exceptions import CheckpointError
from suites.unit.checkpoints.fake_hub import COMMITS, NAME, Hub
from suites.unit.conftest import Said

pytestmark = pytest.mark.unit


def test_a_name_is_pinned_to_its_commit(hub: Hub, tiny: Path, elsewhere: Path) -> None:
    source = resolve(Path(NAME))
    assert source.details["hub"] == {"id": NAME, "revision": COMMITS["main"]}
    assert source.weights == resolve(tiny).weights and source.settings == resolve(tiny).settings
    old = resolve(Path(f"{NAME}@v1"))
    assert old.details["hub"]["revision"] == COMMITS["v1"] and old.settings != source.settings
    assert resolve(Path(f"{NAME}@{COMMITS['v1']}")).folder == old.folder
    assert not any("optimizer" in path for path in hub.asked)


def test_a_folder_is_never_looked_up(hub: Hub, tiny: Path, elsewhere: Path) -> None:
    shutil.copytree(tiny, elsewhere / NAME)
    assert resolve(Path(NAME)).folder == Path(NAME) and not hub.asked
    assert "hub" not in resolve(tiny).details


def test_without_a_hub_the_cache_is_used_and_said(
    hub: Hub, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = located(Path(NAME))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert located(Path(NAME)) == found
    assert f"no hub can be asked: checkpoint {NAME} is the one in its cache, commit {COMMITS['main']}" in caplog.text
    with pytest.raises(CheckpointError, match=r"not in the cache of the hub either, .* \(HF_HUB_OFFLINE is set\)"):
        located(Path(f"{NAME}@v1"))


def test_what_the_hub_does_not_have_is_one_line(hub: Hub, elsewhere: Path, refusal: Callable[..., str]) -> None:
    assert "check name and revision, and HF_TOKEN" in refusal(located, Path("someone/else"))
    assert "check name and revision" in refusal(located, Path(f"{NAME}@v7"))


def test_pickles_are_refused_before_anything_is_downloaded(
    hub: Hub, elsewhere: Path, tiny: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub.folders[COMMITS["main"]] = folder
    assert "its weights are pickles (pytorch_model.bin)" in refusal(located, Path(NAME))
    assert not any("/resolve/" in path for path in hub.asked)


def test_what_is_no_longer_in_the_cache_comes_from_the_same_commit(hub: Hub, hub_cache: Path, elsewhere: Path) -> None:
    source = resolve(Path(f"{NAME}@v1"))
    stored = source.to_json()
    shutil.rmtree(hub_cache)
    again = resolve_again(stored)
    assert again.weights == source.weights and again.details["hub"]["revision"] == COMMITS["v1"]


def test_references_are_found_too(hub: Hub, elsewhere: Path) -> None:
    found = here(CheckpointRef(Path(NAME)))
    assert isinstance(found, CheckpointRef) and hub_of(found.path) == {"id": NAME, "revision": COMMITS["main"]}


def test_an_evaluation_says_of_what_commit_it_is(hub: Hub, elsewhere: Path, cli: Callable[..., Said]) -> None:
    arguments = ("--task", "arith", "--items", 1, "--noise-levels", 0, "--max-new-tokens", 2, "--no-positive-control")
    run = cli("eval", NAME, *arguments, "--out", "run", "--json")
    stored = json.loads(Path("run/manifest.json").read_text())["checkpoint"]
    assert stored["hub"] == {"id": NAME, "revision": COMMITS["main"]} and run.json["checkpoint"] == stored
    assert f"Robustness of {NAME} at {COMMITS['main']}" in Path("run/report.md").read_text()
    assert cli("plan", f"{NAME}@v1", "--json").json["checkpoint"].endswith(COMMITS["v1"])


def test_a_hub_that_never_answers_is_one_line_in_time(tmp_path: Path) -> None:
    """A port that takes connections and says nothing; the client has no say in how long it waits for names of hosts."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        script = """
import sys, time
from harness.cli.main import main
from harness.checkpoints import hub
begun = time.monotonic()
try:
    main(["scan", "someone/tiny", "--format", "mxfp4"])
except SystemExit as end:
    print(end.code, hub.PATIENCE < 5 and time.monotonic() - begun < hub.PATIENCE + 20)
"""
        own = {"HF_ENDPOINT": address, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.split() == ["2", "True"], done.stderr
    assert done.stderr.count("\n") == 1 and "which cannot be asked" in done.stderr


def test_waiting_has_an_end_whatever_is_waited_for() -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"it did not answer within 0\.05 s"):
        ours._within(0.05, lambda: time.sleep(3))
    assert time.monotonic() - begun < 3

    def fails() -> Any:
        raise ValueError("of the call itself")

    with pytest.raises(ValueError, match="of the call itself"):
        ours._within(5, fails)
    assert ours._within(5, lambda: 7) == 7


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("models--org--name/snapshots/" + "0" * 40, {"id": "org/name", "revision": "0" * 40}),
        ("models--org--name/snapshots/main", None),
        ("datasets--org--name/snapshots/" + "0" * 40, None),
        ("checkpoints/snapshots/" + "0" * 40, None),
    ],
)
def test_a_folder_of_the_cache_is_known(tmp_path: Path, folder: str, found: dict[str, str] | None) -> None:
    assert hub_of(tmp_path / folder) == found
