"""The paths beside plain float32 linears: adapters, quantization, narrow dtypes and little memory, all replayed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from harness.checkpoints import unmerged
from harness.checkpoints.base_record import record_base
from harness.checkpoints.source import resolve
from harness.evaluate import replaying
from harness.evaluate.checkpoint import load_checkpoint
from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.run import evaluate
from harness.noise.injector import Injector
from harness.noise.session import NoiseSession
from harness.record import CERTIFIED, INVALID_EVIDENCE
from harness.runs.loaded import Run, load_run
from harness.spec import EvalSpec, parse_quantization
from harness.thresholds import REPLAY_BOUNDS
from suites.small import lower_layers

pytestmark = pytest.mark.contract
SPEC = EvalSpec("arith", items=9, levels=(0.0, 0.1), noise_seeds=1, max_new_tokens=6, positive_control=False)


@pytest.fixture(scope="module")
def base(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lower_layers(shipped, tmp_path_factory.mktemp("base") / "two-layers")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes answers."""
    torch.manual_seed(1)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules=["q_proj", "down_proj"])
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.03)
    folder = tmp_path_factory.mktemp("lora") / "adapter"
    model.save_pretrained(folder, save_embedding_layers=False)
    record_base(folder, base)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.getbasetemp() / "merged"))


def stored(prepared: Prepared, out: Path) -> Run:
    evaluate(prepared, out)
    return load_run(out)


def said(run: Run) -> list[str]:
    found = run.arm.certificate
    return [*found.problems, *(words for level in found.levels for words in level.problems)]


def check_replayed(run: Run) -> None:
    assert said(run) == [] and run.arm.certificate.status == CERTIFIED
    assert [(entry.level, entry.records, entry.reason) for entry in run.arm.certificate.replays] == [
        (0.0, 8, ""),
        (0.1, 8, ""),
    ]


def after_the_clean_arm(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """Has ``change`` done when the first noisy batch begins."""
    honest = NoiseSession.batch

    @contextlib.contextmanager
    def batch(self: NoiseSession, items: Any, seeds: Any, scale: float, *rest: Any) -> Iterator[NoiseSession]:
        if scale > 0:
            change()
        with honest(self, items, seeds, scale, *rest):
            yield self

    monkeypatch.setattr(NoiseSession, "batch", batch)


@pytest.mark.parametrize("mode", ["merged", "unmerged"])
def test_an_adapter_is_replayed_and_not_lost_on_the_way(
    adapter: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    prepared = prepare(resolve(adapter, adapter=mode), SPEC, "cpu")
    check_replayed(stored(prepared, tmp_path / "run"))
    model, bare = prepared.checkpoint.model, load_checkpoint(base).model

    def drop() -> None:
        if mode == "merged":
            model.load_state_dict(bare.state_dict())
        for module in model.modules():
            if isinstance(module, unmerged.ScaledFactor):
                module.scaling = 0.0

    after_the_clean_arm(monkeypatch, drop)
    run = stored(prepared, tmp_path / "dropped")
    assert run.arm.certificate.status == INVALID_EVIDENCE
    assert any("at level 0.1" in words and "in the replay" in words for words in said(run)), said(run)


def test_an_adapter_whose_code_is_patched_is_invalid(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first forward on: the replay reads the code of adapters anew as well."""
    prepared = prepare(resolve(adapter, adapter="unmerged"), SPEC, "cpu")
    monkeypatch.setattr(unmerged.Adapted, "__call__", nn.Module.__call__)
    run = stored(prepared, tmp_path / "run")
    assert run.arm.certificate.status == INVALID_EVIDENCE
    assert any("at level 0," in words and "in the replay" in words for words in said(run)), said(run)


@pytest.mark.parametrize("text", ["weights=mxfp4,activations=mxfp8", "weights=nvfp4,activations=nvfp4"])
def test_quantization_is_replayed_and_stays_on_in_decode(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    prepared = prepare(base, replace(SPEC, quantization=parse_quantization(text)), "cpu")
    check_replayed(stored(prepared, tmp_path / "run"))
    honest = Injector.inject

    def prefill_only(self: Injector, site: Any, part: str, y: Any, frame: Any) -> Any:
        """Counts what it does not give."""
        after = honest(self, site, part, y, frame)
        decoding = frame.rows is not None and frame.rows.positions.shape[1] == 1
        return y if decoding and site.name.endswith((":input", ":weight")) else after

    monkeypatch.setattr(Injector, "inject", prefill_only)
    run = stored(prepared, tmp_path / "prefill-only")
    assert run.arm.certificate.status == INVALID_EVIDENCE
    assert any("replay: item" in words for words in said(run)), said(run)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_dtypes_are_replayed_within_half_their_bound(base: Path, tmp_path: Path, dtype: str) -> None:
    run = stored(prepare(base, replace(SPEC, dtype=dtype), "cpu"), tmp_path / "run")
    check_replayed(run)
    _, bound = REPLAY_BOUNDS[dtype]
    assert all(entry.drift <= bound / 2 for entry in run.arm.certificate.replays)


def test_a_replay_without_room_for_a_second_model_is_noted(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "_free", lambda device: 1.0)
    run = stored(prepare(base, SPEC, "cpu"), tmp_path / "run")
    check_replayed(run)
    assert [entry.in_memory for entry in run.arm.certificate.replays] == [True, True]
    assert any(
        note.startswith("replayed at level 0 % and 10 % on the model in memory") for note in run.arm.certificate.notes
    )
