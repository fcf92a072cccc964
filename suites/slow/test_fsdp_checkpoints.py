"""FSDP shards as verl saves them, converted by verl's own merger: the model that was sharded comes out.

Needs verl (make setup-full). The shards come from real ranks over gloo (fsdp_child.py).
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from harness.checkpoints.source import resolve
from harness.cli.main import main
from harness.evaluate.checkpoint import load_checkpoint
from harness.exceptions import CheckpointError
from suites.slow.fsdp_child import RANK_OF_LORA

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("verl") is None, reason="verl is not installed: make setup-full"),
]
CHILD = Path(__file__).with_name("fsdp_child.py")
IDS = torch.arange(40).view(2, 20)
Save = Callable[..., Path]


@pytest.fixture(scope="module")
def save(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Saves the shipped checkpoint in shards: ``save(world, alpha)``; the ``actor`` of a step."""

    def run(world: int, alpha: int = 0) -> Path:
        actor = tmp_path_factory.mktemp(f"ranks{world}") / "global_step_5" / "actor"
        actor.mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        given = [str(each) for each in (shipped, actor)]
        ranks = [
            subprocess.Popen([sys.executable, str(CHILD), *given, *map(str, (rank, world, alpha, port))])
            for rank in range(world)
        ]
        assert [rank.wait(timeout=300) for rank in ranks] == [0] * world
        return actor

    return run


@pytest.fixture(scope="module")
def two(save: Save) -> Path:
    return save(2)


@pytest.fixture(scope="module")
def two_with_lora(save: Save) -> Path:
    return save(2, 8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(cache))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=IDS).logits


def test_one_rank_and_two_give_the_model_bit_for_bit(save: Save, two: Path, shipped: Path) -> None:
    """The tied head is stored once more in the shards and once in the model."""
    single, double = resolve(save(1)), resolve(two.parent)
    assert single.kind == double.kind == "fsdp"
    assert single.weights == double.weights
    assert single.settings == double.settings
    stored, expected = load_file(double.folder / "model.safetensors"), load_file(shipped / "model.safetensors")
    assert set(stored) == set(expected)
    for name, tensor in stored.items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, expected[name]), name
    found = load_checkpoint(double)
    assert found.tokenizer.chat_template == load_checkpoint(shipped).tokenizer.chat_template
    assert found.model.generation_config.eos_token_id == load_checkpoint(shipped).model.generation_config.eos_token_id


def test_a_conversion_is_kept_by_content(two: Path, cache: Path, tmp_path: Path) -> None:
    source = resolve(two)
    copy = Path(shutil.copytree(two, tmp_path / "copy"))
    before = {found.name for found in cache.iterdir()}
    assert resolve(copy).folder == source.folder and {found.name for found in cache.iterdir()} == before
    (copy / "huggingface" / "chat_template.jinja").write_text("other")
    assert resolve(copy).folder != source.folder


def test_lora_in_shards_is_an_adapter_on_their_base(two_with_lora: Path, two: Path) -> None:
    merged, unmerged = resolve(two_with_lora), resolve(two_with_lora, adapter="unmerged")
    assert unmerged.details["base"]["weights"] == resolve(two).weights
    config = json.loads((unmerged.adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (RANK_OF_LORA, 8)
    merge = merged.details["merge"]
    assert merge["changed"]["modules"] == unmerged.details["adapter"]["modules"] == 8
    assert merge["dtype"] == "float32" and merge["difference"] < merge["effect"] / 5
    first, second = (logits(load_checkpoint(source).model) for source in (merged, unmerged))
    base = logits(load_checkpoint(resolve(two)).model)
    assert (first - second).abs().max() < (base - second).abs().max() / 5


def test_lora_without_its_scaling_is_refused(save: Save) -> None:
    with pytest.raises(CheckpointError, match=r"lora_train_meta\.json"):
        resolve(save(1, -8))


def test_damage_that_only_verl_can_see_is_one_line(two: Path, tmp_path: Path) -> None:
    actor = Path(shutil.copytree(two, tmp_path / "actor"))
    (actor / "fsdp_config.json").write_text('{"world_size": 1}')
    (actor / "model_world_size_2_rank_1.pt").unlink()
    (actor / "model_world_size_2_rank_0.pt").rename(actor / "model_world_size_1_rank_0.pt")
    with pytest.raises(CheckpointError, match="verl's merger failed") as caught:
        resolve(actor)
    assert "\n" not in str(caught.value)


def test_a_step_is_evaluated_through_the_command_line(two: Path, tmp_path: Path) -> None:
    given = ("--items", "4", "--noise-levels", "0,0.05", "--noise-seeds", "1", "--device", "cpu")
    with pytest.raises(SystemExit) as caught:
        main(["eval", str(two.parent), *given, "--out", str(tmp_path / "run")])
    assert not caught.value.code
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["checkpoint"]["kind"] == "fsdp" and manifest["checkpoint"]["shards"]["world_size"] == 2
    assert manifest["checkpoint"]["weights"] == manifest["identity"]["weights"] == resolve(two).weights
