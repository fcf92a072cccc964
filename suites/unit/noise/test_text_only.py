"""Multimodal models: the text model is perturbed, what no prompt of text runs is left out and listed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import PretrainedConfig

from harness.diagnostics.weight_roles import find_places
from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import NoiseSpecError
from harness.noise.meta import factory_of, meta_model
from harness.noise.planner import build_plan
from harness.noise.text_only import BESIDE_TEXT, beside_text
from harness.runs.loaded import load_run
from harness.spec import EvalSpec, parse_noise

pytestmark = pytest.mark.unit

TEXT = {
    **{"vocab_size": 260, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 32},
    **{"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 4096},
    **{"bos_token_id": None, "eos_token_id": 258, "pad_token_id": 256},
}
TOWER = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
IMAGES = {"image_size": 28, "patch_size": 14}
LAST = 259
PER_LAYER = 7


def gemma3() -> PretrainedConfig:
    """With a tower of SigLIP."""
    return transformers.Gemma3Config(
        text_config=TEXT | {"layer_types": ["sliding_attention", "full_attention"]},
        vision_config=TOWER | IMAGES,
        mm_tokens_per_image=4,
        image_token_index=LAST,
    )


def mistral3() -> PretrainedConfig:
    """With a tower of Pixtral; there is no causal language model of it."""
    return transformers.Mistral3Config(
        text_config={"model_type": "mistral"} | TEXT,
        vision_config={"model_type": "pixtral"} | TOWER | IMAGES,
        image_token_index=LAST,
        spatial_merge_size=1,
    )


def qwen2_vl() -> PretrainedConfig:
    """With rotary positions of three dimensions."""
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]}
    tower = {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "patch_size": 14, "mlp_ratio": 1}
    return transformers.Qwen2VLConfig(
        text_config=TEXT | {"rope_parameters": rope}, vision_config=tower, image_token_id=LAST, video_token_id=LAST
    )


def llama4() -> PretrainedConfig:
    """Dense in all layers; the causal language model of transformers would leave the tower's weights over."""
    tower = TOWER | IMAGES | {"intermediate_size": 128}
    widths = dict.fromkeys(("vision_output_dim", "projector_input_dim", "projector_output_dim"), 32)
    return transformers.Llama4Config(
        text_config=TEXT | {"intermediate_size_mlp": 64, "moe_layers": []}, vision_config=tower | widths
    )


CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    kind.__name__: kind for kind in (gemma3, mistral3, qwen2_vl, llama4)
}


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("noise", ["op:linear", "profile:matmul"])
def test_sites_are_those_of_the_text_model_and_the_rest_is_listed(kind: str, noise: str) -> None:
    model = meta_model(CONFIGS[kind]())
    plan = build_plan(model, parse_noise(f"relative_gaussian @ {noise}"))
    linears = [site.name for site in plan.sites if site.op == "linear"]
    assert len(linears) == 2 * PER_LAYER + 1
    assert all("language_model" in name or name.endswith("lm_head") for name in linears)
    attention = {site.op for site in plan.sites} & {"qk", "pv"}
    assert attention == ({"qk", "pv"} if noise == "profile:matmul" else set())
    assert not beside_text(model) & {site.module for site in plan.sites}
    listed = [name for name, reason in plan.excluded.items() if reason == BESIDE_TEXT]
    there = [path for path, module in model.named_modules() if path in beside_text(model) and is_linear(module)]
    assert there and set(listed) == set(there)


def is_linear(module: Any) -> bool:
    """True for the linears of torch."""
    return isinstance(module, torch.nn.Linear)


def test_a_model_of_text_alone_has_nothing_beside_it() -> None:
    assert beside_text(meta_model(transformers.Gemma3TextConfig(**TEXT))) == frozenset()
    assert beside_text(torch.nn.Linear(2, 2)) == frozenset()


def test_a_tower_cannot_be_asked_for() -> None:
    with pytest.raises(NoiseSpecError, match=BESIDE_TEXT):
        build_plan(meta_model(gemma3()), parse_noise("relative_gaussian @ op:linear include:vision_tower"))


def test_weights_of_a_tower_are_not_scanned() -> None:
    places = find_places(meta_model(gemma3()))
    reasons = {place.reason for path, place in places.items() if "vision_tower" in path}
    assert BESIDE_TEXT in reasons and None not in reasons


def saved(config: PretrainedConfig, tiny: Path, folder: Path) -> Path:
    """A checkpoint of random weights with the tokenizer of ``tiny``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        factory_of(config).from_config(config).save_pretrained(folder)
    for file in tiny.iterdir():
        if not (folder / file.name).exists():
            shutil.copy(file, folder)
    return folder


@pytest.mark.parametrize("kind", ["gemma3", "qwen2_vl"])
def test_a_multimodal_checkpoint_is_evaluated_as_its_text_model(tiny: Path, tmp_path: Path, kind: str) -> None:
    folder = saved(CONFIGS[kind](), tiny, tmp_path / kind)
    spec = EvalSpec(
        "arith", items=2, levels=(0.0, 0.05), noise_seeds=1, max_new_tokens=3, positive_control=False, dtype="float32"
    )
    prepared = prepare(folder, spec, "cpu")
    assert prepared.checkpoint.context == TEXT["max_position_embeddings"]
    evaluate(prepared, tmp_path / "run")
    assert load_run(tmp_path / "run").arm.certificate.status == "certified"


def test_a_context_below_the_prompt_is_seen_inside_the_text_config(
    tiny: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    config = gemma3()
    config.text_config.max_position_embeddings = 40
    line = refusal(prepare, saved(config, tiny, tmp_path / "short"), EvalSpec("arith", items=2))
    assert "the context of" in line and "holds 40" in line
