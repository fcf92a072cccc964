"""What the unit tests share: a tiny random checkpoint, synthetic runs, and the command line in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import HarnessError
from harness.record import ItemResult, SiteCount
from harness.testing import tiny_checkpoint
from harness.testing.runs import RunMaker, make_counts, make_result

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one layer with random weights and the byte-level tokenizer; it has learned nothing."""
    return tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", seed=7)


@pytest.fixture(scope="session")
def arith() -> Path:
    """The checkpoint shipped with the repository."""
    return ROOT / "fixtures" / "arith-qwen2"


@pytest.fixture(scope="session", name="make_result")
def make_result_() -> Callable[..., ItemResult]:
    """The builder :func:`harness.testing.make_result`."""
    return make_result


@pytest.fixture(scope="session", name="make_counts")
def make_counts_() -> Callable[..., list[SiteCount]]:
    """The builder :func:`harness.testing.runs.make_counts`."""
    return make_counts


@pytest.fixture(scope="session")
def make_run() -> RunMaker:
    """Writes a certified run: ``make_run(path, {0.0: [[1], [0]], 0.05: [[1, 0], [0, 0]]})``."""
    return RunMaker()


@dataclass(frozen=True)
class Said:
    """What one call of the command line did."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of an error."""
        assert self.err.count("\n") == 1 and self.err.startswith("harness: "), self.err
        assert "Traceback" not in self.err
        return self.err.strip()

    @property
    def json(self) -> Any:
        """Standard output as strict JSON."""
        return json.loads(self.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The ``harness`` command in this process."""
    from harness.cli.main import main

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Said(caught.value.code, out, err)  # type: ignore[arg-type]

    return call


@pytest.fixture(scope="session")
def refusal() -> Callable[..., str]:
    """The single line that ``call(*arguments)`` is refused with."""

    def refused(
        call: Callable[..., Any], *arguments: Any, kind: type[HarnessError] = HarnessError, code: int = 2
    ) -> str:
        with pytest.raises(kind) as caught:
            call(*arguments)
        text = str(caught.value)
        assert "\n" not in text
        assert caught.value.exit_code == code
        assert text.count(";") >= 2, f"value, rule and way out: {text}"
        return text

    return refused
