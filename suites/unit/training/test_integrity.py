"""Every check of a run against a clean run and a planted violation: it is silent about the one and names the other."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from harness.training import apart, integrity
from harness.training.book import load_recipe
from harness.training.evidence import Evidence
from harness.training.injection import PASSES
from harness.training.integrity import CHECKS, judge
from harness.training.verl_plugin.ledgers import summarised

pytestmark = pytest.mark.unit
LAYERS, STEPS, LEVEL = 4, 3, 0.05
TOKENS, SEQUENCES = 480, 32
SITES = ["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj", "lm_head"]
NORMS = ["model.norm", "model.layers.0.input_layernorm"]
RUN = {"run": {"epochs": 1, "steps": STEPS, "validate_every": STEPS, "save_every": STEPS}}
SAME = {**RUN, "noise": {"draws": "same"}}
W4A4 = {**RUN, "noise": False, "quantization": {"weights": "mxfp4", "activations": "mxfp4"}}
VALIDATED = {**RUN, "noise": {"draws": "same", "passes": list(PASSES)}}
QUANTIZED = {**RUN, "noise": False, "quantization": {"weights": "mxfp4"}}
DAPO = {**RUN, "noise": False, "algorithm": {"filter_groups": True}, "data": {"gen_batch": 16}}
AQN = {**RUN, "noise": False, "aqn": {"epoch_aware": False, "num_stages": 3, "sigma_start": 0.01, "sigma_end": 0.001}}


def count(site, direction="forward", level=LEVEL, operand=""):
    energy = {"signal": 100.0, "error": 100.0 * level**2}
    found = {"site": site, "op": "linear", "kind": "noise", "direction": direction, "level": level, "operand": operand}
    return (
        found | {"calls": 1, "rows": TOKENS, "elements": 4800, "changed": 4800 if level else 0, "nonfinite": 0} | energy
    )


def quantized(sites=SITES, points=("weight", "input")):
    """Counts of quantizers, as they stand beside those of the noise."""
    return summarised(
        [
            {**count(site, level=0.0), "op": f"linear:{at}", "kind": "quantizer", "changed": 9}
            for site in sites
            for at in points
        ]
    )


def lines(directions=("forward",), level=LEVEL):
    return summarised([count(site, direction, level) for site in SITES for direction in directions], SITES)


def dose(recipe, step):
    config = recipe.aqn_config(LAYERS)
    sigma = config.schedule.sigma(step)
    layers = [{"name": name, "layer": None, "asked": sigma, "relative": sigma} for name in NORMS]
    return {"step": step, "sigma": sigma, "effective": "e", "layers": layers}


def echoes(recipe):
    """What driver, actor and rollout server say of their settings."""
    rate, decay = recipe.optimizer.learning_rate, recipe.optimizer.weight_decay
    engine = {"dtype": ["float32"], "parameters": 900, "trained": 900, "forward_only": False}
    engine |= {"learning_rate": [rate], "weight_decay": [decay]}
    length = recipe.data.max_prompt + recipe.data.max_response
    worker = {
        "dtype": recipe.model.dtype,
        "max_model_len": length,
        "enforce_eager": recipe.model.enforce_eager,
        "seed": 1,
    }
    said = {"recipe": recipe.recipe_hash, "held": 30, "differs": []}
    return [
        {**said, "process": "box:0", "built": {}},
        {**said, "process": "box:1", "built": {"engines": [engine, {**engine, "forward_only": True, "trained": 0}]}},
        {**said, "process": "box:2", "built": {"workers": [worker]}},
    ]


def run_of(changes, recipe_name="E5"):
    """What a clean run of the recipe leaves."""
    recipe = load_recipe(recipe_name, "tiny", changes)
    noisy = recipe.noise is not None
    directions = {"old_log_prob": ("forward",), "reference": ("forward",), "training_forward": ("forward", "backward")}
    passes = {
        name: {"micro_batches": 4, "sequences": SEQUENCES, "counts": lines(there) if noisy else []}
        for name, there in directions.items()
    }
    part = recipe.quantization
    beside = [] if part is None else quantized(points=("weight", "input") if part.activations else ("weight",))
    for done in passes.values():
        done["counts"] += beside
    aqn = recipe.aqn is not None
    effective = recipe.effective_hash(LAYERS)
    worker = {
        "process": "box:2",
        "problems": [],
        "aqn": {"effective": "e", "targets": NORMS} if aqn else None,
        "effective": effective,
    }
    ledger = [{"kind": "begun", "step": 0, "effective": effective, "rollout": [worker], "planned_steps": STEPS}]
    ledger[0]["echoes"] = echoes(recipe)
    clean = {"process": "box:2", "problems": [], "counts": lines(level=0.0) if noisy else [], "restored": None}
    if noisy and "validation" in recipe.noise.passes:
        clean["counts"] += lines()
    taken_back = [{"restored": NORMS if aqn else [], "updated": [], "weights": ["a", "a"]}]
    ledger.append({"kind": "validated", "step": 0, "rollout": [clean], "taken_back": taken_back})
    for step in range(1, STEPS + 1):
        restored = {"restored": NORMS if aqn and step > 1 else [], "updated": [], "weights": ["a", "a"]}
        rollout = {"process": "box:2", "problems": [], "restored": restored}
        rollout["counts"] = (lines() if noisy else []) + beside
        actor = {"process": "box:1", "side": "actor", "step": step, "passes": copy.deepcopy(passes)}
        actor |= {"effective": effective, "weights_kept": dict.fromkeys(passes, True)}
        doses = [dose(recipe, step - 1)] if aqn else []
        told = {"kind": "step", "step": step, "actor": [actor], "rollout": [rollout], "doses": doses}
        ledger.append(told | {"drawn": drawn(recipe, step)})
    metrics = {0: {"val-core/arith/acc/mean@1": 0.5, "robust/validation_k3_kl": 1e-9}}
    for step in range(1, STEPS + 1):
        sigma = ledger[1 + step]["doses"][0]["sigma"] if aqn else 0.0
        kl = 0.02 * len(NORMS) * sigma**2 + (1e-3 if noisy and recipe.noise.draws != "same" else 1e-9)
        metrics[step] = {"rollout_corr/k3_kl": kl, "rollout_corr/kl": kl, "rollout_corr/chi2_token": 2 * kl}
        metrics[step] |= {"actor/grad_norm": 0.7, "actor/entropy": 0.2, "critic/score/mean": 0.5}
        metrics[step] |= {
            "perf/total_num_tokens": TOKENS,
            "response_length/mean": 4.0,
            "response_length/clip_ratio": 0.03,
        }
        metrics[step] |= {"robust/quantized_modules": 2, "robust/quantized_gradient_least": 0.1}
        metrics[step] |= {"robust/kept_prompts": 0.5}
    metrics[STEPS]["val-core/arith/acc/mean@1"] = 0.59375
    reloaded = {"step": STEPS, "score": 0.59375, "items": recipe.data.validation_items, "problem": ""}
    return Evidence(recipe, LAYERS, metrics, ledger, (STEPS,), 0, reloaded)


def in_order(recipe):
    """An order without verl's sampler, which need not be installed."""
    return tuple(row % recipe.data.train_items for row in range(recipe.drawn_prompts * recipe.total_steps))


