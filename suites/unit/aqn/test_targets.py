"""Targets by class name across libraries and by path component; multipliers; the hash of what settings come to."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from harness.aqn.config import RELATIVE, AqnConfig, constant
from harness.aqn.holder import ModuleHolder
from harness.aqn.multipliers import (
    Multipliers,
    ceiling,
    depth_heuristic,
    inverse,
    parse_multipliers,
    proportional,
    targeted,
    variable,
    zone_schedule,
)
from harness.aqn.schedule import Schedule
from harness.aqn.session import Aqn
from harness.aqn.targets import Targets, canonical, kind_of, layer_of, matches
from harness.exceptions import HarnessError

pytestmark = pytest.mark.unit


def cls(name, *bases):
    return type(name, bases or (object,), {})


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (cls("RMSNorm"), "rmsnorm"),
        (cls("Qwen2RMSNorm"), "rmsnorm"),
        (cls("FSDPQwen2RMSNorm", cls("Qwen2RMSNorm")), "rmsnorm"),
        (cls("Noisy", cls("RMSNorm")), "rmsnorm"),
        (nn.LayerNorm, "layernorm"),
        (nn.Linear, "linear"),
        (cls("QKVParallelLinear", cls("ColumnParallelLinear", cls("LinearBase"))), "linear"),
        (cls("ParallelLMHead", cls("VocabParallelEmbedding")), "linear"),
        (cls("Conv1D"), "linear"),
        (nn.Embedding, None),
        (cls("LinearAttention"), None),
        (cls("NormalHead"), None),
    ],
)
def test_kinds_go_by_class_names(found, kind):
    assert kind_of(found) == kind


def test_paths_are_compared_by_component():
    assert matches("mlp.gate", "model.layers.2.mlp.gate") and not matches("mlp.gate", "model.layers.2.mlp.gate_up_proj")
    assert matches("layers.2", "model.layers.2.mlp") and not matches("layers.2", "model.layers.20.mlp")
    assert matches("layers.*.mlp", "model.layers.3.mlp.up_proj") and not matches("a.b.c", "b.c")
    assert canonical("base_model.model.model.layers.0.q_proj.base_layer") == "model.layers.0.q_proj"
    assert layer_of("transformer.h.11.ln_1") == 11 and layer_of("model.norm") is None


def test_the_mixture_of_experts_rule():
    norms = Targets(("rmsnorm",))
    assert norms.takes("rmsnorm", "model.layers.0.input_layernorm", experts=False)
    assert not norms.takes("rmsnorm", "model.layers.0.input_layernorm", experts=True)
    assert norms.takes("rmsnorm", "model.layers.0.post_attention_layernorm", experts=True)
    linears = Targets(("linear",))
    assert not linears.takes("linear", "model.layers.0.mlp.gate", experts=True)
    assert linears.takes("linear", "model.layers.0.mlp.gate_proj", experts=True)
    assert not linears.takes("linear", "lm_head", experts=False)
    assert Targets(("linear",), include=("lm_head",)).takes("linear", "lm_head", experts=False)
    assert not linears.takes("linear", "model.layers.0.q_proj.lora_A.default", experts=False)


class RMSNorm(nn.Module):
    """As vLLM has it: a class of its own, with the name that counts."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))


