"""The ten laws over every way in, error model and dtype. What each says is in the law functions."""

from __future__ import annotations

import pytest
import torch

from harness.exceptions import NoiseSpecError
from harness.noise import NoiseSession, build_plan, noisy, phase
from harness.spec import parse_noise
from harness.spec.errors import ERROR_MODELS
from harness.thresholds import effect_bounds
from suites.contract import noise_gradient_laws as gradient_laws
from suites.contract import noise_laws as laws
from suites.contract import noise_value_laws as value_laws
from suites.contract.noise_models import DTYPES, ITEMS, WAYS, build, noisy_run, passes, plan_of, same, same_bits

pytestmark = pytest.mark.contract
SPEC = "relative_gaussian(0.1) @ op:linear when:both"
every_case = pytest.mark.parametrize(
    ("way", "error", "dtype"),
    [
        pytest.param(way, error, dtype, id=f"{way}-{error}-{str(dtype).removeprefix('torch.')}")
        for way in WAYS
        for error in (*ERROR_MODELS, "mxfp4", "nvfp4")
        for dtype in DTYPES
    ],
)


@every_case
def test_strength_zero_is_bitwise_clean_and_counted(way, error, dtype):
    laws.clean_at_zero(way, error, dtype)


@every_case
def test_noise_changes_values_and_keeps_everything_else(way, error, dtype):
    laws.changes(way, error, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_at_strength_zero(dtype):
    gradient_laws.norms_keep_their_gradient(dtype)


def test_a_block_that_changed_nothing_raises():
    laws.proves_something()


@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left_behind(way, kind):
    place, how = WAYS[way]
    if kind == "gpt2":
        place = place.replace("silu", "gelu").replace("at:weight", "exclude:lm_head at:weight")  # it is tied
    laws.restores(place, how, kind)


def test_sessions_nest():
    """Each one's noise is on while its block is open, in any mixture of ways; the outer one goes on alone."""
    model = build()
    before = laws.state_of(model)
    with noisy(model, SPEC) as outer:
        alone = passes(model)
        with noisy(model, "relative_gaussian(0.1) @ op:silu,qk when:both", way="functions") as inner:
            both = passes(model)
            inner.require(sites=4)
        again = passes(model)
        outer.require(direction="forward", calls=45)
    assert not same_bits(alone.logits, both.logits)
    assert not same_bits(alone.logits, again.logits), "another forward, other draws"
    model.zero_grad(set_to_none=True)
    laws.same_state(before, laws.state_of(model))


def test_a_nested_session_adds_its_noise_to_that_of_the_outer_one():
    model = build()
    first, second = plan_of("qwen2", "op:linear", "auto"), plan_of("qwen2", "op:qk,softmax", "functions")
    runs = []
    for plans in ((first, second), (second, first)):
        with (
            NoiseSession(model, plans[0]) as outer,
            NoiseSession(model, plans[1]) as inner,
            outer.batch(ITEMS, [0] * 3, 0.1),
            inner.batch(ITEMS, [0] * 3, 0.1),
        ):
            runs.append(passes(model))
    assert same(*runs)
    assert not same(runs[0], noisy_run(model, first, 0.1))


def test_a_generator_may_hold_a_session():
    model = build()
    before = laws.state_of(model)

    def lasting():
        with noisy(model, "relative_gaussian(0.1) @ op:linear,add", way="functions", checked=False) as noise:
            while True:
                yield noise

    held = lasting()
    next(held)
    with noisy(model, "relative_gaussian(0.1) @ op:silu"):
        passes(model)
    passes(model)
    assert next(held).require(op="linear", sites=15)
    held.close()
    model.zero_grad(set_to_none=True)
    laws.same_state(before, laws.state_of(model))


def test_every_part_of_the_key_matters():
    laws.keyed_by_everything()


def test_batch_and_generator_do_not():
    laws.keyed_by_nothing_else()


def test_the_global_generator_is_untouched():
    laws.leaves_generator_alone()


def test_planning_in_training_mode_draws_no_dropout():
    model = build("gpt2").train()
    model.transformer.drop.p = 0.5
    before = torch.get_rng_state()
    build_plan(model, parse_noise(SPEC))
    assert torch.equal(before, torch.get_rng_state())
    assert all(module.training for module in model.modules())


def test_a_named_step_keys_the_draws_of_a_forward():
    laws.keyed_by_the_step()


def test_planning_inside_a_session_is_no_forward_of_it():
    """Neither counted, nor numbered, nor held against the batch that is named."""
    model, plan = build(), plan_of("qwen2", "op:linear when:both", "auto")
    runs = []
    for planning in (False, True):
        with NoiseSession(model, plan) as session, session.batch(ITEMS, [0] * 3, 0.1):
            if planning:
                build_plan(model, parse_noise(SPEC))
                assert not session.ledger.counts(0.1)
            runs.append(passes(model))
    assert same(*runs)
    with noisy(None, "relative_gaussian(0.1) @ op:linear", checked=False) as noise:
        build_plan(model, parse_noise(SPEC))
        assert not noise.counts()


@pytest.mark.parametrize("scale", [0.02, 0.1])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("error", ["relative_gaussian", "relative_bias", "nondeterministic"])
def test_the_achieved_error_is_the_requested_one(error, dtype, scale):
    value_laws.moments(error, dtype, scale)


def test_the_result_itself_carries_the_error():
    value_laws.result_carries_the_error()


@pytest.mark.parametrize("way", ["hooks", "functions", "weights"])
def test_a_dtype_that_cannot_carry_the_scale_shows_it(way):
    run = noisy_run(build(dtype=torch.bfloat16), plan_of("qwen2", *WAYS[way]), 1e-4)
    in_the_dtype = {label: count for label, count in run.counts.items() if count.op != "softmax"}
    assert len(in_the_dtype) >= 15, "all but the softmax, which is computed in float32"
    for label, count in in_the_dtype.items():
        low, high = effect_bounds(count.nonzero)
        assert not low <= count.relative_rms / 1e-4 <= high, label


def test_counts_are_the_analytic_ones():
    value_laws.counts_are_analytic()


@pytest.mark.parametrize("way", ["hooks", "functions"])
def test_gradients_are_booked_where_they_were(way):
    gradient_laws.booked_where_it_was(way)


@pytest.mark.parametrize("way", ["auto", "functions"])
def test_selection_holds_in_backward(way):
    gradient_laws.selection_holds_in_backward(way)
    gradient_laws.only_the_operator(way)


def test_a_phase_gates_forward_and_backward():
    model = build()
    with noisy(model, f"{SPEC} phase:training") as noise:
        with phase("rollout"):
            assert same(passes(model), passes(build()))
            assert not noise.counts()
        with phase("training"):
            passes(model)
        counted = noise.require(phase="training")
        with pytest.raises(NoiseSpecError, match="no phase is declared"):
            passes(model)
    assert {count.direction for count in counted} == {"forward", "backward"}


@pytest.mark.parametrize("checkpointing", [None, False, True])
@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("qwen2", "profile:all-ops"),
        ("qwen2", "op:linear,sdpa,rms_norm,add"),
        ("gpt2", "profile:all-ops"),
        ("opt", "profile:all-ops"),
    ],
)
def test_hooks_and_functions_agree_bit_for_bit(kind, place, checkpointing):
    gradient_laws.ways_agree(checkpointing, place, kind)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_hooks_and_functions_agree_in_lower_precision(dtype):
    gradient_laws.ways_agree(None, dtype=dtype)


def test_what_matches_nothing_or_twice_is_refused():
    laws.refuses_what_matches_nothing()


def test_ledgers_of_parts_add_up():
    value_laws.halves_add_up()
