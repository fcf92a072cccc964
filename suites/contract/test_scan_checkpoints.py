"""Laws of ``harness scan``: different checkpoints never give the same scan, streamed is loaded, and what it finds in
the shipped checkpoint is what the noise engine would quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from harness.checkpoints.modes import UNMERGED
from harness.diagnostics.effect import Effects
from harness.diagnostics.policies import judge
from harness.diagnostics.scan_result import ScanResult
from harness.diagnostics.scan_run import scan
from harness.diagnostics.scan_spec import CALIBRATED, SOURCES, ScanSpec, TaskChoice, parse_recipes
from harness.diagnostics.scanned_model import load, quantized_places
from harness.diagnostics.weights import open_source
from harness.evaluate.checkpoint import fingerprint_weights, load_checkpoint
from harness.noise import noisy
from harness.numerics.quant_measure import measure_quantization

pytestmark = pytest.mark.contract

FORMATS = "mxfp4,nvfp4,mxfp8"
TASK = TaskChoice("arith", items=8)


def run(path: Path, formats: str = FORMATS, **settings: Any) -> ScanResult:
    return scan(ScanSpec(path, parse_recipes(formats, "floor"), device="cpu", **settings))


def figures(result: ScanResult) -> list[Any]:
    return [(module.module, module.format, module.error, module.digest) for module in result.modules]


@pytest.fixture(scope="module")
def adapter(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LoRA adapter of the shipped checkpoint."""
    torch.manual_seed(3)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(shipped),
        LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "up_proj"]),
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.02)
    path = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(path)
    return path


def test_a_merged_and_an_unmerged_adapter_differ(adapter: Path, shipped: Path) -> None:
    base, merged, unmerged = run(shipped), run(adapter), run(adapter, adapter=UNMERGED)
    assert len({result.checkpoint["weights"] for result in (base, merged, unmerged)}) == 3
    assert len({str(result.to_json()) for result in (base, merged, unmerged)}) == 3
    changed = {one.module for one, two in zip(base.modules, merged.modules, strict=True) if one.digest != two.digest}
    assert changed == {
        f"model.layers.{layer}.{name}" for layer in range(4) for name in ("self_attn.q_proj", "mlp.up_proj")
    }
    for one, two in zip(base.modules, merged.modules, strict=True):
        assert (one.error != two.error) == (one.module in changed)
    assert figures(base) == figures(unmerged), "an unmerged adapter leaves the weights of the base"


def test_a_merged_adapter_is_the_checkpoint_that_peft_makes_of_it(adapter: Path, shipped: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    whole = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(shipped), adapter).merge_and_unload()
    whole.save_pretrained(tmp_path)
    assert figures(run(adapter)) == figures(run(tmp_path))
    assert run(adapter).checkpoint["weights"] == fingerprint_weights(tmp_path)


def test_an_adapter_acts_on_answers_merged_or_beside_the_model(adapter: Path, shipped: Path) -> None:
    settings = {"task": TaskChoice("arith", items=4, max_new_tokens=8), "effect": True, "what": "activations"}
    merged = run(adapter, "mxfp8", **settings)
    beside = run(adapter, "mxfp8", **settings, adapter=UNMERGED)
    base = run(shipped, "mxfp8", **settings | {"effect": False})
    for one, two in zip(merged.modules, beside.modules, strict=True):
        assert one.error.sqnr_db == pytest.approx(two.error.sqnr_db, abs=0.005)
    assert [m.error.sqnr_db for m in merged.modules] != [m.error.sqnr_db for m in base.modules]
    sums = [sum(effect.kl["estimate"] for effect in result.effects) for result in (merged, beside)]
    assert sums[0] == pytest.approx(sums[1], rel=0.5) and sums[0] > 0


def test_one_changed_bit_changes_the_scan(shipped: Path, tmp_path: Path) -> None:
    for file in shipped.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(shipped / "model.safetensors")
    tensors["model.layers.2.mlp.down_proj.weight"].view(torch.int32)[5, 7] ^= 1
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    one, two = run(shipped), run(tmp_path)
    assert one.checkpoint["weights"] != two.checkpoint["weights"]
    differing = {a.module for a, b in zip(one.modules, two.modules, strict=True) if a.digest != b.digest}
    assert differing == {"model.layers.2.mlp.down_proj"}
    assert run(shipped).to_json() == one.to_json(), "and the same checkpoint gives the same scan"


def test_streamed_figures_are_those_of_the_loaded_model(shipped: Path) -> None:
    model = load_checkpoint(shipped).model
    recipes = {recipe.format.name: recipe for recipe in parse_recipes(FORMATS, "floor")}
    result = run(shipped)
    assert len(result.modules) == 3 * 28
    for module in result.modules:
        weight = model.get_parameter(f"{module.module}.weight").detach()
        assert module.error == measure_quantization(weight, recipes[module.format])
    assert result.checkpoint["weights"] == fingerprint_weights(shipped)


@pytest.mark.parametrize("fmt", ["mxfp4", "nvfp4"])
def test_a_layer_is_quantized_as_the_noise_engine_does(shipped: Path, fmt: str) -> None:
    spec = ScanSpec(shipped, parse_recipes(fmt, "floor"), task=TASK, effect=True, device="cpu")
    loaded = load(spec, open_source(shipped))
    places = [place for place in loaded.chosen if place.group == "model.layers.1"]
    ids = torch.tensor([next(iter(loaded.prepared.prompts.values()))])
    with torch.inference_mode():
        with quantized_places(loaded.model, places, spec.recipes[0], weights=True, activations=False):
            own = loaded.model(ids).logits
        with noisy(loaded.model, f"fake_quant({fmt}) @ op:linear at:weight layers:1"):
            engine = loaded.model(ids).logits
        clean = loaded.model(ids).logits
    assert torch.equal(own, engine) and not torch.equal(own, clean)


def test_the_shipped_checkpoint(shipped: Path) -> None:
    result = run(shipped, "mxfp4", task=TASK, effect=True)
    calibrated = judge(result, CALIBRATED, "mxfp4", "weights")
    assert calibrated.flagged == {}, "its weights are near Gaussian"
    sources = judge(result, SOURCES, "mxfp4", "weights")
    assert len(sources.flagged) == 4 and len(sources.unattainable) == 4
    assert {effect.group for effect in result.effects} == {f"model.layers.{layer}" for layer in range(4)}
    ranked = [effect.kl["estimate"] for effect in result.ranked_effects("mxfp4")]
    assert ranked == sorted(ranked, reverse=True) and ranked[-1] > 0
    assert result.clean is not None and result.clean["estimate"] >= 0.75


def test_clean_answers_and_their_divergence_do_not_depend_on_the_batch(shipped: Path) -> None:
    found = []
    for size in (1, 8):
        spec = ScanSpec(shipped, parse_recipes("mxfp4", "floor"), task=TASK, effect=True, device="cpu", batch_size=size)
        effects = Effects(load(spec, open_source(shipped)), spec)
        found.append((effects.clean, effects.measure("model.layers.0", spec.recipes[0])))
    assert found[0][0] == found[1][0]
    assert found[0][1].kl["estimate"] == pytest.approx(found[1][1].kl["estimate"], rel=1e-3)