class QKVParallelLinear(nn.Module):
    """As vLLM has it: three matrices in one."""

    def __init__(self, inside, sizes, ranks=1, rank=0):
        super().__init__()
        self.output_sizes, self.tp_size, self.tp_rank = sizes, ranks, rank
        self.weight = nn.Parameter(torch.zeros(sum(sizes) // ranks, inside))


class ColumnParallelLinear(QKVParallelLinear):
    """One matrix, of which a rank has some rows."""


class RowParallelLinear(nn.Module):
    """One matrix, of which a rank has some columns."""

    def __init__(self, rows, columns, ranks, rank):
        super().__init__()
        self.tp_size, self.tp_rank = ranks, rank
        self.weight = nn.Parameter(torch.zeros(rows, columns // ranks))


def layers(norm, linear):
    """A module whose layer 0 has one norm and one linear under the names given."""
    model = nn.Module()
    model.layers = nn.ModuleList([nn.Module()])
    for name, module in (norm, linear):
        setattr(model.layers[0], name, module)
    return model


def noise(model, kind="linear", sigma=0.01, **more):
    aqn = Aqn(ModuleHolder(model), AqnConfig(constant(sigma), Targets((kind,)), force=True, **more))
    return aqn.apply(0)


def test_a_fused_matrix_draws_as_its_parts():
    fused = layers(("input_layernorm", RMSNorm(8)), ("qkv_proj", QKVParallelLinear(8, [8, 4, 4])))
    assert [layer.name for layer in noise(fused).layers] == [f"layers.0.{part}_proj" for part in "qkv"]
    whole = fused.layers[0].qkv_proj.weight
    for name, rows in (("q_proj", slice(0, 8)), ("k_proj", slice(8, 12)), ("v_proj", slice(12, 16))):
        alone = layers(("input_layernorm", RMSNorm(8)), (name, nn.Linear(8, rows.stop - rows.start, bias=False)))
        with torch.no_grad():
            getattr(alone.layers[0], name).weight.zero_()
        noise(alone)
        assert torch.equal(getattr(alone.layers[0], name).weight, whole[rows])


def test_tensor_parallel_pieces_draw_as_the_whole():
    whole = nn.Linear(8, 12, bias=False)
    with torch.no_grad():
        whole.weight.zero_()
    noise(layers(("norm", RMSNorm(4)), ("proj", whole)))
    for rank in range(2):
        columns = RowParallelLinear(12, 8, 2, rank)
        noise(layers(("norm", RMSNorm(4)), ("proj", columns)))
        assert torch.equal(columns.weight, whole.weight[:, 4 * rank : 4 * rank + 4])
        rows = ColumnParallelLinear(8, [12], 2, rank)
        noise(layers(("norm", RMSNorm(4)), ("proj", rows)))
        assert torch.equal(rows.weight, whole.weight[6 * rank : 6 * rank + 6])


def test_zero_matches_are_an_error_that_says_what_there_is():
    with pytest.raises(HarnessError, match="match 0 layers; the model has 1 rmsnorm, 1 linear"):
        noise(layers(("norm", RMSNorm(4)), ("proj", nn.Linear(4, 4))), "layernorm")


def test_packed_weights_are_an_error():
    packed = nn.Linear(4, 4, bias=False)
    packed.weight = nn.Parameter(torch.empty(0))
    with pytest.raises(HarnessError, match="packed it"):
        noise(layers(("norm", RMSNorm(4)), ("proj", packed)))


def test_multipliers_of_every_kind():
    assert [targeted(range(14, 18)).of(n) for n in (13, 14, 17, 18)] == [0, 1, 1, 0] and targeted([1]).of(None) == 0
    kinds = variable(range(14, 18), (*range(10, 14), *range(18, 22)))
    assert [kinds.of(n) for n in (9, 10, 14, 21, 22)] == [1, 1.2, 1.5, 1.2, 1]
    assert sorted(n for n, m in depth_heuristic(28).layers.items() if m) == list(range(11, 17))
    errors = {0: 0.1, 1: 0.3}
    assert proportional(errors).layers == pytest.approx({0: 0.5, 1: 1.5})
    assert inverse(errors).layers == pytest.approx({0: 1.5, 1: 0.5})
    top = ceiling(inverse(errors))
    assert top.layers == pytest.approx({0: 1, 1: 1 / 3}) and top.default == pytest.approx(2 / 3)
    zones = zone_schedule((0, 1), (2, 3))
    assert [zones.of(2, at) for at in (0, 0.49, 0.5, 1)] == [1, 1, 0.5, 0.5] and zones.of(0, 1) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: targeted(()),
        lambda: Multipliers(0.0, {1: 0.0}),
        lambda: Multipliers(-1.0),
        lambda: Multipliers(1.0, {1: float("nan")}),
        lambda: Multipliers(1.0, {-1: 1.0}),
        lambda: inverse({0: 0.0}),
        lambda: proportional({}),
        lambda: zone_schedule((1, 2), (2,)),
        lambda: parse_multipliers("targeted:9", 4),
        lambda: parse_multipliers("tragetted:1", 4),
        lambda: parse_multipliers("targeted:2-1", 4),
        lambda: parse_multipliers("layers:1=x", 4),
        lambda: Multipliers.from_json({"defualt": 1}),
        lambda: Targets(("rmsnrom",)),
        lambda: Targets(()),
        lambda: Targets(exclude=("a..b",)),
        lambda: AqnConfig(constant(0.1), mode="procentual"),
        lambda: AqnConfig(constant(0.1), seed=-1),
        lambda: AqnConfig.from_json({"schedule": {}, "layer_sigma_config": {}}),
        lambda: AqnConfig.from_json({"schedule": {"sigma_start": 0.1}}),
        lambda: Targets.from_json({"kinds": ["rmsnorm"], "exlude": ["lm_head"]}),
        lambda: Multipliers.from_json({"layers": {"-1": 1.0}}),
        lambda: Multipliers.from_json({"layers": {"0": "1"}}),
    ],
)
def test_what_nobody_could_read_or_do_is_an_error(wrong):
    with pytest.raises(HarnessError) as caught:
        wrong()
    assert "\n" not in str(caught.value)


NAMES = [(f"model.layers.{n}.input_layernorm", "rmsnorm", n) for n in range(4)]


def hash_of(multipliers=None, names=NAMES, **more):
    schedule = more.pop("schedule", Schedule(0.05, 0.0005, 29))
    return AqnConfig(schedule, multipliers=multipliers or Multipliers(), **more).effective_hash(names)


def test_settings_that_act_the_same_have_the_same_hash():
    uniform = hash_of()
    assert hash_of(targeted(range(4))) == uniform
    assert hash_of(Multipliers(0.5), schedule=Schedule(0.1, 0.001, 29)) == uniform
    assert hash_of(schedule=Schedule(0.05, 0.0005, 29, 10, epochs=1), force=True) == uniform
    assert hash_of(zone_schedule((), range(4), early=1, late=1)) == uniform
    assert hash_of(targeted([1])) == hash_of(names=NAMES[1:2])
    assert (
        len({uniform, hash_of(seed=1), hash_of(mode=RELATIVE), hash_of(targeted([1])), hash_of(Multipliers(1.1))}) == 5
    )
    assert hash_of(zone_schedule((), range(4))) != uniform and hash_of(norm_dtype="float32") != uniform


def test_multipliers_that_miss_every_layer_are_an_error():
    with pytest.raises(HarnessError, match="no layer gets anything"):
        hash_of(targeted([17]))


def test_settings_survive_json():
    config = AqnConfig(Schedule(0.05, 0.0005, 29), Targets(("linear",), exclude=("mlp",)), targeted([2]), RELATIVE, 7)
    assert AqnConfig.from_json(config.to_json()) == config


def test_relative_sigma_is_of_the_spread():
    linear = nn.Linear(64, 64, bias=False)
    spread = float(linear.weight.detach().double().std(correction=0))
    (layer,) = noise(layers(("norm", RMSNorm(4)), ("proj", linear)), sigma=0.1, mode=RELATIVE).layers
    assert layer.asked == pytest.approx(0.1 * spread) and layer.relative == pytest.approx(0.1)


def test_more_than_half_of_the_spread_is_refused_unless_forced():
    model = layers(("norm", RMSNorm(4)), ("proj", nn.Linear(64, 64, bias=False)))
    config = AqnConfig(constant(0.05), Targets(("linear",)))
    with pytest.raises(HarnessError, match="of the spread of its weights"):
        Aqn(ModuleHolder(model), config).apply(0)
    assert noise(model, sigma=0.05).layers[0].relative > 0.5


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("uniform", Multipliers()),
        ("depth", depth_heuristic(28)),
        ("targeted:14-17", targeted(range(14, 18))),
        ("variable:14-17/10-13,18-21", variable(range(14, 18), (*range(10, 14), *range(18, 22)))),
        ("zones:0-5,23-27/6-22", zone_schedule((*range(6), *range(23, 28)), range(6, 23))),
        ("zones:0/1/0.25/2/0.5", zone_schedule((0,), (1,), 0.25, 2.0, 0.5)),
        ("layers:3=1.5,4=0.5", Multipliers(1.0, {3: 1.5, 4: 0.5})),
        ("layers:default=0,3=1.5", Multipliers(0.0, {3: 1.5})),
        ("ceiling:variable:1/2", ceiling(variable((1,), (2,)))),
    ],
)
def test_every_kind_of_multipliers_has_a_text(text, wanted):
    assert parse_multipliers(text, 28) == wanted


