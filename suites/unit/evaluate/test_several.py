"""Several tasks in one evaluation: one load, one run for each, resumed task by task."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate import api, prepared
from harness.evaluate.api import evaluate, evaluate_tasks
from harness.runs.loaded import load_run
from harness.spec import EvalSpec, parse_noise

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]
NOISE = parse_noise("relative_gaussian @ op:linear")


@pytest.fixture
def specs(tmp_path: Path) -> dict[str, EvalSpec]:
    rows = [{"Body": f"He has {n} pens.", "Question": "How many?", "Answer": n} for n in range(6)]
    (tmp_path / "svamp.json").write_text(json.dumps(rows))
    arith = EvalSpec("arith", items=3, levels=(0.0, 0.05), noise_seeds=1, noise=NOISE, max_new_tokens=3)
    return {"arith": arith, "svamp": replace(arith, task="svamp", data=str(tmp_path / "svamp.json"))}


def test_one_load_and_the_records_of_evaluations_apart(
    tiny: Path, specs: dict[str, EvalSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[object] = []
    original = prepared.load_checkpoint
    monkeypatch.setattr(prepared, "load_checkpoint", lambda *given: loads.append(given) or original(*given))
    together = evaluate_tasks(tiny, specs, tmp_path / "together")
    assert len(loads) == 1 and list(together) == ["arith", "svamp"]
    for task, spec in specs.items():
        alone = evaluate(tiny, spec, tmp_path / task)
        assert list(together[task].results) == list(alone.results)
        assert together[task].manifest.identity == alone.manifest.identity
        assert together[task].arm.certificate.status == alone.arm.certificate.status
    again = evaluate_tasks(tiny, specs, tmp_path / "together")
    assert all(list(again[task].results) == list(together[task].results) for task in specs)


def test_what_was_killed_between_two_tasks_goes_on_there(
    tiny: Path, specs: dict[str, EvalSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def killed(found: Any, out: Path, *rest: Any) -> None:
        if found.task.name == "svamp":
            raise KeyboardInterrupt
        original(found, out, *rest)

    original = api.run_prepared
    monkeypatch.setattr(api, "run_prepared", killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate_tasks(tiny, specs, tmp_path / "out")
    first = load_run(tmp_path / "out" / "arith")
    assert first.complete and not (tmp_path / "out" / "svamp").exists()

    def noted(found: Any, out: Path, *rest: Any) -> None:
        def counted(count: int, advance: Callable[[int], None] = rest[1]) -> None:
            asked.extend([out] * count)
            advance(count)

        original(found, out, rest[0], counted, *rest[2:])

    monkeypatch.setattr(api, "run_prepared", noted)
    runs = evaluate_tasks(tiny, specs, tmp_path / "out")
    assert all(run.complete for run in runs.values()) and runs["arith"].manifest.digest == first.manifest.digest
    assert asked.count(tmp_path / "out" / "svamp") == 6


def test_nothing_is_written_where_one_task_is_bad(
    tiny: Path, specs: dict[str, EvalSpec], tmp_path: Path, refusal: Refusal
) -> None:
    bad = specs | {"svamp": replace(specs["svamp"], items=7)}
    assert "7 items asked for" in refusal(evaluate_tasks, tiny, bad, tmp_path / "out")
    bad = specs | {"svamp": replace(specs["svamp"], data=str(tmp_path / "none.json"))}
    assert "does not exist" in refusal(evaluate_tasks, tmp_path / "nowhere", bad, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(
    tiny: Path, specs: dict[str, EvalSpec], tmp_path: Path, refusal: Refusal
) -> None:
    evaluate_tasks(tiny, specs, tmp_path / "both")
    evaluate(tiny, specs["arith"], tmp_path / "one")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "note.txt").write_text("mine")
    for out, words in (
        ("one", "it is the run of one task"),
        ("strange", "it holds files (note.txt)"),
        ("svamp.json", "it is a file"),
    ):
        assert words in refusal(evaluate_tasks, tiny, specs, tmp_path / out)
    other = {"arith": specs["arith"], "gsm8k": specs["svamp"]}
    assert "it holds the runs of arith, svamp, not of arith, gsm8k" in refusal(
        evaluate_tasks, tiny, other, tmp_path / "both"
    )
    assert "holds files" in refusal(evaluate, tiny, specs["arith"], tmp_path / "both")