@pytest.fixture(autouse=True)
def planned(monkeypatch):
    monkeypatch.setattr(integrity, "planned_order", in_order)


def drawn(recipe, step):
    number = recipe.drawn_prompts
    return list(in_order(recipe)[(step - 1) * number : step * number])


@pytest.mark.parametrize("changes", [SAME, RUN, AQN, VALIDATED, W4A4, {**RUN, "noise": False}, QUANTIZED, DAPO])
def test_a_clean_run_fails_nothing(changes):
    assert judge(run_of(changes)) == ()


def test_a_clean_run_that_goes_on_fails_nothing():
    evidence = run_of(SAME)
    going = replace(evidence, status=None, saved=(), metrics={step: evidence.metrics[step] for step in (0, 1)})
    assert judge(going) == ()


def step_line(evidence, step):
    return next(line for line in evidence.ledger if line["kind"] == "step" and line["step"] == step)


def passes(evidence, step):
    return step_line(evidence, step)["actor"][0]["passes"]


def rollout(evidence, step):
    return step_line(evidence, step)["rollout"][0]


def other_configuration(evidence):
    evidence.ledger[0]["effective"] = "0" * 16


def other_aqn_in_one_worker(evidence):
    evidence.ledger[0]["rollout"].append(
        {**evidence.ledger[0]["rollout"][0], "aqn": {"effective": "other", "targets": NORMS}}
    )