def test_multipliers_come_from_the_errors_of_a_file(tmp_path):
    table, scan = tmp_path / "errors.json", tmp_path / "scan.json"
    table.write_text('{"0": 0.1, "1": 0.3}')
    rows = [{"group": f"model.layers.{n}", "what": "weights", "format": "mxfp4"} for n in (0, 1)]
    metrics = [{"metrics": {"sqnr_db": 20.0}}, {"metrics": {"sqnr_db": 20 - 20 * math.log10(3)}}]
    outside = {"group": "outside the layers", "what": "weights", "format": "mxfp4", "metrics": {"sqnr_db": 9.0}}
    scan.write_text(json.dumps({"layers": [row | m for row, m in zip(rows, metrics, strict=True)] + [outside]}))
    for file in (table, scan):
        assert parse_multipliers(f"proportional:{file}", 2).layers == pytest.approx({0: 0.5, 1: 1.5})
        assert parse_multipliers(f"inverse:{file}", 2).layers == pytest.approx({0: 1.5, 1: 0.5})
        assert max(parse_multipliers(f"ceiling:inverse:{file}", 2).layers.values()) == 1


@pytest.mark.parametrize(
    "text",
    [
        '{"0": 0}',
        '{"0": true}',
        '{"a": 1}',
        "{}",
        '{"layers": []}',
        '{"layers": [1]}',
        '{"layers": [{"what": "weights"}]}',
        '{"layers": [{"what": "weights", "format": "a", "group": "l.0", "metrics": {"sqnr_db": "NaN"}}]}',
    ],
)
def test_files_without_errors_are_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(HarnessError) as caught:
        parse_multipliers(f"inverse:{tmp_path / 'x.json'}", 4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["uniform:1", "targeted:", "variable:1", "zones:0-1", "zones:0/1/0.5", "layers:", "layers:1=2,1=3", "ceiling:",
     "layers:default=0,default=1", "zones:0/1/x/1/1", "inverse:", "inverse:absent.json"],
)  # fmt: skip
def test_texts_that_say_nothing_are_refused(text):
    with pytest.raises(HarnessError):
        parse_multipliers(text, 4)
