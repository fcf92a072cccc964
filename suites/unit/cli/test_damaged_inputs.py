"""Damaged checkpoints under every verb: one line and exit code 2, or the result of the sound one; never another number.

Plus what is given to a verb in the wrong place: a run for a checkpoint, a checkpoint for a run, a file for a folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs.loaded import load_run

pytestmark = pytest.mark.long

Verb = Callable[..., Any]
EVAL = ("--items", 2, "--max-new-tokens", 2, "--noise-levels", "0,0.05", "--noise-seeds", 1, "--device", "cpu")
JSON = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
TEMPLATE, WEIGHTS = "chat_template.jinja", "model.safetensors"

CUTS: dict[str, Callable[[bytes], bytes]] = {
    "nothing left": lambda data: b"",
    "a tenth": lambda data: data[: len(data) // 10],
    "half": lambda data: data[: len(data) // 2],
    "all but 2 bytes": lambda data: data.rstrip()[:-2],
    "UTF-16": lambda data: data.decode("latin-1").encode("utf-16"),
    "a hole": lambda data: data[: len(data) // 2] + bytes(8) + data[len(data) // 2 + 8 :],
    "foreign bytes": lambda data: data[: len(data) // 3] + b"\xff\xfe" + data[len(data) // 3 :],
}


@pytest.fixture(scope="module")
def sound(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the verbs say of the sound checkpoint, with the folder of its run."""
    from click.testing import CliRunner

    from harness.cli.main import command

    run = tmp_path_factory.mktemp("sound") / "run"
    runner = CliRunner()
    scanned = runner.invoke(command, ["scan", str(tiny), "--format", "mxfp4", "--json"])
    planned = runner.invoke(command, ["plan", str(tiny), "--device", "cpu", "--json"])
    runner.invoke(command, ["eval", str(tiny), "--out", str(run), *map(str, EVAL)])
    return {"run": run, "scan": json.loads(scanned.stdout), "plan": json.loads(planned.stdout), "answers": answers(run)}


def answers(run: Path) -> list[Any]:
    """Every record, in order."""
    return sorted(load_run(run).results, key=lambda result: (result.level, result.seed, result.item))


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint to damage."""
    return Path(shutil.copytree(tiny, tmp_path / "checkpoint"))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", [*JSON, TEMPLATE, WEIGHTS])
def test_a_damaged_file_gives_no_other_number(
    cli: Verb, folder: Path, sound: dict[str, Any], tmp_path: Path, name: str, cut: str
) -> None:
    file = folder / name
    file.write_bytes(CUTS[cut](file.read_bytes()))
    changes_weights = name == WEIGHTS and cut == "a hole"  # other weights, with a fingerprint of their own
    out = tmp_path / "run"
    calls = {
        "plan": ("plan", folder, "--device", "cpu", "--json"),
        "scan": ("scan", folder, "--format", "mxfp4", "--json"),
        "eval": ("eval", folder, "--out", out, *EVAL),
        "replay": ("replay", sound["run"], "--item", item_of(sound), "--level", 0.05, "--checkpoint", folder),
    }
    for verb, call in calls.items():
        said = cli(*call)
        if said.code == 2:
            assert said.line and not said.out, verb
            assert str(folder) in said.line
            continue
        if changes_weights:
            assert load_run(out).asked.weights != identity(sound)["weights"] if verb == "eval" else 1
            assert said.code == (4 if verb == "replay" else said.code)
            continue
        assert said.code == 0 or verb in ("eval", "replay"), (verb, said)
        assert same(verb, said, sound, out), (verb, said)
    assert not out.exists() or changes_weights or answers(out) == sound["answers"]


def item_of(sound: dict[str, Any]) -> str:
    return str(sound["answers"][0].item)


def identity(sound: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = vars(load_run(sound["run"]).asked)
    return found


def same(verb: str, said: Any, sound: dict[str, Any], out: Path) -> bool:
    """The numbers of the sound checkpoint; a scan's settings fingerprint may differ, that is what it is for."""
    if verb == "eval":
        return answers(out) == sound["answers"]
    if verb == "scan":
        return said.json["modules"] == sound["scan"]["modules"]
    if verb == "plan":
        return said.json["plans"][0]["expected"] == sound["plan"]["plans"][0]["expected"]
    return bool(said.code in (0, 4))