def worker_without_aqn(evidence):
    evidence.ledger[0]["rollout"].append({**evidence.ledger[0]["rollout"][0], "aqn": None})


def said(evidence, place):
    return evidence.ledger[0]["echoes"][place]


def setting_that_one_process_lost(evidence):
    said(evidence, 1)["differs"].append(["actor_rollout_ref.actor.clip_ratio_high", 0.2, 0.28])


def process_of_another_recipe(evidence):
    said(evidence, 2)["recipe"] = "0" * 16


def process_without_settings(evidence):
    said(evidence, 1)["held"] = 0


def nobody_says_its_settings(evidence):
    del evidence.ledger[0]["echoes"]


def other_learning_rate(evidence):
    said(evidence, 1)["built"]["engines"][0]["learning_rate"] = [1e-3]


def frozen_weights(evidence):
    said(evidence, 1)["built"]["engines"][0]["trained"] = 90


def rollout_in_half_precision(evidence):
    said(evidence, 2)["built"]["workers"][0]["dtype"] = "float16"


def unquantized_rollout(evidence):
    rollout(evidence, 1)["counts"] = []


def unquantized_activations(evidence):
    passes(evidence, 2)["training_forward"]["counts"] = quantized(points=("weight",))


def reference_that_nobody_reports(evidence):
    del passes(evidence, 1)["old_log_prob"]


def exclude_read_by_one_side(evidence):
    rollout(evidence, 1)["counts"] = quantized(SITES[1:])


def quantized_in_a_run_without(evidence):
    passes(evidence, 1)["reference"]["counts"] = quantized()


def quantized_validation_of_the_wrong_operand(evidence):
    validation(evidence)["rollout"][0]["counts"] = quantized(points=("output",))


def ledger_without_a_start(evidence):
    del evidence.ledger[0]


def ledger_without_a_step(evidence):
    evidence.ledger.remove(step_line(evidence, 2))


def weights_untold(evidence):
    del step_line(evidence, 2)["actor"][0]["weights_kept"]


def ledger_lost(evidence):
    evidence.ledger.clear()


def worker_with_a_stale_cache(evidence):
    rollout(evidence, 1)["problems"].append("a stale compile cache")


def substring_exclude(evidence):
    kept = [count(site) for site in SITES if "gate" not in site]
    rollout(evidence, 1)["counts"] = summarised(kept, SITES)


def router_perturbed(evidence):
    found = [count(site) for site in (*SITES, "model.layers.0.mlp.gate")]
    passes(evidence, 2)["old_log_prob"]["counts"] = summarised(found, SITES)


def noise_in_the_actor_only(evidence):
    rollout(evidence, 1)["counts"] = lines(level=0.0)


def noise_in_one_replica_only(evidence):
    quiet = {**rollout(evidence, 1), "process": "box:4", "counts": lines(level=0.0)}
    step_line(evidence, 1)["rollout"].append(quiet)


def no_backward_noise(evidence):
    passes(evidence, 1)["training_forward"]["counts"] = lines()


def pass_that_nobody_reports(evidence):
    del passes(evidence, 2)["old_log_prob"]


def half_the_level(evidence):
    passes(evidence, 1)["old_log_prob"]["counts"] = lines(level=LEVEL / 2)


def half_the_level_in_the_gradient(evidence):
    weak = [
        {**each, "error": each["error"] / 4} if each["direction"] == "backward" else each
        for each in lines(("forward", "backward"))
    ]
    passes(evidence, 1)["training_forward"]["counts"] = weak


def one_site_asleep(evidence):
    counts = [{**count(site), "changed": 0, "error": 0.0} if "gate" in site else count(site) for site in SITES]
    passes(evidence, 2)["old_log_prob"]["counts"] = summarised(counts, SITES)


def ledger_without_sites(evidence):
    del rollout(evidence, 1)["counts"][0]["idle"]


def some_tokens(share, head=False):
    """Counts of a pass in which noise was off for some of the tokens."""
    rows = int(TOKENS * share)
    return summarised([count(site) if ("head" in site) != head else {**count(site), "rows": rows} for site in SITES])


def first_tokens_only(evidence):
    rollout(evidence, 2)["counts"] = some_tokens(0.5)


