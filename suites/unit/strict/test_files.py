"""Whole files: what is no text, no JSON object or no TOML is refused in one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.exceptions import CheckpointError, HarnessError, NoiseSpecError
from harness.strict import read_object, read_toml

pytestmark = pytest.mark.unit


def test_what_is_sound_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": [1]}')
    (tmp_path / "a.toml").write_text("a = [1]")
    assert read_object(tmp_path / "a.json") == read_toml(tmp_path / "a.toml") == {"a": [1]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[[noise", "it is not valid TOML"),
        (b"a = 1\na = 2", "it is not valid TOML"),
        (b"a = " + b"[" * 100_000, "it is not valid TOML"),
        (b"\xff\xfe", "it is not UTF-8 text (byte 0xff at 0); correct it, or save it as UTF-8"),
        (b"\xef\xbb\xbfa = 1", "byte-order mark"),
        (b"a = 1\0", "NUL"),
    ],
)
def test_toml_that_is_none(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(content)
    with pytest.raises(NoiseSpecError) as caught:
        read_toml(file, "noise file", NoiseSpecError)
    assert words in str(caught.value) and str(caught.value).startswith(f"noise file {file};")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1, "a": 2}', "the name 'a' is given twice"),
        (b"[1]", "a JSON object was expected"),
        (b"{", "unreadable"),
    ],
)
def test_json_that_is_no_object(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="copy it again") as caught:
        read_object(tmp_path / "a.json")
    assert words in str(caught.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"file .*none.toml; it cannot be read \(No such file or directory\); check"):
        read_toml(tmp_path / "none.toml")
