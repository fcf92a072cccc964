"""Modules are meant by name: whole components, no typos, nothing twice."""

import pytest
from torch import nn

from harness.exceptions import NoiseSpecError
from harness.noise.kinds import is_mlp_block, is_router, operator_of
from harness.noise.meta import meta_model
from harness.noise.paths import layer_of, layers_text, matches
from harness.noise.selection import left_out, select_modules
from harness.spec import parse_noise
from harness.testing import tiny_config

pytestmark = pytest.mark.unit
LAYERS = 24
PROJECTIONS = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
)


def chosen(model, places):
    return select_modules(model, parse_noise(f"relative_gaussian @ {places}"))


@pytest.fixture(scope="module")
def qwen():
    """Enough layers that 2 and 20 both exist."""
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": LAYERS}
    return meta_model(tiny_config(**sizes, tie_word_embeddings=False))


@pytest.mark.parametrize(
    ("path", "layer"),
    [
        ("model.layers.12.mlp.up_proj", 12),
        ("transformer.h.3.attn", 3),
        ("model.decoder.layers.0.fc1", 0),
        ("encoder.block.4.layer.1.DenseReluDense", 4),
        ("model.layers.2.experts.7.w1", 2),
        ("blocks.5", 5),
        ("lm_head", None),
        ("model.layers", None),
        ("model.norm", None),
        ("0.1", None),
        ("model.layers.first.mlp", None),
        ("model.layers.²", None),
    ],
)
def test_layer_of(path, layer):
    assert layer_of(path) == layer


@pytest.mark.parametrize(
    ("pattern", "path", "anywhere", "at_the_end"),
    [
        ("layers.2", "model.layers.2.mlp.up_proj", True, False),
        ("layers.2", "model.layers.2", True, True),
        ("layers.2", "model.layers.20.mlp.up_proj", False, False),
        ("layers.2*", "model.layers.20.mlp", True, False),
        ("lm_head", "lm_head", True, True),
        ("head", "lm_head", False, False),
        ("*head", "lm_head", True, True),
        ("mlp", "model.layers.1.mlp.up_proj", True, False),
        ("mlp.*", "model.layers.1.mlp.up_proj", True, True),
        ("layers.*.up_proj", "model.layers.1.mlp.up_proj", False, False),
        ("layers.**.up_proj", "model.layers.1.mlp.up_proj", True, True),
        ("layers.**.1", "model.layers.1.mlp", True, False),
        ("model.**", "model.norm", True, True),
        ("**.model.norm.**", "model.norm", True, True),
        ("**", "lm_head", True, True),
        ("*.*", "lm_head", False, False),
        ("layers.[0-2].mlp", "model.layers.1.mlp", True, True),
        ("layers.[!0-2].mlp", "model.layers.1.mlp", False, False),
        ("LM_head", "lm_head", False, False),
    ],
)
def test_patterns_match_whole_components(pattern, path, anywhere, at_the_end):
    assert matches(pattern, path, whole=False) is anywhere
    assert matches(pattern, path, whole=True) is at_the_end


def test_layer_2_is_not_layer_20(qwen):
    golden = tuple(f"model.layers.2.{name}" for name in PROJECTIONS)
    for places in ("op:linear layers:2", "op:linear include:layers.2", "module:layers.2.*.*_proj"):
        assert chosen(qwen, places).modules == golden
    assert len(chosen(qwen, "op:linear exclude:layers.2").modules) == 7 * (LAYERS - 1) + 1


def test_the_list_of_modules_is_golden(qwen):
    golden = [f"model.layers.{layer}.{name}" for layer in range(LAYERS) for name in PROJECTIONS]
    selection = chosen(qwen, "op:linear exclude:lm_head")
    assert list(selection.modules) == golden
    assert selection.excluded == {"lm_head": "exclude:lm_head"}


