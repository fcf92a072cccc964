"""Chat templates that ask for the date: told a constant, so that baselines hold and runs resume on another day."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.regenerate import prepared_again
from harness.gates.keys import key_differences
from harness.spec import EvalSpec
from harness.testing.tokenizer import CHAT_TEMPLATE
from suites.unit.conftest import Said

pytestmark = pytest.mark.unit

LLAMA = (
    "{%- if strftime_now is defined %}{%- set date_string = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{{- 'Today Date: ' + date_string }}"
)
"""The lines of Llama 3.2's own template."""
ON_REQUEST = "{%- if messages | length > 99 %}{{- strftime_now('%Y') }}{%- endif %}"


@pytest.fixture
def dated(tiny: Path, tmp_path: Path) -> Path:
    """The tiny checkpoint with a template that tells the date."""
    return with_template(tiny, tmp_path / "dated", LLAMA)


def with_template(tiny: Path, folder: Path, first: str) -> Path:
    """A copy of the checkpoint whose template begins with ``first``."""
    shutil.copytree(tiny, folder)
    (folder / "chat_template.jinja").write_text(first + CHAT_TEMPLATE)
    return folder


def on(monkeypatch: pytest.MonkeyPatch, day: str, checkpoint: Path, **given: Any) -> Prepared:
    """The evaluation as it is prepared where transformers' clock says ``day``."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromisoformat(day)

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    return prepare(checkpoint, EvalSpec("arith", items=2, levels=(0.0,), max_new_tokens=4, **given))


def text(prepared: Prepared) -> str:
    """The first prompt."""
    return str(prepared.checkpoint.tokenizer.decode(next(iter(prepared.prompts.values()))))


def test_the_clock_of_the_machine_is_not_asked(dated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity decides whether a run is resumed, the key whether a gate compares it with its baseline."""
    yesterday, today = (on(monkeypatch, day, dated) for day in ("2026-11-28", "2026-11-29"))
    assert text(today).startswith("Today Date: 26 Jul 2024")
    assert today.manifest().identity == yesterday.manifest().identity
    assert key_differences(today.key, yesterday.key) == ()
    assert today.key["template_date"] == today.manifest().to_json()["spec"]["template_date"] == "2024-07-26"


def test_another_date_is_another_measurement(dated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, usual = (on(monkeypatch, "2026-11-28", dated, template_date=day) for day in ("2025-03-04", "2024-07-26"))
    assert text(other).startswith("Today Date: 04 Mar 2025")
    assert len(key_differences(other.key, usual.key)) == 2  # the date, and the template's hash
    assert EvalSpec.from_json(other.spec.to_json()).template_date == "2025-03-04"


@pytest.mark.parametrize("first", ["", ON_REQUEST])
def test_the_key_is_as_before_where_no_prompt_holds_the_date(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    prepared = on(monkeypatch, "2026-11-28", with_template(tiny, tmp_path / "plain", first))
    assert "template_date" not in prepared.key


def test_a_manifest_of_before_means_the_constant() -> None:
    data = {name: value for name, value in EvalSpec("arith").to_json().items() if name != "template_date"}
    assert EvalSpec.from_json(data) == EvalSpec("arith")


@pytest.mark.parametrize("day", ["26 Jul 2024", "2024-7-26", "20240726", "2024-02-30", ""])
def test_what_is_no_day_is_refused(refusal: Callable[..., str], day: str) -> None:
    assert f"--template-date {day}; a day is written YYYY-MM-DD" in refusal(
        partial(EvalSpec, "arith", template_date=day)
    )


def test_the_command_line_passes_it_on(tmp_path: Path, cli: Callable[..., Said]) -> None:
    said = cli("eval", tmp_path, "--out", tmp_path / "run", "--template-date", "today")
    assert said.code == 2 and "--template-date today" in said.line


def test_a_run_is_resumed_and_repeated_on_another_day(
    dated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.evaluate.run import evaluate
    from harness.runs.loaded import load_run

    out = tmp_path / "run"
    for day in ("2026-11-28", "2026-11-29"):
        evaluate(on(monkeypatch, day, dated, positive_control=False), out)
    run = load_run(out)
    assert prepared_again(run, None, None, "cpu").key == run.arm.key
