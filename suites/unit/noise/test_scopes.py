"""How many modules a scope means: numbers counted by hand, on the meta device."""

import copy
import json

import pytest
import torch
from torch import nn
from transformers import (
    GemmaConfig,
    GPT2Config,
    GraniteMoeConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
    PhimoeConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
    T5Config,
)

from harness.exceptions import CheckpointError, NoiseSpecError
from harness.noise.meta import fused_linears, load_config, meta_model
from harness.noise.selection import ROUTER_REASON, select_modules
from harness.spec import parse_noise

pytestmark = pytest.mark.long

QWEN = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}
LAYERS = 3
SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
}
GPT2 = {"vocab_size": 32, "n_embd": 16, "n_layer": LAYERS, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
OPT = {"vocab_size": 32, "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
EXPERTS = {"num_experts": 4, "moe_intermediate_size": 8}


def chosen(model, places):
    return select_modules(model, parse_noise(f"relative_gaussian @ {places}"))


@pytest.fixture(scope="module")
def qwen():
    return meta_model(Qwen2Config(**{key: value for key, value in QWEN.items() if key != "model_type"}))


@pytest.mark.parametrize(
    ("places", "count"),
    [
        ("scope:minimal", 57),  # 2 per layer and the last one
        ("scope:mlp", 85),  # and 28 MLP blocks
        ("scope:linear", 197),  # 7 per layer and the head
        ("scope:linear exclude:lm_head", 196),
        ("scope:all", 254),
        ("op:embedding", 1),
        ("op:silu", 28),
        ("op:linear,rms_norm", 254),
        ("class:Qwen2MLP", 28),
        ("module:model.layers.*.mlp", 28),
        ("op:linear layers:14-17", 28),
        ("op:linear layers:0-3,20", 35),
        ("scope:minimal layers:27", 2),
    ],
)
def test_scopes_of_qwen(qwen, places, count):
    assert len(chosen(qwen, places).modules) == count


def test_qwen_on_the_meta_device(qwen):
    assert {parameter.device.type for parameter in qwen.parameters()} == {"meta"}
    assert not qwen.training
    assert qwen.lm_head.weight is qwen.model.embed_tokens.weight
    assert fused_linears(qwen.config) == 112


def test_tied_head_cannot_have_a_perturbed_weight(qwen, refusal):
    line = refusal(chosen, qwen, "op:linear at:weight", kind=NoiseSpecError)
    assert "lm_head" in line and "model.embed_tokens" in line and "exclude:lm_head" in line
    assert "exclude:embed_tokens" in refusal(chosen, qwen, "op:embedding at:weight")
    assert len(chosen(qwen, "op:linear at:weight exclude:lm_head").modules) == 196
    assert len(chosen(qwen, "op:linear at:output").modules) == len(chosen(qwen, "op:linear at:input").modules) == 197


def test_untied_heads_can():
    model = meta_model(Qwen2Config(**SMALL, tie_word_embeddings=False))
    assert "lm_head" in chosen(model, "op:linear at:weight").modules


def adapted(model):
    """``model`` as peft wraps its blocks' linears: the wrapper's class is called Linear and computes their result."""
    wrapper = type("Linear", (nn.Module,), {})
    model = copy.deepcopy(model)
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and path != "lm_head":
            around = wrapper()
            around.base_layer = module
            down, up = (module.in_features, 16), (16, module.out_features)
            around.lora_A = nn.ModuleDict({"default": nn.Linear(*down, bias=False, device="meta")})
            around.lora_B = nn.ModuleDict({"default": nn.Linear(*up, bias=False, device="meta")})
            around.lora_embedding_A = nn.ParameterDict()
            above, _, name = path.rpartition(".")
            setattr(model.get_submodule(above), name, around)
    return model


@pytest.fixture(scope="module")
def lora(qwen):
    return adapted(qwen)


@pytest.mark.parametrize(
    ("places", "count", "ends"),
    [
        ("op:linear include:base_layer", 196, ("base_layer",)),
        ("op:linear include:base_layer,lm_head", 197, ("base_layer", "lm_head")),
        ("op:linear include:lora_A,lora_B", 392, ("lora_A.default", "lora_B.default")),
        ("op:linear include:lora_B", 196, ("lora_B.default",)),
        ("op:linear exclude:base_layer,lora_A,lora_B", 197, ("proj", "lm_head")),
        ("scope:linear exclude:base_layer,lora_A,lora_B,lm_head", 196, ("proj",)),
        ("module:model.layers.*.mlp.*.base_layer", 84, ("base_layer",)),
        ("scope:minimal", 57, ("norm", "layernorm")),
    ],
)
def test_adapted_model(lora, places, count, ends):
    modules = chosen(lora, places).modules
    assert len(modules) == count
    assert all(path.endswith(ends) for path in modules)


def test_what_is_left_out_of_an_adapted_model_is_listed(lora):
    selection = chosen(lora, "op:linear include:base_layer")
    assert len(selection.excluded) == 196 + 392 + 1
    assert selection.excluded["lm_head"] == "include:base_layer"
    assert selection.excluded["model.layers.0.mlp.up_proj.lora_A.default"] == "include:base_layer"


@pytest.mark.parametrize("places", ["op:linear", "scope:linear", "scope:all", "class:Linear", "op:linear layers:3"])
def test_adapters_are_not_perturbed_unasked(lora, refusal, places):
    line = refusal(chosen, lora, places, kind=NoiseSpecError)
    assert "not asked for" in line
    assert "q_proj.base_layer," in line and "q_proj.lora_A.default" in line and "q_proj.lora_B.default" in line
    assert "more" in line
    assert "exclude:base_layer,lora_A,lora_B" in line and "include:base_layer" in line


def test_half_an_exclusion_names_the_other_half(lora, refusal):
    assert "write exclude:base_layer for" in refusal(chosen, lora, "op:linear exclude:lora_A,lora_B")
    assert "write exclude:lora_A,lora_B for" in refusal(chosen, lora, "op:linear exclude:base_layer")
    assert "write exclude:lora_A,lora_B for" in refusal(chosen, lora, "op:linear include:base_layer,layers.3")


def test_an_adapter_whose_wrapper_is_no_linear(refusal):
    model = nn.Sequential(nn.Module(), nn.Linear(2, 2))
    model[0].base_layer = nn.Linear(2, 2)
    assert "0.base_layer: selected" in refusal(chosen, model, "op:linear")
    assert chosen(model, "op:linear include:base_layer").modules == ("0.base_layer",)


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (Qwen2Config(**SMALL), 7 * LAYERS + 1),  # q k v o, gate up down
        (LlamaConfig(**SMALL), 7 * LAYERS + 1),
        (GemmaConfig(**SMALL, head_dim=4), 7 * LAYERS + 1),
        (GPT2Config(**GPT2), 4 * LAYERS + 1),  # c_attn c_proj, c_fc c_proj
        (OPTConfig(**OPT, word_embed_proj_dim=16), 6 * LAYERS + 1),  # q k v out, fc1 fc2
        (OPTConfig(**OPT, word_embed_proj_dim=8), 6 * LAYERS + 3),  # and the projections of the embedding
        (PhiConfig(**SMALL), 6 * LAYERS + 1),  # q k v dense, fc1 fc2
        (MixtralConfig(**SMALL, num_local_experts=4), (4 + 2) * LAYERS + 1),  # q k v o, gate-up and down of all experts
    ],
    ids=["qwen2", "llama", "gemma", "gpt2", "opt", "opt-projected", "phi", "mixtral"],
)
def test_linears_of_architectures(config, count):
    model = meta_model(config)
    modules = chosen(model, "op:linear").modules
    assert len(modules) == count
    by_type = [path for path, module in model.named_modules() if type(module).__name__ in ("Linear", "Conv1D")]
    assert [path for path in modules if "experts" not in path.split(".")] == by_type
    assert chosen(model, "op:linear exclude:lm_head").modules == modules[:-1]