def head_half_the_time(evidence):
    rollout(evidence, 2)["counts"] = some_tokens(0.2, head=True)


def one_micro_batch_without(evidence):
    passes(evidence, 3)["training_forward"]["counts"] = some_tokens(0.75) + lines(("backward",))


def tokens_unknown(evidence):
    del evidence.metrics[3]["perf/total_num_tokens"]


def noisy_validation(evidence):
    noisy = summarised([{**count(SITES[0]), "level": 0.0}])
    evidence.ledger[1]["rollout"][0]["counts"] = noisy


def validation(evidence):
    return next(line for line in evidence.ledger if line["kind"] == "validated")


def clean_noisy_validation(evidence):
    validation(evidence)["rollout"][0]["counts"] = lines(level=0.0)


def noisy_validation_without_a_site(evidence):
    kept = [count(site) for site in SITES if "gate" not in site]
    validation(evidence)["rollout"][0]["counts"] = lines(level=0.0) + summarised(kept, SITES)


def validated_under_aqn(evidence):
    validation(evidence)["taken_back"] = [{"restored": NORMS[:1], "updated": []}]


def validated_unknown(evidence):
    del validation(evidence)["taken_back"]


def noise_in_a_run_without(evidence):
    passes(evidence, 1)["training_forward"]["counts"] = lines()


def schedule_stuck(evidence):
    step_line(evidence, 3)["doses"] = copy.deepcopy(step_line(evidence, 2)["doses"])


def aqn_off(evidence):
    step_line(evidence, 2)["doses"] = []


def aqn_unasked(evidence):
    step_line(evidence, 1)["doses"] = [dose(load_recipe("E5b", "tiny", AQN), 1)]


def one_layer_without_its_dose(evidence):
    step_line(evidence, 3)["doses"][0]["layers"][1]["asked"] = 0.0


def restore_left_out(evidence):
    rollout(evidence, 3)["restored"] = {"restored": [], "updated": [], "weights": ["a", "a"]}


def weight_written_by_another(evidence):
    rollout(evidence, 3)["restored"] = {"restored": NORMS[:1], "updated": NORMS[1:], "weights": ["a", "b"]}


def zero_gradient(evidence):
    evidence.metrics[1]["actor/grad_norm"] = 0.0


def nan_gradient(evidence):
    evidence.metrics[2]["actor/grad_norm"] = float("nan")


def other_draws(evidence):
    evidence.metrics[1]["rollout_corr/k3_kl"] = 2e-3


def kl_beyond_any_recipe(evidence):
    evidence.metrics[1]["rollout_corr/k3_kl"] = 0.3


def weights_of_another_layout(evidence):
    evidence.metrics[1]["rollout_corr/k3_kl"] = 3e-6


def bypassed(evidence):
    del evidence.metrics[1]["rollout_corr/k3_kl"]


def few_effective_samples(evidence):
    evidence.metrics[2]["rollout_corr/rollout_is_eff_sample_size"] = 0.1


def wild_weights(evidence):
    evidence.metrics[2]["rollout_corr/rollout_is_std"] = 3.0


def step_left_out(evidence):
    del evidence.metrics[2]


def one_step_more(evidence):
    evidence.metrics[STEPS + 1] = evidence.metrics[STEPS]


def other_data(evidence):
    step_line(evidence, 2)["drawn"][0] += 1


def last_validation_left_out(evidence):
    del evidence.metrics[STEPS]["val-core/arith/acc/mean@1"]


def actor_of_another_recipe(evidence):
    step_line(evidence, 1)["actor"][0]["effective"] = "0" * 16


def worker_of_another_recipe(evidence):
    evidence.ledger[0]["rollout"][0]["effective"] = "0" * 16


def planned_for_other_steps(evidence):
    evidence.ledger[0]["planned_steps"] = 233


def actor_keeps_quantized_weights(evidence):
    step_line(evidence, 2)["actor"][0]["weights_kept"]["old_log_prob"] = False


def rollout_keeps_noise(evidence):
    rollout(evidence, 3)["restored"]["weights"] = ["a", "b"]


def validation_keeps_noise(evidence):
    evidence.ledger[1]["taken_back"][0]["weights"] = ["a", "b"]


