"""Every file of a checkpoint that can change its answers: damaged, it is refused by name before anything is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.checkpoints.checking import check_settings
from harness.checkpoints.folder import (
    INDEX_FILE,
    SINGLE_FILE,
    fingerprint_settings,
    fingerprint_weights,
    unread_weights,
    weight_files,
)
from harness.checkpoints.source import resolve
from harness.evaluate.checkpoint import load_checkpoint
from harness.exceptions import CheckpointError

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]
GENERATION = "generation_config.json"
SETTINGS = ("config.json", GENERATION, "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
STRAY = "model-00003-of-00003.safetensors"
SHARD = "model-{:05d}-of-00002.safetensors"


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to damage."""
    return Path(shutil.copytree(tiny, tmp_path / "checkpoint"))


def change(folder: Path, name: str, **fields: Any) -> None:
    file = folder / name
    data = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(data | fields))


def shard(folder: Path) -> dict[str, str]:
    """Writes the weights a second time, as two shards with an index, and returns its map."""
    tensors = load_file(folder / SINGLE_FILE)
    owner = {name: SHARD.format(1 + index % 2) for index, name in enumerate(sorted(tensors))}
    for file in set(owner.values()):
        save_file({name: tensors[name] for name in owner if owner[name] == file}, folder / file, {"format": "pt"})
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": owner}))
    return owner


def index(folder: Path, change: Callable[[dict[str, str]], Any]) -> None:
    """Two shards, the single file gone, and an index after ``change``."""
    owner = shard(folder)
    (folder / SINGLE_FILE).unlink()
    change(owner)
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": owner}))


def twice(folder: Path) -> None:
    index(folder, lambda owner: None)
    one, two = (load_file(folder / SHARD.format(number)) for number in (1, 2))
    save_file({**two, **dict(list(one.items())[:1])}, folder / SHARD.format(2), {"format": "pt"})


NORM = "model.norm.weight"
LAYOUTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "single file beside shards": (shard, f"it holds {SINGLE_FILE} and {INDEX_FILE}, two sets of weights"),
    "shards beside a single file": (
        lambda f: (shard(f), (f / INDEX_FILE).unlink()),
        f"it holds the shard {SHARD.format(1)}, which no index names (2 in all): two sets of weights",
    ),
    "shards without index": (
        lambda f: (shard(f), (f / INDEX_FILE).unlink(), (f / SINGLE_FILE).unlink()),
        "which no index names",
    ),
    "a shard left over": (
        lambda f: (
            index(f, lambda owner: None),
            shutil.copy(f / SHARD.format(1), f / "model-00003-of-00003.safetensors"),
        ),
        f"the shard model-00003-of-00003.safetensors, which {INDEX_FILE} names",
    ),
    "a tensor in two shards": (twice, f"is in {SHARD.format(1)} and in {SHARD.format(2)}"),
    "an index of another shard": (
        lambda f: index(f, lambda owner: owner.update({NORM: SHARD.format(3 - int(owner[NORM][10]))})),
        f"its index says that tensor {NORM} is in",
    ),
    "an index that lacks a tensor": (
        lambda f: index(f, lambda owner: owner.pop(NORM)),
        f"its index says that tensor {NORM} is in no shard, it is in",
    ),
    "an index of a tensor that is nowhere": (
        lambda f: index(f, lambda owner: owner.update({"lm_head.weight": SHARD.format(1)})),
        f"its index says that tensor lm_head.weight is in {SHARD.format(1)}, it is in no shard",
    ),
    "an index of nothing": (lambda f: index(f, dict.clear), "its weight_map is damaged"),
    "an index of a missing shard": (
        lambda f: (index(f, lambda owner: None), (f / SHARD.format(2)).unlink()),
        f"shard {SHARD.format(2)} is missing",
    ),
    "an index with a name twice": (
        lambda f: (
            index(f, lambda owner: None),
            (f / INDEX_FILE).write_text(f'{{"weight_map": {{"{NORM}": "a", "{NORM}": "b"}}}}'),
        ),
        f"the name '{NORM}' is given twice",
    ),
    "weights of another name": (
        lambda f: (f / SINGLE_FILE).rename(f / "model.fp16.safetensors"),
        f"it holds model.fp16.safetensors, but neither {SINGLE_FILE} nor {INDEX_FILE}",
    ),
    "weights named by the config": (
        lambda f: (
            shutil.copy(f / SINGLE_FILE, f / "x.safetensors"),
            change(f, "config.json", transformers_weights="x.safetensors"),
        ),
        "transformers_weights 'x.safetensors'",
    ),
    "a link to nothing": (
        lambda f: ((f / SINGLE_FILE).unlink(), (f / SINGLE_FILE).symlink_to("gone")),
        "it is a link whose target is gone",
    ),
    "an index that links to nothing": (lambda f: (f / INDEX_FILE).symlink_to("gone"), "a link whose target is gone"),
    "an adapter beside a model": (
        lambda f: (f / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1}'),
        "it holds both model.safetensors and adapter_config.json",
    ),
    "an adapter's link to nothing": (
        lambda f: (f / "adapter_config.json").symlink_to("gone"),
        "a link whose target is gone",
    ),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_folder_with_two_meanings_is_refused_by_name(folder: Path, refusal: Refusal, kind: str) -> None:
    damage, words = LAYOUTS[kind]
    damage(folder)
    assert words in refusal(resolve, folder, kind=CheckpointError)


