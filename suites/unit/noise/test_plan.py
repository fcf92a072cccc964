"""The plan names everything that is perturbed and everything that is not."""

import pytest
import torch
from torch import nn

from harness.exceptions import NoiseSpecError
from harness.noise.auditor import Auditor
from harness.noise.kernel import Kernel
from harness.noise.plan import build_plan, check_audit
from harness.noise.session import NoiseSession
from harness.spec import parse_noise

pytestmark = pytest.mark.unit
IDS = torch.tensor([[1, 2, 3, 4]])
LINEAR = "relative_gaussian @ op:linear"


def audited(model, plan, scale):
    with torch.no_grad(), NoiseSession(model, plan) as session, session.batch(["a"], [0], scale):
        with Auditor(model) as auditor:
            model(input_ids=IDS)
        session.ledger.drain(scale)
    return auditor


def test_rotary_is_excluded_and_fused_attention_out_of_reach(toy):
    plan = build_plan(toy("sdpa"), parse_noise(LINEAR))
    assert len(plan.sites) == 2 * 7 + 1
    assert list(plan.excluded) == ["model.rotary_emb:angle"]
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


def test_a_spec_that_matches_nothing_names_what_there_is():
    model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(NoiseSpecError, match=r"op:rotary matches nothing.*linear"):
        build_plan(model, parse_noise("relative_gaussian @ op:rotary"))


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
    model = toy()
    model.model.norm = nn.Sequential(model.model.norm, Hidden(SPELLINGS[spelling]))
    context = {"inference": torch.inference_mode, "no_grad": torch.no_grad, "grad": torch.enable_grad}[grad]
    with context(), Auditor(model) as auditor:
        model(input_ids=IDS)
    assert sum(count for (module, _), count in auditor.products.items() if module == "model.norm.1") == 1
    plan = build_plan(model, parse_noise(LINEAR))
    assert [name for name in plan.uncovered if name.startswith("model.norm.1:")]


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
    assert "model.layers.1.mlp.up_proj let out" in problems[0]


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_audit_measures_the_error_itself(toy, factor):
    model = toy()
    plan = build_plan(model, parse_noise(LINEAR))
    problems = check_audit(audited(model, plan, 0.05 * factor), plan, 0.05)
    assert len(problems) == len(plan.sites)
    assert "0.05 was asked for" in problems[0]


def test_an_auditor_that_saw_nothing_is_no_audit(toy):
    model = toy()
    plan = build_plan(model, parse_noise(LINEAR))
    problems = check_audit(Auditor(model), plan, 0.05)
    assert len(problems) == len(plan.sites)
    assert all("no product of" in problem for problem in problems)


def test_the_audit_measures_attention_products_too(toy):
    model = toy("eager")
    plan = build_plan(model, parse_noise("relative_gaussian @ profile:matmul"))
    auditor = audited(model, plan, 0.05)
    assert check_audit(auditor, plan, 0.05) == ()
    assert set(auditor.errors) == {site.name for site in plan.sites}
    assert check_audit(audited(model, plan, 0.0), plan, 0.0) == ()


@pytest.mark.parametrize("op", ["qk", "pv"])
def test_an_injector_that_only_claims_to_perturb_attention_is_caught(toy, monkeypatch, op):
    """The ledger believes the kernel; the auditor does not."""
    honest = Kernel.perturb

    def lying(self, y, rows, columns, scale, real):
        after, sums = honest(self, y, rows, columns, scale, real)
        return (y if y.ndim == 4 or y.shape[-1] == 32 else after), sums

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
