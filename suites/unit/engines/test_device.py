"""Devices that are not there, and running out of memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.engines import transformers
from harness.engines.device import best_device, check_device, device_name, out_of_memory_as
from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import HarnessError
from harness.runs.loaded import load_run
from harness.spec import EvalSpec

pytestmark = pytest.mark.unit

CPU = "[enforce fail at alloc_cpu.cpp:132] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to\nmore"
ERRORS = [
    RuntimeError(CPU),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"),
    MemoryError(),
]


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("name", ["cdua", "cuda:77", "meta"])
def test_a_device_that_is_not_there_is_one_line(name: str, refusal: Callable[..., str]) -> None:
    assert refusal(check_device, name).startswith(f"--device {name}; no such device here (")


def test_the_device_found_is_usable_and_has_a_name() -> None:
    assert check_device(best_device()) == best_device()
    assert device_name(torch.device("cpu")) == "cpu"


def test_a_wrong_device_is_refused_before_weights_are_read(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="--device cdua"):
        prepare(tmp_path / "no such checkpoint", EvalSpec("arith", items=1), "cdua")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_out_of_memory_is_one_line(error: BaseException, refusal: Callable[..., str]) -> None:
    def block() -> None:
        with out_of_memory_as("--batch-size 64", "give a smaller one"):
            raise error

    text = refusal(block)
    assert text.startswith("--batch-size 64; out of memory")
    assert text.endswith("; give a smaller one")
    assert "more" not in text.removesuffix("give a smaller one")


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), KeyboardInterrupt(), ValueError("out of memory")])
def test_other_errors_go_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, out_of_memory_as("--batch-size 64", "give a smaller one"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("error", ERRORS[:2], ids=lambda error: type(error).__name__)
def test_an_evaluation_out_of_memory_stops_and_resumes(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str], error: BaseException
) -> None:
    prepared = prepare(tiny, EvalSpec("arith", items=2, levels=(0.0,), max_new_tokens=2, positive_control=False))
    with monkeypatch.context() as patch:
        patch.setattr(transformers, "generate", raising(error))
        text = refusal(evaluate, prepared, tmp_path / "run", 2)
    assert "--batch-size 2; out of memory" in text and "smaller --batch-size: the same command resumes" in text
    assert load_run(tmp_path / "run").missing == 2
    evaluate(prepared, tmp_path / "run", 1)
    assert load_run(tmp_path / "run").complete


def test_a_checkpoint_that_does_not_fit_is_one_line(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    monkeypatch.setattr("harness.evaluate.prepared.load_checkpoint", raising(ERRORS[1]))
    text = refusal(prepare, tiny, EvalSpec("arith", items=1))
    assert f"checkpoint {tiny} on " in text and "out of memory (CUDA out of memory" in text
