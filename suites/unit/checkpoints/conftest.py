"""What the tests of checkpoint sources share: an adapter written without peft, a hub, a stand-in for verl's merger."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from suites.unit.checkpoints.checkpoint_parts import MERGER, RANK, TARGETS, tensors
from suites.unit.checkpoints.fake_hub import Hub, served


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of converted checkpoints, named in the environment."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HARNESS_CACHE", str(folder))
    return folder


@pytest.fixture
def make_adapter(tiny: Path, tmp_path: Path, cache: Path) -> Callable[..., Path]:
    """Writes a LoRA adapter on the tiny checkpoint: ``make_adapter(lora_alpha=8)``; ``stored`` replaces its tensors."""

    def make(stored: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
        folder = tmp_path / f"adapter{len(list(tmp_path.glob('adapter*')))}"
        folder.mkdir()
        settings = {
            "peft_type": "LORA",
            "base_model_name_or_path": str(tiny),
            "r": RANK,
            "lora_alpha": 4,
            "target_modules": list(TARGETS),
        }
        (folder / "adapter_config.json").write_text(json.dumps(settings | config))
        save_file(tensors() if stored is None else stored, folder / "adapter_model.safetensors")
        return folder

    return make


@pytest.fixture
def make_shards(tiny: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a ``global_step_3/actor`` as verl does, with archives that hold no pickle: ``make_shards(2)``."""

    def make(world: int = 2) -> Path:
        actor = tmp_path / f"run{len(list(tmp_path.glob('run*')))}" / "global_step_3" / "actor"
        (actor / "huggingface").mkdir(parents=True)
        for rank in range(world):
            with zipfile.ZipFile(actor / f"model_world_size_{world}_rank_{rank}.pt", "w") as archive:
                archive.writestr("archive/data.pkl", f"shard {rank}")
        (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": world}))
        for file in tiny.iterdir():
            if file.suffix in (".json", ".jinja"):
                (actor / "huggingface" / file.name).write_bytes(file.read_bytes())
        return actor

    return make


@pytest.fixture
def merger(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package ``verl`` whose merger gives the tiny checkpoint; returns the file that names its calls."""
    package = tmp_path / "site" / "verl" / "model_merger"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(MERGER)
    info = tmp_path / "site" / "verl-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: verl\nVersion: 9.9\n")
    calls = tmp_path / "calls.txt"
    calls.touch()
    monkeypatch.delitem(sys.modules, "verl", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("MERGER_CALLS", str(calls))
    monkeypatch.setenv("MERGER_GIVES", str(tiny))
    return calls


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub's client, which is online."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    return folder


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the tiny checkpoint as main, and with another configuration as v1."""
    old = tmp_path / "old"
    shutil.copytree(tiny, old)
    config = json.loads((old / "config.json").read_text())
    (old / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-4}))
    (old / "optimizer.pt").write_bytes(b"never read")
    with served({"main": tiny, "v1": old}) as found:
        client = huggingface_hub.HfApi(endpoint=found.url)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: client)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", client.snapshot_download)
        yield found


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