def test_an_index_of_the_single_file_is_one_layout(folder: Path, tiny: Path) -> None:
    names = load_file(folder / SINGLE_FILE)
    (folder / INDEX_FILE).write_text(json.dumps({"weight_map": dict.fromkeys(names, SINGLE_FILE)}))
    assert weight_files(folder) == (folder / SINGLE_FILE,)
    assert fingerprint_weights(folder) == fingerprint_weights(tiny)


@pytest.mark.parametrize("name", ["consolidated.safetensors", "model.fp16.safetensors", "adapter_model.safetensors"])
def test_other_weights_are_named_and_do_not_count(
    folder: Path, tiny: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    save_file({"x": torch.ones(3)}, folder / name, {"format": "pt"})
    assert unread_weights(folder) == (name,)
    assert resolve(folder).weights == fingerprint_weights(tiny)
    assert f"holds {name} as well, which is not loaded" in caplog.text
    loaded = load_checkpoint(folder).model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in load_file(tiny / SINGLE_FILE).items())


def test_pickles_beside_safetensors_are_left_alone(folder: Path, tiny: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"no model")
    (folder / "sub").mkdir()
    shutil.copy(folder / SINGLE_FILE, folder / "sub")
    assert resolve(folder).weights == fingerprint_weights(tiny)