def test_restrictions_narrow_and_are_listed(qwen):
    selection = chosen(qwen, "op:linear layers:0-2,5 include:mlp exclude:down_proj")
    golden = tuple(f"model.layers.{layer}.mlp.{name}_proj" for layer in (0, 1, 2, 5) for name in ("gate", "up"))
    assert selection.modules == golden
    assert selection.excluded["lm_head"] == "layers:0-2,5"
    assert selection.excluded["model.layers.4.mlp.up_proj"] == "layers:0-2,5"
    assert selection.excluded["model.layers.5.self_attn.q_proj"] == "include:mlp"
    assert selection.excluded["model.layers.5.mlp.down_proj"] == "exclude:down_proj"
    assert len(selection.modules) + len(selection.excluded) == 7 * LAYERS + 1
    spec = parse_noise("relative_gaussian @ op:qk layers:3 exclude:self_attn")
    assert left_out("model.layers.4.self_attn", spec) == "layers:3"
    assert left_out("model.layers.3.self_attn", spec) == "exclude:self_attn"
    assert left_out("model.layers.3.mlp", spec) is None


def test_include_may_narrow_what_a_pattern_asks_for(qwen):
    assert len(chosen(qwen, "op:linear include:model.layers.* exclude:down_proj").modules) == 6 * LAYERS
    assert len(chosen(qwen, "module:mlp.* exclude:act_fn").modules) == 3 * LAYERS
    assert len(chosen(qwen, "class:Linear exclude:lm_head").modules) == 7 * LAYERS


class Odd(nn.Linear):
    pass


class GroupRMSNorm(nn.Module):
    pass


class TinyFeedForward(nn.Sequential):
    pass


def test_names_decide_what_a_module_computes():
    assert operator_of(Odd(2, 2)) == operator_of(nn.Linear(2, 2)) == "linear"
    assert operator_of(type("Linear", (nn.Module,), {})()) == "linear"
    assert operator_of(GroupRMSNorm()) == operator_of(nn.RMSNorm(2)) == "rms_norm"
    assert operator_of(type("RMSNorm", (nn.Module,), {})()) == "rms_norm"  # as another engine has it
    assert operator_of(nn.Embedding(2, 2)) == "embedding"
    assert operator_of(nn.Sequential(nn.Linear(2, 2))) is operator_of(nn.Bilinear(2, 2, 2)) is None
    assert is_mlp_block(TinyFeedForward(Odd(2, 2)))
    assert not is_mlp_block(TinyFeedForward(nn.ReLU())) and not is_mlp_block(nn.Sequential(nn.Linear(2, 2)))


def test_a_linear_beside_experts_is_a_router():
    block = nn.ModuleDict({"gate": nn.Linear(2, 2), "up": nn.Linear(2, 2), "experts": nn.ModuleList([nn.Linear(2, 2)])})
    plain = nn.ModuleDict({"gate": nn.Linear(2, 2)})
    model = nn.ModuleDict({"moe": block, "mlp": plain})
    modules = dict(model.named_modules())
    assert [path for path in modules if is_router(path, modules)] == ["moe.gate"]
    assert chosen(model, "op:linear").modules == ("moe.up", "moe.experts.0", "mlp.gate")


def test_only_routers_are_nothing(refusal):
    model = nn.ModuleDict({"gate": nn.Linear(2, 2), "experts": nn.Identity()})
    assert "include:gate" in refusal(chosen, model, "op:linear")
    assert chosen(model, "op:linear include:gate").modules == chosen(model, "module:gate").modules == ("gate",)


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ("op:linear exclude:lm_hed", "exclude:lm_hed matches nothing in Qwen2ForCausalLM"),
        ("op:linear exclude:lm_hed", "did you mean 'lm_head'"),
        ("op:linear include:self_atn", "did you mean 'self_attn'"),
        ("op:linear include:mlp,self_atn", "did you mean 'self_attn'"),
        ("module:model.layers.*.mpl", "did you mean 'mlp'"),
        ("module:layers.0.up_proj", "did you mean 'model.layers.*.mlp.up_proj'"),
        ("module:layers.99.mlp", "layers here: 0-23"),
        ("module:mlp.down_proj,layers.*.mlp.dwn_proj", "did you mean 'down_proj'"),
        ("class:Qwen2Mlp", "did you mean 'Qwen2MLP'"),
        ("op:linear include:MLP", "did you mean 'mlp'"),
        ("class:Linear,Qwen2Mlp", "class:Qwen2Mlp matches nothing"),
        ("op:linear layers:24-30", "layers:24-30 matches nothing"),
        ("op:linear layers:2,24-30", "layers here: 0-23"),
        ("op:linear include:norm", "169 modules match, but all are left out"),
        ("op:embedding layers:3", "layers here: none"),
        ("op:linear exclude:model,lm_head", "drop or narrow"),
        ("op:softmax at:weight", "operators of modules here: linear, silu, rms_norm, embedding"),
    ],
)
def test_what_matches_nothing_is_named(qwen, refusal, places, words):
    assert words in refusal(chosen, qwen, places, kind=NoiseSpecError)


