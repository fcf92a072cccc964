"""Checkpoints that are no plain Hugging Face folder, and such that vLLM cannot run."""

from __future__ import annotations

import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from harness.checkpoints.base_record import record_base
from harness.checkpoints.source import resolve
from harness.evaluate.prepared import prepare
from harness.exceptions import CheckpointError
from suites.agreeing import apart
from suites.slow.conftest import answers, batch_of, running, spec_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_process")]


@pytest.fixture
def adapter(shipped, tmp_path, monkeypatch):
    """A LoRA adapter with random factors on the shipped checkpoint, and a cache of its own."""
    from peft import LoraConfig, get_peft_model

    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(shipped, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.03)
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    record_base(tmp_path / "adapter", shipped)
    return tmp_path / "adapter"


@pytest.mark.parametrize("mode", ["merged", "unmerged"])
def test_an_adapter_gives_the_tokens_of_transformers(adapter, shipped, mode):
    given = {}
    for engine_name in ("transformers", "vllm"):
        with running(resolve(adapter, adapter=mode), spec_of(engine_name, items=12)) as (prepared, engine):
            given[engine_name] = answers(engine, batch_of(prepared, 0.0, True), batch_of(prepared, 0.10, True))
    assert given["vllm"][0] == given["transformers"][0]
    assert given["vllm"][1] == []
    assert apart(given["vllm"][2], given["transformers"][2]) == []
    with running(shipped, spec_of(items=12)) as (prepared, engine):
        base, _, _ = answers(engine, batch_of(prepared, 0.0), batch_of(prepared, 0.10))
    assert base != given["vllm"][0]


def test_an_unsupported_head_size_is_refused_before_vllm_starts(shipped, tmp_path):
    folder = tmp_path / "narrow"
    shutil.copytree(shipped, folder)
    config = AutoConfig.from_pretrained(shipped)
    config.hidden_size, config.num_attention_heads, config.num_key_value_heads = 64, 4, 4
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    with pytest.raises(CheckpointError, match="head size 16; vLLM's attention here has 32, 64"):
        prepare(folder, spec_of())
