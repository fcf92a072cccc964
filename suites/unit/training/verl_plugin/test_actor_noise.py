"""The actor's noise: whose draws, in which pass, counted where; on a model of transformers, without verl."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.engines.sessions import open_sessions
from harness.integrations.vllm_plugin.rows import prompt_item
from harness.noise.planner import build_plan
from harness.testing import tiny_model
from harness.training.book import load_recipe
from harness.training.injection import ACTOR, INDEPENDENT, OLD_LOG_PROB, REFERENCE, ROLLOUT, SAME, TRAINING_FORWARD
from harness.training.verl_plugin.actor_noise import ActorNoise
from harness.training.verl_plugin.keys import draw_seed, items_of
from harness.training.verl_plugin.ledgers import changed, summarised
from harness.training.verl_plugin.plans import PassPlan

pytestmark = pytest.mark.unit
LEVEL = 0.05
PROMPTS = ([5, 6, 7], [9, 8, 7, 6, 5, 4])
ANSWERS = ([1, 2, 3, 4], [3, 1])


@pytest.fixture(scope="module")
def model():
    return tiny_model(seed=3)


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("E5", "tiny", {"noise": {"draws": "same"}})


def plans_of(model, recipe, *names):
    return {name: PassPlan(build_plan(model, recipe.noise.spec_in(name)), (), LEVEL) for name in names}


def padded(sequences):
    width = max(map(len, sequences))
    ids = torch.tensor([each + [0] * (width - len(each)) for each in sequences])
    mask = torch.tensor([[1] * len(each) + [0] * (width - len(each)) for each in sequences])
    return ids, mask


def sequences():
    return [prompt + answer for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]


def items():
    return items_of([torch.tensor(each) for each in sequences()], list(map(len, ANSWERS)))


def test_the_item_is_the_digest_of_the_prompt_that_vllm_takes():
    assert items() == [prompt_item(prompt) for prompt in PROMPTS]


def test_the_samples_of_a_prompt_share_their_item_and_another_prompt_has_its_own():
    found = items_of([torch.tensor([4, 4, 1]), torch.tensor([4, 4, 2, 3]), torch.tensor([4, 1, 1])], [1, 2, 1])
    assert found[0] == found[1] != found[2]


def test_seeds_differ_between_steps_and_runs_and_between_independent_sides_alone():
    same = {draw_seed(1, 5, side, SAME) for side in (ROLLOUT, ACTOR)}
    apart = {draw_seed(1, 5, side, INDEPENDENT) for side in (ROLLOUT, ACTOR)}
    assert len(same) == 1 and len(apart) == 2
    assert len({draw_seed(run, step, ACTOR, SAME) for run in (1, 2) for step in (1, 2)}) == 4
    assert all(0 <= seed < 1 << 63 for seed in same | apart)


def test_the_padded_batch_has_the_log_probabilities_that_a_rollout_samples_token_by_token(model, recipe):
    """What verl compares: a rollout with a cache, sequence by sequence, against the actor's right-padded batch."""
    noise = ActorNoise(model, recipe, plans_of(model, recipe, OLD_LOG_PROB))
    noise.step = 4
    ids, mask = padded(sequences())
    with torch.no_grad(), noise.during(OLD_LOG_PROB), noise.rows(items()):
        batched = model(input_ids=ids, attention_mask=mask).logits
    seed = draw_seed(recipe.run.seed, 4, ROLLOUT, SAME)
    for row, (prompt, sequence) in enumerate(zip(PROMPTS, sequences(), strict=True)):
        one_by_one = sampled(model, recipe, prompt, sequence, seed)
        assert torch.allclose(batched[row, len(prompt) - 1 : len(sequence) - 1], one_by_one, atol=2e-5)
        other = sampled(model, recipe, prompt, sequence, seed + 1)
        apart = (other - one_by_one).abs().max()
        assert apart > 100 * (batched[row, len(prompt) - 1 : len(sequence) - 1] - one_by_one).abs().max()


def sampled(model, recipe, prompt, sequence, seed):
    """The logits of every answer token, as a rollout with a cache computes them."""
    plan = build_plan(model, recipe.noise.spec_in(ROLLOUT))
    found, cache = [], None
    with (
        torch.no_grad(),
        open_sessions(model, plan, ()) as sessions,
        sessions.batch([prompt_item(prompt)], [seed], LEVEL),
    ):
        fed = prompt
        for token in sequence[len(prompt) :]:
            output = model(input_ids=torch.tensor([fed]), past_key_values=cache, use_cache=True)
            cache, fed = output.past_key_values, [token]
            found.append(output.logits[0, -1])
    return torch.stack(found)


def test_a_pass_without_a_plan_is_untouched_and_still_counted(model, recipe):
    noise = ActorNoise(model, recipe, plans_of(model, recipe, OLD_LOG_PROB))
    ids, mask = padded(sequences())
    with torch.no_grad():
        clean = model(input_ids=ids, attention_mask=mask).logits
        with noise.during(REFERENCE), noise.rows(items()):
            reference = model(input_ids=ids, attention_mask=mask).logits
    assert torch.equal(clean, reference)
    assert noise.report()["passes"] == {REFERENCE: {"micro_batches": 1, "sequences": 2, "counts": [], "gradients": {}}}
    assert noise.report()["passes"] == {}


@pytest.mark.parametrize(
    ("passes", "directions"),
    [
        (("training_forward",), {"forward"}),
        (("backward",), {"backward"}),
        (("training_forward", "backward"), {"forward", "backward"}),
    ],
)
def test_training_is_perturbed_in_the_directions_of_the_recipe(model, recipe, passes, directions):
    part = replace(recipe.noise, passes=passes, draws="one_side")
    plans = plans_of(model, replace(recipe, noise=part), TRAINING_FORWARD)
    noise = ActorNoise(model, replace(recipe, noise=part), plans)
    ids, mask = padded(sequences())
    with noise.during(TRAINING_FORWARD):
        with noise.rows(items()):
            logits = model(input_ids=ids, attention_mask=mask).logits
        logits.square().sum().backward()
    model.zero_grad()
    report = noise.report()
    lines = summarised(report["passes"][TRAINING_FORWARD]["counts"], report["sites"][TRAINING_FORWARD])
    assert {line["direction"] for line in lines if line["changed"]} == directions
    assert all(line["missing"] == line["extra"] == [] for line in lines)


def test_a_summary_names_what_was_not_planned_and_what_is_missing():
    count = {"kind": "noise", "op": "linear", "direction": "forward", "level": 0.05, "site": "a.q_proj"}
    count |= dict.fromkeys(("calls", "rows", "elements", "changed", "nonfinite"), 2) | {"signal": 4.0, "error": 1.0}
    (line,) = summarised([count, {**count, "site": "a.k_proj"}], ["a.q_proj", "a.v_proj"])
    assert line["missing"] == ["a.v_proj"] and line["extra"] == ["a.k_proj"]
    assert line["sites"] == 2 and changed([line]) == 4 and changed([line], "backward") == 0
