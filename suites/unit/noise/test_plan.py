"""The plan names everything that is perturbed and everything that is not."""

import pytest
import torch
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM

from harness.exceptions import NoiseSpecError
from harness.noise.audit.auditor import Auditor
from harness.noise.audit.check import check_audit
from harness.noise.audit.comparing import formula_of
from harness.noise.kernel import Kernel
from harness.noise.meta import meta_model
from harness.noise.plan import PRESENCE, UNSCALED
from harness.noise.planner import build_plan
from harness.noise.session import NoiseSession
from harness.spec import parse_noise
from suites.contract.architectures import build

pytestmark = pytest.mark.long
IDS = torch.tensor([[1, 2, 3, 4]])
LINEAR, MATMUL = "relative_gaussian @ op:linear", "relative_gaussian @ profile:matmul"


def audited(model, plan, scale, asked=None):
    """An audit of one forward at ``scale``, with the formula of the strength that was ``asked`` for."""
    formula = None if asked is None else formula_of(plan.spec.error, asked)
    with torch.no_grad(), NoiseSession(model, plan) as session, session.batch(["a"], [0], scale):
        with Auditor(model, formula) as auditor:
            model(input_ids=IDS)
        session.ledger.drain(scale)
    return auditor


def test_rotary_is_excluded_and_fused_attention_out_of_reach(toy):
    plan = build_plan(toy("sdpa"), parse_noise(LINEAR))
    assert len(plan.sites) == 2 * 7 + 1
    left_out = ["model.rotary_emb:angle", *(f"model.layers.{i}.self_attn:sdpa" for i in (0, 1))]
    assert list(plan.excluded) == left_out
    assert set(plan.uncovered) == {f"model.layers.{i}.self_attn:{op}" for i in (0, 1) for op in ("qk", "pv")}
    assert all("fused" in reason for reason in plan.uncovered.values())


def test_eager_attention_is_within_reach_but_not_asked_for(toy):
    plan = build_plan(toy("eager"), parse_noise(LINEAR))
    assert not plan.uncovered
    assert len(plan.excluded) == 5
    everything = build_plan(toy("eager"), parse_noise("relative_gaussian @ op:linear,matmul,rotary"))
    assert not everything.excluded
    assert not everything.uncovered


def test_attention_products_are_refused_under_sdpa(toy):
    with pytest.raises(NoiseSpecError, match=r"--attention eager"):
        build_plan(toy("sdpa"), parse_noise("relative_gaussian @ profile:matmul"))


@pytest.mark.parametrize("op", ["rotary", "rms_norm", "silu", "add"])
def test_a_spec_that_matches_nothing_names_what_there_is(op):
    model = nn.Sequential(nn.Embedding(4, 2), nn.Linear(2, 2))
    with pytest.raises(NoiseSpecError, match=rf"op:{op} matches nothing.*linear"):
        build_plan(model, parse_noise(f"relative_gaussian @ op:{op}"))


WIDE = ("profile:all-ops", "scope:mlp", "class:Qwen2DecoderLayer,Qwen2Attention", "op:add,mul")


