"""Plans of a recipe's passes: experts, which no training arm reaches, are refused or left out, and never counted."""

from __future__ import annotations

import pytest

from harness.exceptions import NoiseSpecError
from harness.noise.planner import build_plan
from harness.spec import parse_noise
from harness.testing import tiny_model
from harness.training.book import load_recipe, resolved
from harness.training.estimate import estimate
from harness.training.sizes import sizes_of
from harness.training.verl_plugin.plans import actor_plans, aqn_targets, check_dense, rollout_plan, silent

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("noise", ["relative_gaussian(0.05)", "fake_quant(mxfp4) @ op:linear at:weight"])
def test_experts_in_a_training_arm_are_refused_unless_they_are_left_out(noise: str) -> None:
    model = tiny_model("mixtral")
    with pytest.raises(NoiseSpecError, match=r"experts:gate_up_proj.*stay clean here.*exclude:experts"):
        check_dense(model, [build_plan(model, parse_noise(noise))])
    place = "exclude:experts" if "@" in noise else "@ op:linear exclude:experts"
    check_dense(model, [build_plan(model, parse_noise(f"{noise} {place}"))])


def test_a_pass_that_is_only_quantized_counts_no_experts() -> None:
    mixture, dense = tiny_model("mixtral"), tiny_model()
    assert str(silent(mixture)) == "relative_gaussian(0) @ op:linear exclude:experts"
    assert not any(site.field for site in build_plan(mixture, silent(mixture)).sites)
    assert silent(dense).exclude == ()


@pytest.mark.parametrize("name", ["E5b", "E13i"])
def test_what_is_planned_on_the_outline_is_what_the_check_of_the_recipe_expects(name: str) -> None:
    """Every process makes its plans on a model without weights, before there are any."""
    recipe = load_recipe(name, "tiny")
    sizes, path = sizes_of(recipe), resolved(recipe.model.path)
    assert path is not None
    config, expected = recipe.aqn_config(sizes.layers), estimate(recipe, sizes)
    assert config is not None and len(aqn_targets(config, path)) == expected["aqn_layers"]
    plan = rollout_plan(recipe, path)
    assert plan is not None and len(plan.noise.sites) == sizes.counts["linear"]
    for each in actor_plans(recipe, path).values():
        assert each.noise.sites == plan.noise.sites
