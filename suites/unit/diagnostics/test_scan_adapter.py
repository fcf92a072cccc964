"""LoRA adapters: merged as peft merges them, bit for bit, and everything that is not plain LoRA is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from harness.checkpoints.base_record import BASE_FIELD, record_base
from harness.checkpoints.lora import WEIGHT_FILE
from harness.checkpoints.modes import UNMERGED
from harness.checkpoints.unmerged import attach
from harness.diagnostics.scan_spec import parse_recipes
from harness.diagnostics.scanned_model import quantized_places
from harness.diagnostics.stored import tensor_digest
from harness.diagnostics.weight_roles import find_places
from harness.diagnostics.weights import open_source
from harness.exceptions import CheckpointError, HarnessError, NotComparableError
from suites.unit.diagnostics.scan_models import build, save

pytestmark = pytest.mark.long

TARGETS = {"qwen2": ["q_proj", "down_proj"], "gpt2": ["c_attn", "c_fc"]}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 12},
    "rslora": {"r": 4, "lora_alpha": 12, "use_rslora": True},
    "patterns": {"r": 4, "rank_pattern": {"down_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 64}},
}


def train(kind: str, root: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> tuple[Path, Path]:
    """(base, adapter) with random weights in both."""
    base = save(build(kind, dtype), root / "base")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    adapted = get_peft_model(model, LoraConfig(target_modules=TARGETS[kind], **settings))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1)
    adapted.save_pretrained(root / "adapter")
    return base, root / "adapter"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("model", "kind"), [("qwen2", kind) for kind in KINDS] + [("gpt2", "plain")])
def test_merging_is_that_of_peft(tmp_path: Path, model: str, kind: str, dtype: torch.dtype) -> None:
    base, adapter = train(model, tmp_path, dtype, **KINDS[kind])
    reference = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=dtype), adapter)
    merged = dict(reference.merge_and_unload().named_parameters())
    source = open_source(adapter)
    assert len(source.updates) == 4
    changed = 0
    for name in source.targets:
        assert tensor_digest(source.read(name)) == tensor_digest(merged[source.targets[name].place.name].detach())
        changed += tensor_digest(source.read(name)) != tensor_digest(source.tensors.read(name))
    assert changed == 4


def test_an_unmerged_adapter_leaves_the_base_as_it_is(tmp_path: Path) -> None:
    _, adapter = train("qwen2", tmp_path, r=4)
    source = open_source(adapter, adapter=UNMERGED)
    for name in source.targets:
        assert torch.equal(source.read(name), source.tensors.read(name))
    assert sum(reason == "LoRA adapter" for reason in source.excluded.values()) == 8


def test_a_quantized_input_does_not_reach_the_adapter(tmp_path: Path) -> None:
    base, folder = train("qwen2", tmp_path, r=4)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    seen = []
    attach(model, folder)
    places = find_places(model)
    place = places["model.layers.0.self_attn.q_proj.weight"]
    assert place.hooked and place.reason is None
    assert {found.reason for name, found in places.items() if "lora_" in name} == {"LoRA adapter"}
    recipe = parse_recipes("mxfp4", "floor")[0]
    module = model.get_submodule(place.module)
    # a module's own hooks see W x alone: what is added after it shows at the module that has it as its input
    with torch.no_grad(), quantized_places(model, [place], recipe, weights=False, activations=True):
        module.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
        given: list[torch.Tensor] = []
        module.lora_A.register_forward_pre_hook(lambda module, args: given.append(args[0]))
        model(torch.arange(10).view(1, -1))
    (after, output) = seen[0]
    plain = torch.nn.functional.linear(after, module.weight, module.bias)
    assert torch.equal(output, plain), "noise and quantization act on W x"
    assert not torch.equal(given[0], after), "the adapter reads its input before anything quantizes it"


def change(folder: Path, **settings: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "dora": (lambda folder: change(folder, use_dora=True), "only plain LoRA.*use_dora"),
    "ia3": (lambda folder: change(folder, peft_type="IA3"), "only plain LoRA.*IA3"),
    "bias": (lambda folder: change(folder, bias="all"), "only plain LoRA.*bias"),
    "saved modules": (lambda folder: change(folder, modules_to_save=["lm_head"]), "only plain LoRA.*modules_to_save"),
    "no rank": (lambda folder: change(folder, r=0), "r or lora_alpha"),
    "no base": (
        lambda folder: change(folder, base_model_name_or_path="org/model"),
        "base of adapter .* org/model; no such folder.*give --base FOLDER",
    ),
    "empty base": (lambda folder: change(folder, base_model_name_or_path=None), "give it with --base"),
    "no weights": (lambda folder: (folder / WEIGHT_FILE).unlink(), "there is no adapter_model.safetensors"),
    "cut": (lambda folder: (folder / WEIGHT_FILE).write_bytes(b"12345678"), "truncated or not safetensors"),
    "json": (lambda folder: (folder / "adapter_config.json").write_text("{"), "unreadable JSON"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_not_plain_lora_is_refused(tmp_path: Path, kind: str, refusal) -> None:
    _, adapter = train("qwen2", tmp_path, r=4)
    damage, words = BROKEN[kind]
    damage(adapter)
    with pytest.raises(CheckpointError, match=words):
        open_source(adapter)
    refusal(open_source, adapter, kind=CheckpointError)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    base, adapter = train("qwen2", tmp_path, r=4)
    tensors = load_file(adapter / WEIGHT_FILE)
    save_file({name.replace("layers.1", "layers.7"): tensor for name, tensor in tensors.items()}, adapter / WEIGHT_FILE)
    with pytest.raises(CheckpointError, match="fit no linear"):
        open_source(adapter)
    one = next(name for name in tensors if "lora_B" in name)
    save_file({name: tensor for name, tensor in tensors.items() if name != one}, adapter / WEIGHT_FILE)
    with pytest.raises(CheckpointError, match="is missing"):
        open_source(adapter)
    with pytest.raises(HarnessError, match="it is no adapter"):
        open_source(base, adapter=UNMERGED)
    with pytest.raises(HarnessError, match="it is no adapter"):
        open_source(base, base=base)


def test_the_base_can_be_given(tmp_path: Path) -> None:
    base, adapter = train("qwen2", tmp_path, r=4)
    moved = base.rename(tmp_path / "moved")
    assert open_source(adapter, base=moved).path == moved


def test_another_base_than_the_recorded_one_is_refused(tmp_path: Path, refusal) -> None:
    base, adapter = train("qwen2", tmp_path, r=4)
    record_base(adapter, base)
    assert open_source(adapter).opened.weights is not None
    change(adapter, **{BASE_FIELD: "0" * 64})
    for mode in ("merged", UNMERGED):
        line = refusal(lambda mode=mode: open_source(adapter, adapter=mode), kind=NotComparableError, code=4)
        assert "the adapter records 0000000000000000..." in line


def test_damaged_settings_of_adapter_and_base_are_refused(tmp_path: Path, refusal) -> None:
    base, adapter = train("qwen2", tmp_path, r=4)
    (adapter / "tokenizer_config.json").write_text("{")
    assert "unreadable JSON" in refusal(open_source, adapter, kind=CheckpointError)
    (adapter / "tokenizer_config.json").unlink()
    (base / "generation_config.json").write_bytes(b"\xff\xfe{")
    assert "not UTF-8" in refusal(open_source, adapter, kind=CheckpointError)
