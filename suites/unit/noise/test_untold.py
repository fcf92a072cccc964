"""Operators whose rows belong to no item that could be told: known of a plan, before any weights."""

from __future__ import annotations

import pytest
import torch

from harness.exceptions import NoiseSpecError
from harness.noise.meta import meta_model
from harness.noise.planner import build_plan
from harness.noise.session import NoiseSession
from harness.noise.untold import check_told, untold_sites
from harness.spec import parse_noise
from suites.contract.architectures import build

pytestmark = pytest.mark.unit
ALL = "relative_gaussian @ profile:all-ops"


def names(model: torch.nn.Module, noise: str) -> list[str]:
    return [site.name for site in untold_sites(build_plan(model, parse_noise(noise)))]


def stopped(model: torch.nn.Module, noise: str) -> bool:
    """Whether a named batch under ``noise`` stops."""
    plan = build_plan(model, parse_noise(noise))
    try:
        with torch.no_grad(), NoiseSession(model, plan) as session, session.batch(["a", "b"], [0, 0], 0.05):
            model(input_ids=torch.arange(10).view(2, 5))
    except NoiseSpecError:
        return True
    return False


@pytest.mark.parametrize(
    ("kind", "noise", "told"),
    [
        ("mixtral", ALL, False),
        ("mixtral", f"{ALL} exclude:act_fn", True),
        ("deepseek_v2", f"{ALL} exclude:act_fn", True),
        ("bloom", "relative_gaussian @ profile:matmul", False),
        ("bloom", "relative_gaussian @ op:linear,softmax", True),
        ("qwen3_next", "relative_gaussian @ profile:matmul", True),
        ("jamba", "relative_gaussian @ profile:matmul", True),
        ("qwen3", ALL, True),
        ("mpt", ALL, True),
    ],
)
def test_what_would_stop_at_the_first_batch_is_known_without_weights(kind: str, noise: str, told: bool) -> None:
    model = build(kind)
    model.set_attn_implementation("eager")
    assert stopped(model, noise) == (not told) == bool(names(model, noise))
    assert names(meta_model(model.config), noise) == names(model, noise)


def test_the_refusal_names_what_to_leave_out() -> None:
    plan = build_plan(build("mixtral"), parse_noise(ALL))
    with pytest.raises(NoiseSpecError, match=r"experts\.act_fn .*cannot be told; .*exclude:act_fn$"):
        check_told(plan)


def test_a_block_that_makes_shares_of_what_its_router_gave_keeps_them_clean() -> None:
    """DeepSeek-V2's block computes the softmax of its router itself."""
    model = build("deepseek_v2")
    noisy = {site.name for site in build_plan(model, parse_noise("relative_gaussian @ op:softmax")).sites}
    assert noisy and not any(name.partition(":")[0].endswith(".mlp") for name in noisy)


@pytest.mark.parametrize("kind", ["jamba", "qwen3_5_text", "bamba"])
def test_the_products_of_a_recurrence_stay_clean_and_are_listed(kind: str) -> None:
    plan = build_plan(build(kind), parse_noise("relative_gaussian @ profile:matmul"))
    block = "model.layers.0.linear_attn" if kind == "qwen3_5_text" else "model.layers.0.mamba"
    assert not [site.name for site in plan.sites if site.module == block]
    assert any(name.startswith(f"{block}:") for name in plan.uncovered)
    assert [site.op for site in plan.sites if site.op in ("qk", "pv")] == ["qk", "pv"]