def noise_gone_before_the_rollout(evidence):
    evidence.metrics[2]["rollout_corr/k3_kl"] = 1e-9


def noise_that_adds_up(evidence):
    evidence.metrics[3]["rollout_corr/k3_kl"] = 0.05


def noise_left_in_the_validation(evidence):
    evidence.metrics[0]["robust/validation_k3_kl"] = 1e-4


def zero_gradient_through_a_quantizer(evidence):
    evidence.metrics[2]["robust/quantized_gradient_least"] = 0.0
    passes(evidence, 2)["training_forward"]["gradients"] = {SITES[0]: {"weight": 1.0, "input": 0.0}}


def no_gradient_measured(evidence):
    del evidence.metrics[2]["robust/quantized_modules"]


def all_groups_fail(evidence):
    evidence.metrics[2]["robust/kept_prompts"] = 0.05


def nobody_counts_prompts(evidence):
    del evidence.metrics[2]["robust/kept_prompts"]


def rare_tokens_weigh_all(evidence):
    evidence.metrics[2] |= {"rollout_corr/chi2_token": 4.0}


def weights_far_from_one(evidence):
    evidence.metrics[2] |= {"rollout_corr/kl": 0.9}


def gradient_of_a_collapse(evidence):
    evidence.metrics[3]["actor/grad_norm"] = 88.7


def entropy_explodes(evidence):
    evidence.metrics[3]["actor/entropy"] = 2.5


def entropy_vanishes(evidence):
    evidence.metrics[3]["actor/entropy"] = 1e-5


def nobody_tells_entropy(evidence):
    for step in range(1, STEPS + 1):
        del evidence.metrics[step]["actor/entropy"]


def answers_twice_as_long(evidence):
    evidence.metrics[3]["response_length/mean"] = 250.0


def answers_reach_the_limit(evidence):
    evidence.metrics[3]["response_length/clip_ratio"] = 0.75


def score_falls(evidence):
    evidence.metrics[STEPS]["val-core/arith/acc/mean@1"] = 0.0


