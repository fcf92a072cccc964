"""Plans of a recipe's passes: experts, which no training arm reaches, are refused or left out, and never counted."""

from __future__ import annotations

import pytest

from harness.exceptions import NoiseSpecError
from harness.noise.planner import build_plan
from harness.spec import parse_noise
from harness.testing import tiny_model
from harness.training.verl_plugin.plans import check_dense, silent

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
