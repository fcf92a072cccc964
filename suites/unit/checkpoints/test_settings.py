"""Which files are in force for an adapter on its base: groups that go together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.checkpoints.settings import TEMPLATE_FILE, compose_settings, own_settings

pytestmark = pytest.mark.unit


def folder(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return path


def composed(base: Path, adapter: Path, into: Path) -> dict[str, str]:
    into.mkdir()
    compose_settings(base, adapter, into)
    return {file.name: file.read_text() for file in into.iterdir()}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    files = {"config__json": "B", "generation_config__json": "B", "tokenizer__json": "B", "chat_template__jinja": "B"}
    return folder(tmp_path / "base", **files)


def test_an_adapter_without_settings_takes_all_of_its_base(base: Path, tmp_path: Path) -> None:
    adapter = folder(tmp_path / "adapter", adapter_config__json="A")
    assert not own_settings(adapter)
    found = composed(base, adapter, tmp_path / "into")
    assert set(found) == {"config.json", "generation_config.json", "tokenizer.json", TEMPLATE_FILE}
    assert set(found.values()) == {"B"}


def test_each_group_comes_from_one_folder_and_the_config_from_the_base(base: Path, tmp_path: Path) -> None:
    adapter = folder(tmp_path / "adapter", config__json="A", tokenizer__json="A", generation_config__json="A")
    assert own_settings(adapter)
    found = composed(base, adapter, tmp_path / "into")
    assert found == {"config.json": "B", "generation_config.json": "A", "tokenizer.json": "A", TEMPLATE_FILE: "B"}


def test_a_template_inside_the_base_is_written_out_for_an_adapter_with_a_tokenizer(base: Path, tmp_path: Path) -> None:
    (base / TEMPLATE_FILE).unlink()
    (base / "tokenizer_config.json").write_text(json.dumps({"chat_template": "inline"}))
    adapter = folder(tmp_path / "adapter", tokenizer__json="A", tokenizer_config__json="{}")
    assert composed(base, adapter, tmp_path / "into")[TEMPLATE_FILE] == "inline"


def test_the_template_of_the_adapter_wins(base: Path, tmp_path: Path) -> None:
    adapter = folder(tmp_path / "adapter", chat_template__jinja="A")
    assert composed(base, adapter, tmp_path / "into")[TEMPLATE_FILE] == "A"