def test_gpt2_layout_is_linear_and_conv1d():
    model = meta_model(GPT2Config(**GPT2))
    assert len(chosen(model, "op:conv1d").modules) == 4 * LAYERS
    assert len(chosen(model, "scope:linear").modules) == 4 * LAYERS + 1
    assert len(chosen(model, "op:linear layers:1").modules) == 4


@pytest.mark.parametrize(
    ("config", "router"),
    [
        (MixtralConfig(**SMALL, num_local_experts=4), "mlp.gate"),
        (Qwen2MoeConfig(**SMALL, **EXPERTS, shared_expert_intermediate_size=8), "mlp.gate"),
        (Qwen3MoeConfig(**SMALL, **EXPERTS), "mlp.gate"),
        (PhimoeConfig(**SMALL, num_local_experts=4), "mlp.router"),
        (GraniteMoeConfig(**SMALL, num_local_experts=4), "block_sparse_moe.router.layer"),
    ],
    ids=["mixtral", "qwen2_moe", "qwen3_moe", "phimoe", "granitemoe"],
)
def test_routers_are_left_out_unless_named(config, router):
    model = meta_model(config)
    routers = tuple(f"model.layers.{layer}.{router}" for layer in range(LAYERS))
    selection = chosen(model, "op:linear")
    assert selection.excluded == dict.fromkeys(routers, ROUTER_REASON)
    assert set(routers).isdisjoint(selection.modules)
    name = "router" if "router" in router else "gate"
    assert chosen(model, f"op:linear include:{name}").modules == routers
    assert chosen(model, f"op:linear include:{name},self_attn layers:1").modules[-1] == routers[1]
    assert chosen(model, f"module:layers.*.{router}").modules == routers
    swept = chosen(model, f"op:linear include:{router.split('.')[0]},lm_head")
    assert {path: swept.excluded[path] for path in routers} == selection.excluded
    assert chosen(model, f"op:linear exclude:{name}").excluded[routers[0]] == f"exclude:{name}"


