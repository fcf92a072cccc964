"""``[tool.robustness]`` of a project: read strictly, and not at all where it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.exceptions import HarnessError
from harness.pytest_plugin.settings import _table

pytestmark = pytest.mark.unit


@pytest.fixture
def project(tmp_path: Path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "pyproject.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_keys_may_be_written_with_hyphens(project) -> None:
    assert _table(project("[tool.robustness]\nnoise-seeds = 3\nmargin = 0.1\n")) == {"noise_seeds": 3, "margin": 0.1}


@pytest.mark.parametrize("content", ["", "[tool.other]\nx = 1\n", b"\xff\xfe", "[tool.ruff]\n# broken ["])
def test_what_does_not_speak_of_it_is_not_read(project, content: str | bytes, tmp_path: Path) -> None:
    assert _table(project(content)) == {} == _table(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "[tool.robustness]\nmargn = 1\n",
            "[tool.robustness]: unknown key 'margn'; nothing reads it; did you mean 'margin'",
        ),
        ("tool = 3\n# robustness", "[tool]: 3; it must be a table"),
        ("[tool]\nrobustness = 3\n", "[tool.robustness]: 3; it must be a table"),
        ("[tool.robustness\n", "it is not valid TOML"),
        (b"# robustness \xff", "it is not UTF-8 text"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_file(project, content: str | bytes, words: str) -> None:
    path = project(content)
    with pytest.raises(HarnessError) as caught:
        _table(path)
    assert words in str(caught.value) and str(path) in str(caught.value)