PLANTED = [
    (other_configuration, SAME, "effective_configuration_differs"),
    (other_aqn_in_one_worker, AQN, "effective_configuration_differs"),
    (worker_without_aqn, AQN, "effective_configuration_differs"),
    (setting_that_one_process_lost, SAME, "settings_not_in_force"),
    (process_of_another_recipe, SAME, "settings_not_in_force"),
    (process_without_settings, SAME, "settings_not_in_force"),
    (nobody_says_its_settings, SAME, "settings_not_in_force"),
    (other_learning_rate, SAME, "built_otherwise"),
    (frozen_weights, SAME, "built_otherwise"),
    (rollout_in_half_precision, SAME, "built_otherwise"),
    (unquantized_rollout, W4A4, "quantizer_missing"),
    (unquantized_activations, W4A4, "quantizer_missing"),
    (reference_that_nobody_reports, W4A4, "quantizer_missing"),
    (exclude_read_by_one_side, W4A4, "quantized_sites_differ"),
    (quantized_in_a_run_without, {**RUN, "noise": False}, "quantized_without_being_asked"),
    (quantized_validation_of_the_wrong_operand, W4A4, "quantized_without_being_asked"),
    (ledger_without_a_start, SAME, "ledger_incomplete"),
    (ledger_without_a_step, SAME, "ledger_incomplete"),
    (weights_untold, SAME, "weights_not_restored"),
    (ledger_lost, SAME, "ledger_incomplete"),
    (worker_with_a_stale_cache, SAME, "worker_has_problems"),
    (substring_exclude, SAME, "hooked_modules_differ"),
    (router_perturbed, SAME, "hooked_modules_differ"),
    (noise_in_the_actor_only, SAME, "noise_missing"),
    (noise_in_one_replica_only, SAME, "noise_missing"),
    (no_backward_noise, SAME, "noise_missing"),
    (pass_that_nobody_reports, SAME, "noise_missing"),
    (half_the_level, SAME, "noise_level_off"),
    (half_the_level_in_the_gradient, SAME, "noise_level_off"),
    (one_site_asleep, SAME, "site_asleep"),
    (ledger_without_sites, SAME, "site_asleep"),
    (first_tokens_only, SAME, "tokens_not_perturbed"),
    (head_half_the_time, SAME, "tokens_not_perturbed"),
    (one_micro_batch_without, SAME, "tokens_not_perturbed"),
    (tokens_unknown, SAME, "tokens_not_perturbed"),
    (noisy_validation, SAME, "noise_not_asked_for"),
    (clean_noisy_validation, VALIDATED, "noisy_validation_was_clean"),
    (noisy_validation_without_a_site, VALIDATED, "noisy_validation_was_clean"),
    (validated_under_aqn, AQN, "noise_left_in_validation"),
    (validated_unknown, AQN, "noise_left_in_validation"),
    (noise_in_a_run_without, AQN, "noise_not_asked_for"),
    (schedule_stuck, AQN, "sigma_not_scheduled"),
    (aqn_off, AQN, "sigma_not_scheduled"),
    (aqn_unasked, SAME, "sigma_not_scheduled"),
    (one_layer_without_its_dose, AQN, "sigma_not_scheduled"),
    (restore_left_out, AQN, "restore_skipped"),
    (weight_written_by_another, AQN, "restore_skipped"),
    (zero_gradient, SAME, "gradient_vanished"),
    (nan_gradient, SAME, "gradient_vanished"),
    (other_draws, SAME, "policies_apart"),
    (kl_beyond_any_recipe, RUN, "policies_apart"),
    (weights_of_another_layout, QUANTIZED, "policies_apart"),
    (bypassed, SAME, "policies_apart"),
    (few_effective_samples, RUN, "importance_weights_wild"),
    (wild_weights, RUN, "importance_weights_wild"),
    (step_left_out, SAME, "steps_missing"),
    (one_step_more, SAME, "steps_missing"),
    (other_data, SAME, "data_order_differs"),
    (last_validation_left_out, SAME, "last_step_not_validated"),
    (actor_of_another_recipe, SAME, "effective_configuration_differs"),
    (worker_of_another_recipe, SAME, "effective_configuration_differs"),
    (planned_for_other_steps, AQN, "planned_steps_differ"),
    (actor_keeps_quantized_weights, SAME, "weights_not_restored"),
    (rollout_keeps_noise, AQN, "weights_not_restored"),
    (validation_keeps_noise, AQN, "weights_not_restored"),
    (noise_gone_before_the_rollout, AQN, "noise_not_felt"),
    (noise_that_adds_up, AQN, "policies_apart"),
    (noise_left_in_the_validation, AQN, "validation_not_clean"),
    (zero_gradient_through_a_quantizer, QUANTIZED, "quantized_gradient_vanished"),
    (no_gradient_measured, QUANTIZED, "quantized_gradient_vanished"),
    (all_groups_fail, DAPO, "prompts_not_kept"),
    (nobody_counts_prompts, DAPO, "prompts_not_kept"),
    (rare_tokens_weigh_all, RUN, "importance_weights_wild"),
    (weights_far_from_one, RUN, "importance_weights_wild"),
    (gradient_of_a_collapse, SAME, "gradient_exploded"),
    (entropy_explodes, SAME, "entropy_out_of_bounds"),
    (entropy_vanishes, SAME, "entropy_out_of_bounds"),
    (nobody_tells_entropy, SAME, "entropy_out_of_bounds"),
    (answers_twice_as_long, SAME, "answers_grow"),
    (answers_reach_the_limit, SAME, "answers_cut_off"),
    (score_falls, SAME, "score_dropped"),
]


def judged_noisily(evidence, value, control, largest=1e-5):
    evidence.metrics[STEPS][apart.NOISY_KL] = value
    evidence.metrics[STEPS][apart.CONTROL_KL] = control
    evidence.metrics[STEPS][apart.NOISY_DLOGP] = largest


def test_a_noisy_validation_under_the_same_draws_is_as_good_as_a_clean_one():
    evidence = run_of(VALIDATED)
    judged_noisily(evidence, 2e-13, 0.004)
    evidence.metrics[1][apart.DLOGP] = 2e-5
    assert judge(evidence) == ()


@pytest.mark.parametrize(
    ("value", "control", "largest", "words"),
    [
        (1e-3, 0.004, 1e-5, "under the same draws"),
        (2e-13, 0.004, 1e-4, "abs(dlogp) up to 0.0001 under the same draws"),
        (2e-13, 1e-12, 1e-5, "1e-12 with draws apart, 2e-13 with the same"),
    ],
)
def test_draws_that_are_not_the_same_are_named(value, control, largest, words):
    evidence = run_of(VALIDATED)
    judged_noisily(evidence, value, control, largest)
    (failed,) = judge(evidence)
    assert failed.check == "draws_not_as_asked" and words in failed.words