def test_routers_by_class():
    model = meta_model(MixtralConfig(**SMALL, num_local_experts=4))
    assert len(chosen(model, "class:MixtralTopKRouter").modules) == LAYERS
    assert len(chosen(model, "class:*Router").modules) == LAYERS
    swept = chosen(model, "class:Mixtral*")
    assert "model.layers.0.mlp.gate" in swept.excluded and "model.layers.0.mlp" in swept.modules


def test_a_shared_experts_gate_is_no_router():
    model = meta_model(Qwen2MoeConfig(**SMALL, **EXPERTS, shared_expert_intermediate_size=8))
    assert "model.layers.0.mlp.shared_expert_gate" in chosen(model, "op:linear").modules
    assert len(chosen(model, "scope:mlp").modules) == 2 * LAYERS + 1 + LAYERS


@pytest.mark.parametrize(
    ("config", "places", "words"),
    [
        (GPT2Config(**GPT2), "scope:minimal", "rms_norm of scope:minimal matches nothing in GPT2LMHeadModel"),
        (GPT2Config(**GPT2), "op:rms_norm", "linear, conv1d, gelu, layer_norm, embedding"),
        (GPT2Config(**GPT2), "op:linear,rms_norm", "op:rms_norm"),
        (MixtralConfig(**SMALL, num_local_experts=4), "scope:mlp", "mlp of scope:mlp"),
        (Qwen2Config(**SMALL), "op:conv1d", "op:conv1d matches nothing in Qwen2ForCausalLM"),
    ],
)
def test_a_scope_or_operator_that_is_not_there(config, places, words, refusal):
    assert words in refusal(chosen, meta_model(config), places, kind=NoiseSpecError)


def test_profiles_skip_what_is_not_there():
    model = meta_model(GPT2Config(**GPT2))
    assert len(chosen(model, "profile:matmul").modules) == 4 * LAYERS + 1
    assert len(chosen(model, "profile:all-ops").modules) == 4 * LAYERS + 1 + LAYERS + 2 * LAYERS + 1


def test_configs_are_read_strictly(tmp_path, refusal):
    good = tmp_path / "config.json"
    good.write_text(json.dumps(QWEN), encoding="utf-8")
    assert load_config(tmp_path).num_hidden_layers == load_config(good).num_hidden_layers == 28
    assert fused_linears(load_config(good)) == 112

    def refused(text):
        bad = tmp_path / "bad.json"
        bad.write_bytes(text)
        return refusal(load_config, bad, kind=CheckpointError)

    assert "no such file" in refusal(load_config, tmp_path / "none", kind=CheckpointError)
    assert "unreadable JSON" in refused(b'{"model_type": ')
    assert "not UTF-8 text" in refused(b"\xff\xfe")
    assert "a JSON object was expected" in refused(b"[]")
    assert "no model_type" in refused(b'{"hidden_size": 4}')
    assert "did you mean 'qwen2'" in refused(b'{"model_type": "qwen2x"}')
    assert "a release of transformers" in refused(b'{"model_type": "@@@@"}')
    assert "never run" in refused(b'{"model_type": "@@@@", "auto_map": {"AutoConfig": "evil.Config"}}')
    assert "not a valid configuration" in refused(b'{"model_type": "qwen2", "hidden_size": "wide"}')


def test_what_cannot_be_built_or_counted(refusal):
    assert "'t5'" in refusal(meta_model, T5Config(), kind=CheckpointError)
    assert "check its config" in refusal(meta_model, Qwen2Config(**{**SMALL, "num_attention_heads": 0}))
    assert "mixtral" in refusal(fused_linears, MixtralConfig(**SMALL), kind=NoiseSpecError)


def test_building_leaves_the_config_and_the_default_device_alone():
    config = Qwen2Config(**SMALL, attn_implementation="sdpa")
    before = config.to_dict()
    meta_model(config)
    assert config.to_dict() == before and config._attn_implementation == "sdpa"
    assert torch.empty(1).device.type == "cpu"
