"""verl's FSDP folders without verl: what is whole, how its merger is called, what it leaves, and every damage."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.checkpoints.folder import fingerprint_weights
from harness.checkpoints.shards import find_shards
from harness.checkpoints.source import resolve, resolve_again
from harness.exceptions import CheckpointError, HarnessError

pytestmark = pytest.mark.unit

Make = Callable[..., Path]
Refusal = Callable[..., str]


def test_a_step_and_its_actor_are_the_same(make_shards: Make, tiny: Path) -> None:
    actor = make_shards(2)
    shards = find_shards(actor)
    assert shards is not None and shards == find_shards(actor.parent)
    assert shards.world_size == 2 and [file.name[-4] for file in shards.files] == ["0", "1"]
    assert find_shards(tiny) is None


def test_the_fingerprint_is_that_of_the_content(make_shards: Make) -> None:
    first, second = (find_shards(make_shards(2)) for _ in range(2))
    assert first is not None and second is not None
    (second.folder / "optim_world_size_2_rank_0.pt").touch()  # says nothing of the weights
    assert first.fingerprint == second.fingerprint
    template = second.folder / "huggingface" / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    third = find_shards(second.folder)
    assert third is not None and third.fingerprint != first.fingerprint


def cut(actor: Path) -> None:
    file = actor / "model_world_size_2_rank_1.pt"
    file.write_bytes(file.read_bytes()[:-30])


def sized(world: Any) -> Callable[[Path], Any]:
    return lambda actor: (actor / "fsdp_config.json").write_text(json.dumps({"world_size": world}))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing rank": (lambda actor: (actor / "model_world_size_2_rank_1.pt").unlink(), "rank_1.pt is missing (1 of 2)"),
    "missing first": (lambda actor: (actor / "model_world_size_2_rank_0.pt").unlink(), "rank_0.pt is missing"),
    "cut": (cut, "cut short"),
    "empty": (lambda actor: (actor / "model_world_size_2_rank_0.pt").write_bytes(b""), "cut short"),
    "larger world": (sized(4), "of another world size than fsdp_config.json says (4)"),
    "smaller world": (sized(1), "of another world size"),
    "no number": (sized("2"), "world_size '2' is not a whole number"),
    "two worlds": (lambda actor: (actor / "model_world_size_1_rank_0.pt").touch(), "of another world size"),
    "no fsdp_config": (lambda actor: (actor / "fsdp_config.json").unlink(), "there is no fsdp_config.json"),
    "no config": (lambda actor: shutil.rmtree(actor / "huggingface"), "there is no huggingface/config.json"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_before_verl_is_asked(
    make_shards: Make, refusal: Refusal, merger: Path, cache: Path, kind: str
) -> None:
    actor = make_shards(2)
    damage, words = DAMAGE[kind]
    damage(actor)
    assert words in refusal(resolve, actor.parent, kind=CheckpointError)
    assert merger.read_text() == ""


def test_the_folder_of_a_training_names_its_steps(make_shards: Make, refusal: Refusal) -> None:
    run = make_shards(1).parent.parent
    (run / "latest_checkpointed_iteration.txt").write_text("3")
    assert "for example global_step_3" in refusal(resolve, run, kind=CheckpointError)


def test_shards_are_converted_once_after_a_warning(
    make_shards: Make, merger: Path, cache: Path, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    actor = make_shards(2)
    with caplog.at_level(logging.WARNING):
        source = resolve(actor.parent)
    assert "pickles, which can run code" in caplog.text
    assert (source.kind, source.adapter) == ("fsdp", None)
    assert source.folder.parent == cache and source.weights == fingerprint_weights(tiny)
    assert (
        source.details["shards"]["world_size"] == 2
        and source.details["shards"]["merger"] == "verl 9.9, in the dtype of the shards"
    )
    assert resolve(actor) == resolve(actor) and resolve(actor).folder == source.folder
    assert merger.read_text().splitlines() == [f"merge fsdp {actor}"]
    assert resolve_again(source.to_json()) == source


def test_verl_is_needed_for_what_is_not_converted_yet(
    make_shards: Make, merger: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    known, new = make_shards(1), make_shards(2)
    source = resolve(known)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "verl" else find(name, *more))
    assert "make setup-full" in refusal(resolve, new, kind=HarnessError)
    assert resolve(known) == source


def test_a_failing_merger_is_one_line_and_leaves_nothing(
    make_shards: Make, merger: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal, tmp_path: Path
) -> None:
    actor = make_shards(1)
    monkeypatch.setenv("MERGER_FAILS", "1")
    assert "verl's merger failed (ValueError: the shards do not fit)" in refusal(resolve, actor, kind=CheckpointError)
    monkeypatch.delenv("MERGER_FAILS")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("MERGER_GIVES", str(tmp_path / "empty"))
    assert "there is no config.json in it" in refusal(resolve, actor, kind=CheckpointError)
    assert [found for found in cache.iterdir() if found.is_dir()] == []


def test_options_of_adapters_do_not_fit_shards_without_one(
    make_shards: Make, merger: Path, cache: Path, tiny: Path, refusal: Refusal
) -> None:
    actor = make_shards(1)
    assert "hold no LoRA adapter" in refusal(lambda: resolve(actor, adapter="unmerged"))
    assert "hold no LoRA adapter" in refusal(lambda: resolve(actor, base=tiny))


@pytest.fixture
def with_lora(
    make_shards: Make, make_adapter: Make, merger: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Shards whose conversion holds an adapter beside the base, as verl's merger leaves it."""
    given = Path(shutil.copytree(tiny, tmp_path / "given"))
    shutil.copytree(make_adapter(base_model_name_or_path=None), given / "lora_adapter")
    monkeypatch.setenv("MERGER_GIVES", str(given))
    return make_shards(2)


def test_an_adapter_in_shards_is_one_on_their_own_base(with_lora: Path, tiny: Path, refusal: Refusal) -> None:
    (with_lora / "lora_train_meta.json").write_text('{"r": 2, "lora_alpha": 4}')
    source = resolve(with_lora, adapter="unmerged")
    assert source.kind == "fsdp" and source.path == with_lora
    assert source.adapter == source.folder / "lora_adapter"
    assert source.details["base"]["recorded"] == "in the same shards"
    assert source.details["base"]["weights"] == fingerprint_weights(tiny)
    assert resolve_again(source.to_json()) == source
    assert "hold the base themselves" in refusal(lambda: resolve(with_lora, base=tiny))


def test_an_adapter_whose_scaling_was_not_kept_is_refused(with_lora: Path, refusal: Refusal) -> None:
    line = refusal(lambda: resolve(with_lora, adapter="unmerged"), kind=CheckpointError)
    assert "lora_train_meta.json" in line and "lora_alpha" in line


def test_an_adapter_without_its_base_is_refused(
    with_lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Refusal
) -> None:
    program = tmp_path / "site" / "verl" / "model_merger" / "__main__.py"
    program.write_text(program.read_text() + "\nsys.exit('RuntimeError: Incomplete Hugging Face model output')\n")
    (tmp_path / "given" / "model.safetensors").unlink()
    assert "a LoRA adapter alone" in refusal(resolve, with_lora, kind=CheckpointError)
