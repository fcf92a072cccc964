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
from scan_models import build, save
from transformers import AutoModelForCausalLM

from harness.checkpoints.lora import WEIGHT_FILE
from harness.checkpoints.modes import UNMERGED
from harness.diagnostics.adapter import beside, merge_into, read_adapter
from harness.diagnostics.loaded import quantized_places
from harness.diagnostics.places import find_places
from harness.diagnostics.scan_spec import parse_recipes
from harness.diagnostics.stored import tensor_digest
from harness.diagnostics.weights import open_source
from harness.exceptions import CheckpointError, HarnessError

pytestmark = pytest.mark.contract

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
    assert source.adapter is not None and len(source.adapter.updates) == 4
    changed = 0
    for name in source.targets:
        assert tensor_digest(source.read(name)) == tensor_digest(merged[source.targets[name].place.name].detach())
        changed += tensor_digest(source.read(name)) != tensor_digest(source.tensors.read(name))
    assert changed == 4
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    merge_into(loaded, source.adapter, find_places(loaded))
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, merged[name]), name


def test_an_unmerged_adapter_leaves_the_base_as_it_is(tmp_path: Path) -> None:
    _, adapter = train("qwen2", tmp_path, r=4)
    source = open_source(adapter, adapter=UNMERGED)
    for name in source.targets:
        assert torch.equal(source.read(name), source.tensors.read(name))
    assert sum(reason == "LoRA adapter" for reason in source.excluded.values()) == 8


def test_an_adapter_beside_its_model_computes_as_peft_does(tmp_path: Path) -> None:
    base, folder = train("qwen2", tmp_path, r=4, lora_alpha=12)
    ids = torch.arange(10).view(1, -1)
    with torch.no_grad():
        expected = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)(ids).logits
        model = AutoModelForCausalLM.from_pretrained(base).eval()
        before = model(ids).logits
        with beside(model, read_adapter(folder)):
            found = model(ids).logits
        assert torch.equal(model(ids).logits, before)
    assert torch.allclose(found, expected, atol=1e-5) and not torch.allclose(found, before, atol=1e-3)


def test_a_quantized_input_does_not_reach_the_adapter(tmp_path: Path) -> None:
    base, folder = train("qwen2", tmp_path, r=4)
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    seen = []
    (place,) = (
        p
        for p in find_places(model).values()
        if p.module == "model.layers.0.self_attn.q_proj" and p.hooked and p.reason is None
    )
    adapter = read_adapter(folder)
    recipe = parse_recipes("mxfp4", "floor")[0]
    with (
        torch.no_grad(),
        beside(model, adapter),
        quantized_places(model, [place], recipe, weights=False, activations=True),
    ):
        module = model.get_submodule(place.module)
        module.register_forward_hook(lambda module, args, output: seen.append((args[0], output)))
        model(torch.arange(10).view(1, -1))
    (after, output), update = seen[0], adapter.updates[place.module]
    plain = torch.nn.functional.linear(after, module.weight, module.bias)
    added = (output - plain).detach()
    from_quantized = update.scaling * (after @ update.a.t() @ update.b.t())
    assert not torch.allclose(added, from_quantized, atol=1e-5)


def change(folder: Path, **settings: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "dora": (lambda folder: change(folder, use_dora=True), "only plain LoRA.*use_dora"),
    "ia3": (lambda folder: change(folder, peft_type="IA3"), "only plain LoRA.*IA3"),
    "bias": (lambda folder: change(folder, bias="all"), "only plain LoRA.*bias"),
    "saved modules": (lambda folder: change(folder, modules_to_save=["lm_head"]), "only plain LoRA.*modules_to_save"),
    "no rank": (lambda folder: change(folder, r=0), "r or lora_alpha"),
    "no base": (lambda folder: change(folder, base_model_name_or_path="org/model"), "give it with --base"),
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