NO_CHECKPOINT: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "a run": (lambda folder, run: run, "there is no config.json in it"),
    "a file": (lambda folder, run: folder / WEIGHTS, "a file, not a folder"),
    "an empty folder": (lambda folder, run: empty(folder.parent / "empty"), "there is no config.json in it"),
    "nothing": (lambda folder, run: folder.parent / "nothing", "no such folder"),
    "its config": (lambda folder, run: folder / "config.json", "a file, not a folder"),
}


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("kind", NO_CHECKPOINT)
def test_what_is_no_checkpoint(cli: Verb, folder: Path, sound: dict[str, Any], tmp_path: Path, kind: str) -> None:
    make, words = NO_CHECKPOINT[kind]
    given = make(folder, sound["run"])
    calls = [("plan", given), ("scan", given, "--format", "mxfp4"), ("eval", given, "--out", tmp_path / "out", *EVAL)]
    for call in calls:
        said = cli(*call)
        assert (said.code, said.out) == (2, ""), call
        assert words in said.line
    assert not (tmp_path / "out").exists()


CONFIGS: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "a run": (lambda folder, run: run, "no such file"),
    "weights": (lambda folder, run: folder / WEIGHTS, "not UTF-8 text"),
    "another JSON file": (lambda folder, run: folder / "generation_config.json", "it names no model_type"),
    "a template": (lambda folder, run: folder / TEMPLATE, "unreadable JSON"),
    "a truncated one": (lambda folder, run: cut_config(folder), "unreadable JSON"),
    "a name twice": (lambda folder, run: twice(folder), "the name 'hidden_size' is given twice"),
    "nested stop tokens": (lambda folder, run: nested(folder), "with value [[1]]"),
}


def cut_config(folder: Path) -> Path:
    file = folder / "config.json"
    file.write_bytes(file.read_bytes()[:100])
    return file


def twice(folder: Path) -> Path:
    file = folder / "config.json"
    file.write_text('{"hidden_size": 32, ' + file.read_text().lstrip()[1:])
    return folder


def nested(folder: Path) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [[1]]}))
    return folder


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_no_config(cli: Verb, folder: Path, sound: dict[str, Any], kind: str) -> None:
    make, words = CONFIGS[kind]
    said = cli("plan", "--config", make(folder, sound["run"]))
    assert (said.code, said.out) == (2, "")
    assert words in said.line


def test_what_is_no_run(cli: Verb, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    empty(tmp_path / "empty")
    for given in (folder, folder / WEIGHTS, tmp_path / "empty", tmp_path / "nothing"):
        for call in (
            ("replay", given, "--item", "a", "--level", 0.05),
            ("baseline", "accept", given, "--name", "a", "--reason", "r"),
            ("baseline", "show", given),
            ("baseline", "diff", given, given),
            ("gate", given, "--baseline", given),
            ("gate", given, "--baseline", "a"),
            ("compare", "--arm", f"one={given}", "--arm", f"two={given}"),
        ):
            said = cli(*call)
            assert said.code == 2 and said.line, call
            assert said.out == ""


def test_an_adapter_of_another_base_is_exit_4_under_every_verb(cli: Verb, folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    adapter = empty(tmp_path / "adapter")
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(folder), "r": 2, "lora_alpha": 2}
    settings |= {"target_modules": ["q_proj"], "base_model_sha256": "0" * 64}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    save_file(
        {name.format("A"): torch.ones(2, 64), name.format("B"): torch.ones(64, 2)},
        adapter / "adapter_model.safetensors",
    )
    for call in (
        ("plan", adapter),
        ("scan", adapter, "--format", "mxfp4"),
        ("scan", adapter, "--format", "mxfp4", "--adapter", "unmerged"),
        ("eval", adapter, "--out", tmp_path / "out", *EVAL),
    ):
        said = cli(*call)
        assert (said.code, said.out) == (4, ""), call
        assert "the adapter records 0000000000000000..." in said.line
