"""Loading a checkpoint: every bad folder is one clear line, and the fingerprint is that of the weights."""

from __future__ import annotations

import json
import logging.handlers
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.evaluate.checkpoint import fingerprint_weights, load_checkpoint
from harness.exceptions import CheckpointError

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]
Tensors = dict[str, torch.Tensor]
WEIGHTS, MARK = "model.safetensors", "the-pickle-was-loaded"
QUERY = "model.layers.0.self_attn.q_proj.weight"


class Mark:
    """A pickle that touches ``path`` when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to damage."""
    return Path(shutil.copytree(tiny, tmp_path / "checkpoint"))


def weights(folder: Path, change: Callable[[Tensors], Any]) -> None:
    """Saves the weights again after ``change``."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def shards(folder: Path) -> dict[str, str]:
    """Splits the weights into two files with an index, and returns its map."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    owner = {name: f"model-{1 + index % 2:05d}-of-00002.safetensors" for index, name in enumerate(names)}
    for file in set(owner.values()):
        save_file({name: tensors[name] for name in names if owner[name] == file}, folder / file, {"format": "pt"})
    (folder / WEIGHTS).unlink()
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": owner}))
    return owner


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Mark(folder / MARK)))


def truncated(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def spoilt(value: float) -> Callable[[Path], None]:
    return lambda folder: weights(folder, lambda tensors: tensors[QUERY].view(-1)[5:7].fill_(value))


def another_vocabulary(size: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "tokenizer.json"
        data = json.loads(file.read_text())
        data["model"]["vocab"] |= {f"word {index}": index for index in range(260, size)}
        file.write_text(json.dumps(data))

    return change


def unlink(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def write(name: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing path": (shutil.rmtree, "no such folder"),
    "no config": (unlink("config.json"), "no config.json"),
    "config without weights": (unlink(WEIGHTS), "a config but no weights"),
    "garbage config": (write("config.json", "{"), "unreadable JSON"),
    "config that is a list": (write("config.json", "[]"), "a JSON object was expected"),
    "empty config": (write("config.json", "{}"), "model_type"),
    "unknown architecture": (lambda f: config(f, model_type="foo"), "model type `foo`"),
    "no causal language model": (lambda f: config(f, model_type="clip"), "Unrecognized configuration class"),
    "impossible heads": (lambda f: config(f, num_attention_heads=0), "ZeroDivisionError"),
    "ill-typed config": (lambda f: config(f, hidden_size="abc"), "hidden_size"),
    "code in the folder": (
        lambda f: config(f, model_type="own", auto_map={"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}),
        "custom code",
    ),
    "truncated weights": (truncated, "truncated or not safetensors"),
    "empty weight file": (write(WEIGHTS, ""), "truncated or not safetensors"),
    "no tensors": (lambda f: save_file({}, f / WEIGHTS), "hold no tensor"),
    "pickle": (pickled, "pickle (pytorch_model.bin), which is never loaded"),
    "NaN": (spoilt(float("nan")), f"tensor {QUERY} holds 2 NaN or infinite values of 4096"),
    "infinity": (spoilt(float("-inf")), f"tensor {QUERY} holds 2 NaN or infinite values of 4096"),
    "missing weight": (lambda f: weights(f, lambda t: t.pop(QUERY)), f"1 missing weights, the first is {QUERY}"),
    "unexpected weight": (
        lambda f: weights(f, lambda t: t.update({"model.layers.7.x": torch.ones(3)})),
        "1 unexpected weights, the first is model.layers.7.x",
    ),
    "weight of another shape": (
        lambda f: weights(f, lambda t: t.update({"model.norm.weight": torch.ones(3)})),
        "1 mismatched weights, the first is model.norm.weight (shape [3], the config says [64])",
    ),
    "missing shard": (lambda f: (f / sorted(shards(f).values())[0]).unlink(), "00001-of-00002.safetensors is missing"),
    "shard elsewhere": (
        lambda f: (
            unlink(WEIGHTS)(f),
            write(f"{WEIGHTS}.index.json", '{"weight_map": {"a": "../checkpoint/model.safetensors"}}')(f),
        ),
        "is missing",
    ),
    "garbage index": (lambda f: (shards(f), write(f"{WEIGHTS}.index.json", "{")(f)), "unreadable JSON"),
    "index without map": (write(f"{WEIGHTS}.index.json", '{"weight_map": [1]}'), "weight_map is damaged"),
    "no tokenizer": (unlink("tokenizer.json", "tokenizer_config.json"), "has no tokenizer"),
    "garbage tokenizer": (write("tokenizer.json", "{"), "tokenizer.json; unreadable JSON"),
    "tokenizer of nothing": (write("tokenizer.json", '{"model": {}}'), "its tokenizer cannot be loaded"),
    "larger vocabulary": (
        another_vocabulary(300),
        "tokenizer has 300 tokens and its embedding 260: another vocabulary",
    ),
    "smaller vocabulary": (
        lambda f: (config(f, vocab_size=300), weights(f, _wider)),
        "tokenizer has 260 tokens and its embedding 300",
    ),
}


def _wider(tensors: Tensors) -> None:
    table = tensors["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = torch.cat([table, table[:40]])


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """What transformers logs, which would stand on standard error beside the one line."""
    handler = logging.handlers.BufferingHandler(1000)
    logging.getLogger("transformers").addHandler(handler)
    yield handler.buffer
    logging.getLogger("transformers").removeHandler(handler)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_checkpoint_is_one_line(
    folder: Path, refusal: Refusal, logged: list[logging.LogRecord], capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    damage, words = BAD[kind]
    damage(folder)
    capfd.readouterr()
    logged.clear()
    text = refusal(load_checkpoint, folder, kind=CheckpointError)
    assert words in text
    assert str(folder) in text
    assert len(text) < 500 + len(str(folder))
    assert capfd.readouterr() == ("", "")
    assert not logged


def test_a_pickle_is_never_opened(folder: Path, refusal: Refusal) -> None:
    pickled(folder)
    refusal(load_checkpoint, folder, kind=CheckpointError)
    assert not (folder / MARK).exists()
    pickle.loads((folder / "pytorch_model.bin").read_bytes())
    assert (folder / MARK).exists(), "the mark would have been seen"


def test_a_file_is_no_checkpoint(tiny: Path, refusal: Refusal) -> None:
    text = refusal(load_checkpoint, tiny / WEIGHTS, kind=CheckpointError)
    assert "a file, not a folder" in text


def test_a_sound_checkpoint_loads_as_it_lies(tiny: Path) -> None:
    found = load_checkpoint(tiny)
    stored = load_file(tiny / WEIGHTS)
    loaded = found.model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in stored.items())
    assert not found.model.training
    assert (found.context, len(found.fingerprint)) == (4096, 64)
    assert found.fingerprint == fingerprint_weights(tiny)
    assert found.model.config._attn_implementation == "sdpa"
    narrow = load_checkpoint(tiny, "bfloat16", "eager").model
    assert (narrow.dtype, narrow.config._attn_implementation) == (torch.bfloat16, "eager")


def test_the_fingerprint_does_not_depend_on_sharding(folder: Path, tiny: Path) -> None:
    assert len(set(shards(folder).values())) == 2
    assert fingerprint_weights(folder) == fingerprint_weights(tiny)
    assert load_checkpoint(folder).fingerprint == fingerprint_weights(tiny)


def _flip_a_bit(tensors: Tensors) -> None:
    tensors[QUERY].view(-1)[17:18].view(torch.int32).bitwise_xor_(1)


@pytest.mark.parametrize(
    "change",
    [
        _flip_a_bit,
        lambda tensors: tensors.update({QUERY: tensors[QUERY].reshape(32, 128)}),
        lambda tensors: tensors.update({QUERY: tensors[QUERY].view(torch.int32)}),
        lambda tensors: tensors.update({QUERY + "x": tensors.pop(QUERY)}),
    ],
    ids=["bit", "shape", "dtype", "name"],
)
def test_the_fingerprint_sees_every_change(folder: Path, tiny: Path, change: Callable[[Tensors], Any]) -> None:
    weights(folder, change)
    assert fingerprint_weights(folder) != fingerprint_weights(tiny)


def test_eight_bit_weights_can_be_checked(folder: Path) -> None:
    weights(folder, lambda tensors: tensors.update({QUERY: tensors[QUERY].to(torch.float8_e4m3fn)}))
    assert len(fingerprint_weights(folder)) == 64