@pytest.mark.parametrize("spec", WIDE)
def test_every_site_is_as_wide_as_what_it_gives(toy, spec):
    """Activations and blocks do not say how wide they are; expected counts need it before anything runs."""
    model = toy("eager")
    plan = build_plan(model, parse_noise(f"relative_gaussian @ {spec}"))
    with torch.no_grad(), NoiseSession(model, plan) as session, session.batch(["a"], [0], 0.05):
        model(input_ids=IDS)
        counts = session.ledger.drain(0.05)
    tokens = IDS.shape[1]
    per_site = {site.name: site.columns * (tokens * (tokens + 1) // 2 if site.grows else tokens) for site in plan.sites}
    assert {name: count.elements for name, count in counts.items()} == per_site
    assert all(per_site.values())


class Hidden(nn.Module):
    """A module that multiplies in a spelling of its own."""

    def __init__(self, product):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(32, 32))
        self._product = product

    def forward(self, x):
        return x + 0 * self._product(x, self.weight)


SPELLINGS = {
    "operator": lambda x, w: x @ w,
    "matmul": torch.matmul,
    "mm": lambda x, w: torch.mm(x[0], w),
    "bmm": lambda x, w: torch.bmm(x, w[None].expand(x.shape[0], -1, -1)),
    "linear": nn.functional.linear,
    "addmm": lambda x, w: torch.addmm(x[0], x[0], w),
    "einsum": lambda x, w: torch.einsum("bth,hk->btk", x, w),
    "tensordot": lambda x, w: torch.tensordot(x, w, 1),
    "baddbmm": lambda x, w: torch.baddbmm(x, x, w[None].expand(x.shape[0], -1, -1)),
    "mv": lambda x, w: torch.mv(w, x[0, 0]),
}


@pytest.mark.parametrize("grad", ["inference", "no_grad", "grad"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_product_is_seen(toy, spelling, grad):
    model = toy("eager")
    model.model.norm = nn.Sequential(model.model.norm, Hidden(SPELLINGS[spelling]))
    context = {"inference": torch.inference_mode, "no_grad": torch.no_grad, "grad": torch.enable_grad}[grad]
    with context(), Auditor(model) as auditor:
        model(input_ids=IDS)
    assert sum(count for (module, _), count in auditor.products.items() if module == "model.norm.1") == 1
    for spec, reached in ((LINEAR, {"linear", "addmm"}), (MATMUL, set(SPELLINGS) - {"tensordot"})):
        plan = build_plan(model, parse_noise(spec))
        assert any(site.module == "model.norm.1" for site in plan.sites) is (spelling in reached)
        assert any(name.startswith("model.norm.1:") for name in plan.uncovered) is (spelling not in reached)


def test_a_product_that_appears_later_is_a_problem(toy):
    model = toy()
    plan = build_plan(model, parse_noise(LINEAR))
    model.model.norm = nn.Sequential(model.model.norm, Hidden(torch.matmul))
    assert any("does not name" in problem for problem in check_audit(audited(model, plan, 0.05), plan, 0.05))


def test_audit_agrees_with_an_honest_session(toy):
    model = toy()
    plan = build_plan(model, parse_noise(LINEAR))
    auditor = audited(model, plan, 0.05)
    assert check_audit(auditor, plan, 0.05) == ()
    linears = {module: n for (module, _), n in auditor.products.items() if module in auditor.errors}
    assert linears == {site.module: 1 for site in plan.sites}
    assert check_audit(audited(model, plan, 0.0), plan, 0.0) == ()


def test_audit_sees_noise_in_the_clean_arm(toy):
    model = toy()
    plan = build_plan(model, parse_noise(LINEAR))
    handle = model.model.layers[1].mlp.up_proj.register_forward_hook(lambda m, a, y: y * 1.0001)
    problems = check_audit(audited(model, plan, 0.0), plan, 0.0)
    handle.remove()
    assert len(problems) == 1
    assert "model.layers.1.mlp.up_proj gave" in problems[0]


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_audit_measures_the_error_itself(toy, factor):
    model = toy()
    plan = build_plan(model, parse_noise(LINEAR))
    problems = check_audit(audited(model, plan, 0.05 * factor), plan, 0.05)
    assert len(problems) == len(plan.sites)
    assert "0.05 was asked for" in problems[0]


@pytest.mark.parametrize("way", ["auto", "functions"])
@pytest.mark.parametrize("spec", ["op:linear", "op:rotary", "profile:matmul"])
def test_an_auditor_that_saw_nothing_is_no_audit(toy, spec, way):
    model = toy("eager")
    plan = build_plan(model, parse_noise(f"relative_gaussian @ {spec}"), way)
    problems = check_audit(Auditor(model), plan, 0.05)
    assert problems == tuple(f"audit: {site.name}: no product ran" for site in plan.sites)


def test_an_auditor_that_saw_no_norm_and_no_activation_is_no_audit(toy):
    model = toy()
    plan = build_plan(model, parse_noise("relative_gaussian @ op:rms_norm,silu"))
    problems = check_audit(Auditor(model), plan, 0.05)
    assert len(problems) == len(plan.sites) == 5 + 2
    assert all("could not be compared" in problem for problem in problems)


def test_the_audit_measures_attention_products_too(toy):
    model = toy("eager")
    plan = build_plan(model, parse_noise(MATMUL))
    auditor = audited(model, plan, 0.05)
    assert check_audit(auditor, plan, 0.05) == ()
    assert {site.name for site in plan.sites} <= set(auditor.errors)
    assert check_audit(audited(model, plan, 0.0), plan, 0.0) == ()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_audit_measures_every_operator(toy, attention):
    """What norms, activations, embedding, softmax and fused attention gave is compared too, and what blocks do."""
    model = toy(attention)
    every = "linear,softmax,silu,rms_norm,embedding" + (",qk,pv" if attention == "eager" else ",sdpa")
    every = every.replace(",softmax", "") if attention == "sdpa" else every
    plan = build_plan(model, parse_noise(f"relative_gaussian @ op:{every}"))
    auditor = audited(model, plan, 0.05)
    assert check_audit(auditor, plan, 0.05) == ()
    assert {site.name for site in plan.sites} <= set(auditor.errors)
    for site in plan.sites:
        squared, nonzero, _ = auditor.errors[site.name]
        assert (squared / nonzero) ** 0.5 == pytest.approx(0.05, rel=0.5), site.name
    assert check_audit(audited(model, plan, 0.0), plan, 0.0) == ()


@pytest.mark.parametrize("spec", ["deadzone @ op:linear,pv,silu", "relative_bias @ profile:matmul"])
def test_the_audit_follows_the_formula_element_by_element(toy, spec):
    model = toy("eager")
    plan = build_plan(model, parse_noise(spec))
    assert check_audit(audited(model, plan, 0.1, asked=0.1), plan, 0.1) == ()
    auditor = audited(model, plan, 0.1, asked=0.05)
    problems = check_audit(auditor, plan, 0.05)
    for site in plan.sites:
        words = f"{site.name} gave {auditor.departures[site.name]} elements that"
        assert any(words in problem and "(0.05) does not give" in problem for problem in problems), site.name
        assert auditor.departures[site.name] > 0


def test_the_audit_of_a_renormalised_softmax_asks_that_it_changes(toy):
    """A row of one key stays 1 and a peaked row nearly so: the error that is left depends on the data."""
    model = toy("eager")
    plan = build_plan(model, parse_noise("relative_gaussian @ op:softmax softmax:renormalised"))
    auditor = audited(model, plan, 0.05)
    squared, nonzero, changed = auditor.errors["model.layers.0.self_attn:softmax"]
    assert (squared / nonzero) ** 0.5 < 0.9 * 0.05 and changed
    assert check_audit(auditor, plan, 0.05) == ()
    (problem,) = check_audit(audited(model, plan, 0.0), plan, 0.05)
    assert "no site gave anything" in problem


@pytest.mark.parametrize("name", ["model.layers.1", "model.layers.0.mlp", "model.layers.0.self_attn", "model.norm"])
def test_the_audit_sees_noise_on_a_block_or_norm_that_nobody_asked_for(toy, name):
    model = toy()
    plan = build_plan(model, parse_noise(LINEAR))

    def hurt(module, args, output):
        return (output[0] * 1.001, *output[1:]) if isinstance(output, tuple) else output * 1.001

    handle = model.get_submodule(name).register_forward_hook(hurt)
    problems = check_audit(audited(model, plan, 0.05), plan, 0.05)
    handle.remove()
    assert any(f"{name} gave" in problem for problem in problems), problems


def test_the_audit_of_errors_that_depend_on_the_data_asks_that_something_changes(toy):
    model = toy()
    plan = build_plan(model, parse_noise("deadzone @ op:linear"))
    assert check_audit(audited(model, plan, 0.1), plan, 0.1) == ()
    (problem,) = check_audit(audited(model, plan, 0.0), plan, 0.1)
    assert problem == "audit: no site gave anything but its own result under deadzone"


@pytest.mark.parametrize("op", ["qk", "pv"])
def test_an_injector_that_only_claims_to_perturb_attention_is_caught(toy, monkeypatch, op):
    """The ledger believes the kernel; the auditor does not."""
    honest = Kernel.perturb

    def lying(self, error, y, *rest):
        return y, honest(self, error, y.clone(), *rest)[1]

    model = toy("eager")
    plan = build_plan(model, parse_noise(f"relative_gaussian @ op:{op}"))
    monkeypatch.setattr(Kernel, "perturb", lying)
    problems = check_audit(audited(model, plan, 0.05), plan, 0.05)
    assert len(problems) == 2
    assert all(f":{op} has relative error 0" in problem for problem in problems)


def test_a_site_that_runs_only_sometimes_is_named(toy):
    model = toy()
    plan = build_plan(model, parse_noise(LINEAR))
    auditor = audited(model, plan, 0.05)
    auditor.products["lm_head", "mm"] += 1
    problems = check_audit(auditor, plan, 0.05)
    assert len(problems) >= 1
    assert "times" in problems[0]


def test_soft_capped_attention_is_refused_before_it_runs():
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    model = Gemma2ForCausalLM(Gemma2Config(**sizes, **heads, attn_implementation="eager")).eval()
    with pytest.raises(NoiseSpecError, match="soft-capping and sinks are not supported"):
        build_plan(model, parse_noise("relative_gaussian @ profile:matmul"))
    assert build_plan(model, parse_noise("relative_gaussian @ op:linear")).sites


@pytest.mark.parametrize(
    ("kind", "noise", "told"),
    [
        ("qwen3", "profile:matmul", {}),
        ("gpt_oss", "op:linear", {"self_attn:qk": UNSCALED}),
        ("deepseek_v3", "op:linear", {"self_attn:bmm": UNSCALED}),
        ("falcon", "op:linear", {"self_attention:bmm": UNSCALED}),
        ("falcon", "op:qk,pv", {"self_attention:qk": PRESENCE}),
    ],
)
def test_a_plan_names_what_no_audit_compares(kind: str, noise: str, told: dict[str, str]) -> None:
    model = build(kind)
    found = build_plan(model, parse_noise(f"relative_gaussian @ {noise}")).uncompared
    assert {name.rpartition(".")[2]: reason for name, reason in found.items()} == told
    assert len(found) == 2 * len(told)
    assert not build_plan(meta_model(model.config), parse_noise(f"relative_gaussian @ {noise}")).uncompared