def test_operators_that_functions_compute_need_no_module(qwen):
    assert chosen(qwen, "op:qk").modules == chosen(qwen, "op:softmax").modules == ()
    assert chosen(qwen, "op:matmul,linear").modules == chosen(qwen, "op:linear").modules
    assert chosen(qwen, "op:matmul,linear exclude:mlp,lm_head,layers.*.self_attn.*").modules == ()


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ("op:linear include:lm_head exclude:lm_head", "lm_head: asked for and excluded"),
        ("op:linear include:mlp,q_proj exclude:mlp", "model.layers.0.mlp.down_proj and 69 more: asked for and"),
        ("op:linear include:down_proj exclude:mlp", "exclude:mlp takes away all that include:down_proj asks for"),
        ("op:linear include:mlp exclude:up_proj,down_proj,gate_proj", "exclude:gate_proj,up_proj,down_proj takes"),
        ("op:linear include:layers.3,layers.4 exclude:layers.4", "include:layers.4 asks for"),
        ("module:mlp.down_proj exclude:mlp", "module:mlp.down_proj asks for"),
        ("module:q_proj,k_proj exclude:k_proj", "module:k_proj asks for"),
        ("op:rms_norm include:q_proj,norm exclude:q_proj", "q_proj: asked for and excluded"),
    ],
)
def test_asked_for_and_excluded(qwen, refusal, places, words):
    assert words in refusal(chosen, qwen, places, kind=NoiseSpecError)


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ("module:q_proj,self_attn.*_proj", "q_proj is matched twice, by module:q_proj and module:self_attn.*_proj"),
        ("class:*RMSNorm,Qwen2RMSNorm", "input_layernorm is matched twice, by class:*RMSNorm and class:Qwen2RMSNorm"),
    ],
)
def test_two_patterns_for_one_module(qwen, refusal, places, words):
    assert words in refusal(chosen, qwen, places, kind=NoiseSpecError)
    assert len(chosen(qwen, "module:q_proj,self_attn.[kv]_proj").modules) == 3 * LAYERS


def test_one_module_under_two_paths(refusal):
    shared = nn.Linear(2, 2)
    model = nn.ModuleDict({"first": shared, "second": shared})
    assert "first and second are the same module" in refusal(chosen, model, "op:linear", kind=NoiseSpecError)
    assert chosen(model, "op:linear exclude:second").modules == ("first",)


def test_a_module_inside_one_of_its_kind(refusal):
    outer = Odd(2, 2)
    outer.inner = nn.Linear(2, 2)
    model = nn.ModuleDict({"outer": outer})
    assert "outer.inner lies inside outer and both are selected as linear" in refusal(chosen, model, "op:linear")
    assert chosen(model, "op:linear exclude:inner").modules == ("outer",)
    block = TinyFeedForward(TinyFeedForward(nn.Linear(2, 2)), nn.RMSNorm(2))
    assert "0.0 lies inside 0" in refusal(chosen, nn.Sequential(block), "scope:mlp")


def test_tied_weights_at_the_point_weight(refusal):
    model = nn.ModuleDict({"up": nn.Linear(2, 2), "down": nn.Linear(2, 2), "free": nn.Linear(2, 2)})
    model["down"].weight = model["up"].weight
    line = refusal(chosen, model, "op:linear at:weight", kind=NoiseSpecError)
    assert "at:weight on up, whose weight is also that of down" in line and "exclude:up" in line
    assert chosen(model, "op:linear at:weight include:free").modules == ("free",)
    assert len(chosen(model, "op:linear at:input").modules) == 3


def test_layers_are_listed_as_ranges():
    assert layers_text([f"h.{number}.attn" for number in (0, 1, 2, 5, 7, 8)]) == "layers here: 0-2,5,7-8"