def test_independent_draws_that_were_the_same_are_named():
    evidence = run_of({**RUN, "noise": {"draws": "independent"}})
    judged_noisily(evidence, 2e-13, 0.004)
    assert "draws_not_as_asked" in {failed.check for failed in judge(evidence)}


def test_one_token_that_is_off_is_named_though_the_mean_is_not():
    evidence = run_of(SAME)
    evidence.metrics[2][apart.DLOGP] = 6e-5
    assert [each.words for each in judge(evidence)] == ["step 2: abs(dlogp) up to 6e-05, at most 5e-05"]


@pytest.mark.parametrize(("plant", "changes", "named"), PLANTED, ids=[each[0].__name__ for each in PLANTED])
def test_a_planted_violation_is_named(plant, changes, named):
    evidence = run_of(changes, "E5b" if changes is AQN else "E5")
    plant(evidence)
    assert named in {failed.check for failed in judge(evidence)}


REREAD = {"step": STEPS, "score": 0.4, "items": 32, "problem": ""}
AT_THE_END = [
    ({"status": 1}, "run_failed"),
    ({"status": 124}, "run_failed"),
    ({"saved": (1, 2)}, "last_step_not_saved"),
    ({"reloaded": None}, "checkpoint_scores_otherwise"),
    ({"reloaded": REREAD}, "checkpoint_scores_otherwise"),
    ({"reloaded": {**REREAD, "score": 0.59375, "step": 2}}, "checkpoint_scores_otherwise"),
    ({"reloaded": {**REREAD, "problem": "it cannot be read back"}}, "checkpoint_scores_otherwise"),
]


@pytest.mark.parametrize(("changes", "named"), AT_THE_END)
def test_what_only_the_end_shows(changes, named):
    assert [failed.check for failed in judge(replace(run_of(SAME), **changes))] == [named]


def test_a_checkpoint_may_answer_one_item_otherwise_in_float32_and_one_in_a_hundred_in_bfloat16():
    one_off = {"step": STEPS, "score": 0.59375 - 1 / 32, "items": 32, "problem": ""}
    assert judge(replace(run_of(SAME), reloaded=one_off)) == ()
    assert judge(replace(run_of(SAME), reloaded={**one_off, "score": 0.59375 - 2 / 32}))


def test_a_silent_module_is_named():
    evidence = run_of(QUANTIZED)
    zero_gradient_through_a_quantizer(evidence)
    assert [each.words for each in judge(evidence)] == [f"step 2: gradient 0 through a quantized module, {SITES[0]}"]


def test_groups_of_one_score_have_no_gradient_and_that_is_no_fault():
    evidence = run_of(SAME)
    evidence.metrics[2] |= {"actor/grad_norm": 0.0, "critic/advantages/max": 0.0, "critic/advantages/min": 0.0}
    assert judge(evidence) == ()


def test_the_bound_of_a_run_with_aqn_goes_with_its_dose():
    evidence = run_of(AQN, "E5b")
    evidence.metrics[2]["rollout_corr/k3_kl"] = 1e-3  # far below 0.1, and more than sigma 0.01 can do
    words = {each.check: each.words for each in judge(evidence)}
    assert set(words) == {"policies_apart"} and "by AQN's dose of 0.0002" in words["policies_apart"]
    assert not apart.same_on_both_sides(evidence)


@pytest.mark.parametrize("part", [{"activations": "mxfp4"}, {"sides": ["rollout"]}])
def test_the_floor_holds_for_weights_alone_and_on_both_sides(part):
    evidence = run_of({**RUN, "noise": False, "quantization": {"weights": "mxfp4", **part}})
    evidence.metrics[1]["rollout_corr/k3_kl"] = 3e-6
    assert not apart.same_on_both_sides(evidence) and not apart.policies_apart(evidence)


def test_every_check_has_a_planted_violation():
    named = {each[2] for each in PLANTED} | {each[1] for each in AT_THE_END} | {"draws_not_as_asked"}  # planted above
    assert named == {check.__name__ for check in CHECKS}