def test_links_to_files_are_files(folder: Path, tiny: Path) -> None:
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    for file in list(folder.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(blobs / file.name)
    assert (resolve(folder).weights, resolve(folder).settings) == (resolve(tiny).weights, resolve(tiny).settings)


def _wide(data: bytes) -> bytes:
    """Two bytes for a character, all of them ASCII: valid UTF-8, too."""
    return data.decode("ascii", "ignore").encode("utf-16-le")


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda data: data[: len(data) // 2], "unreadable JSON"),
    "one byte short": (lambda data: data.rstrip()[:-1], "unreadable JSON"),
    "empty": (lambda data: b"", "unreadable JSON"),
    "UTF-16": (lambda data: data.decode().encode("utf-16"), "it is not UTF-8 text (byte 0xff at 0)"),
    "UTF-16 without mark": (
        _wide,
        "it holds a NUL character at",
    ),
    "byte-order mark": (lambda data: b"\xef\xbb\xbf" + data, "it begins with a byte-order mark"),
    "zeros": (lambda data: data[:20] + bytes(20) + data[40:], "it holds a NUL character at 20"),
    "Latin-1": (lambda data: data[:-2] + b', "x": "\xe4"}', "it is not UTF-8 text"),
    "two objects": (lambda data: data + data, "unreadable JSON (Extra data"),
    "a list": (lambda data: b"[" + data + b"]", "a JSON object was expected"),
    "a name twice": (lambda data: b'{"x": 1, "x": 2, ' + data.lstrip()[1:], "the name 'x' is given twice"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [name for name in SETTINGS if name.endswith(".json")])
def test_a_damaged_file_is_refused_by_name(folder: Path, refusal: Refusal, name: str, damage: str) -> None:
    spoil, words = DAMAGES[damage]
    (folder / name).write_bytes(spoil((folder / name).read_bytes()))
    line = refusal(resolve, folder, kind=CheckpointError)
    assert words in line and str(folder / name) in line


@pytest.mark.parametrize("name", SETTINGS)
def test_a_file_that_is_a_link_to_nothing_is_refused(folder: Path, refusal: Refusal, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to(folder / "gone")
    assert "a link whose target is gone" in refusal(resolve, folder, kind=CheckpointError)


def test_a_file_that_may_not_be_read_is_refused(
    folder: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    assert "it cannot be read (Permission denied)" in refusal(check_settings, folder, kind=CheckpointError)


VALUES: dict[str, tuple[str, dict[str, Any], str]] = {
    "nested stop tokens": (GENERATION, {"eos_token_id": [[258, 257]]}, "eos_token_id [[258, 257]]"),
    "no stop token": (GENERATION, {"eos_token_id": []}, "eos_token_id []"),
    "stop token as text": (GENERATION, {"eos_token_id": "258"}, "eos_token_id '258'"),
    "stop token as truth value": (GENERATION, {"eos_token_id": True}, "eos_token_id True"),
    "stop token as a fraction": (GENERATION, {"eos_token_id": 258.0}, "eos_token_id 258.0"),
    "negative stop token": (GENERATION, {"eos_token_id": [258, -1]}, "eos_token_id [258, -1]"),
    "padding as text": (GENERATION, {"pad_token_id": "256"}, "pad_token_id '256'"),
    "nested stop tokens of the config": ("config.json", {"eos_token_id": [[258]]}, "eos_token_id [[258]]"),
    "stop tokens of an inner config": ("config.json", {"text_config": {"eos_token_id": [[2]]}}, "eos_token_id [[2]]"),
    "token as a number": ("tokenizer_config.json", {"eos_token": 258}, "eos_token 258"),
    "token without content": ("tokenizer_config.json", {"pad_token": {"lstrip": True}}, "pad_token {'lstrip': True}"),
    "template as a number": ("tokenizer_config.json", {"chat_template": 1}, "chat_template 1"),
    "templates without names": ("tokenizer_config.json", {"chat_template": [{"template": ""}]}, "chat_template ["),
    "added tokens as a list": ("tokenizer_config.json", {"added_tokens_decoder": ["a"]}, "added_tokens_decoder ["),
    "a tokenizer elsewhere": ("tokenizer_config.json", {"tokenizer_file": "../other.json"}, "outside the checkpoint"),
    "tokenizer without model": ("tokenizer.json", {"model": None}, "model None"),
    "tokens map": ("special_tokens_map.json", {"eos_token": ["x"]}, "eos_token ['x']"),
    "added token": ("added_tokens.json", {"<x>": "258"}, "token '<x>'"),
    "vocabulary": ("vocab.json", {"a": 1.5}, "token 'a'"),
    "legacy template": ("chat_template.json", {"chat_template": 3}, "chat_template 3"),
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_of_another_type_is_refused(folder: Path, refusal: Refusal, kind: str) -> None:
    name, fields, words = VALUES[kind]
    (folder.parent / "other.json").write_text("{}")
    change(folder, name, **fields)
    line = refusal(resolve, folder, kind=CheckpointError)
    assert words in line and str(folder / name) in line


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "additional_chat_templates/tool.jinja", "merges.txt", "vocab.txt", "spiece.model"]
)
def test_other_files_are_read_and_part_of_the_identity(folder: Path, refusal: Refusal, name: str) -> None:
    before = fingerprint_settings(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{{ messages }}")
    assert fingerprint_settings(folder) != before
    check_settings(folder)
    (folder / name).write_bytes(b"")
    assert "it is empty" in refusal(resolve, folder, kind=CheckpointError)
    if not name.endswith(".model"):
        (folder / name).write_bytes(b"{{ messages }}\xff")
        assert "it is not UTF-8 text" in refusal(resolve, folder, kind=CheckpointError)


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json", "hf_quant_config.json"])
def test_quantization_configs_are_part_of_the_identity(folder: Path, refusal: Refusal, name: str) -> None:
    before = fingerprint_settings(folder)
    (folder / name).write_text("{")
    assert "unreadable JSON" in refusal(resolve, folder, kind=CheckpointError)
    (folder / name).write_text('{"bits": 4}')
    assert fingerprint_settings(folder) != before


def test_a_template_that_is_cut_off_is_refused(folder: Path, refusal: Refusal) -> None:
    text = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(text[: len(text) // 2])
    assert "its chat template is damaged" in refusal(load_checkpoint, folder, kind=CheckpointError)


def test_settings_that_change_while_they_are_loaded_are_refused(folder: Path, refusal: Refusal) -> None:
    source = resolve(folder)
    change(folder, GENERATION, eos_token_id=[257, 258])
    assert "changed while it was loaded" in refusal(load_checkpoint, source, kind=CheckpointError)


def test_stop_tokens_are_those_of_the_file(folder: Path) -> None:
    change(folder, GENERATION, eos_token_id=[257, 258])
    assert load_checkpoint(folder).model.generation_config.eos_token_id == [257, 258]
