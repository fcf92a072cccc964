"""What a clean run leaves, for the tests of the checks: each plants a violation in it, and a check must name it."""

from __future__ import annotations

import copy

import pytest

from harness.training.book import load_recipe
from harness.training.evidence import Evidence
from harness.training.injection import PASSES
from harness.training.integrity import judge
from harness.training.verl_plugin.ledgers import summarised

LAYERS, STEPS, LEVEL = 4, 3, 0.05
TOKENS, SEQUENCES = 480, 32
SITES = ["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj", "lm_head"]
PROMPTS = "0123456789abcdef"
NORMS = ["model.norm", "model.layers.0.input_layernorm"]
RUN = {"run": {"epochs": 1, "steps": STEPS, "validate_every": STEPS, "save_every": STEPS}}
SAME = {**RUN, "noise": {"draws": "same"}}
W4A4 = {**RUN, "noise": False, "quantization": {"weights": "mxfp4", "activations": "mxfp4"}}
VALIDATED = {**RUN, "noise": {"draws": "same", "passes": list(PASSES)}}
UNVALIDATED = {**RUN, "noise": {"draws": "same", "passes": [name for name in PASSES if name != "validation"]}}
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
    ledger[0] |= {"echoes": echoes(recipe), "aqn_targets": NORMS if aqn else []}
    clean = {"process": "box:2", "problems": [], "counts": lines(level=0.0) if noisy else [], "restored": None}
    if noisy and "validation" in recipe.noise.passes:
        clean["counts"] += lines()
    taken_back = [{"restored": NORMS if aqn else [], "updated": [], "weights": ["a", "a"]}]
    validated = {"kind": "validated", "rollout": [clean], "taken_back": taken_back, "prompts": PROMPTS}
    ledger.append({**copy.deepcopy(validated), "step": 0})
    for step in range(1, STEPS + 1):
        restored = {"restored": NORMS if aqn and step > 1 else [], "updated": [], "weights": ["a", "a"]}
        rollout = {"process": "box:2", "problems": [], "restored": restored}
        rollout["counts"] = (lines() if noisy else []) + beside
        actor = {"process": "box:1", "side": "actor", "step": step, "passes": copy.deepcopy(passes)}
        actor |= {"effective": effective, "weights_kept": dict.fromkeys(passes, True)}
        doses = [dose(recipe, step - 1)] if aqn else []
        told = {"kind": "step", "step": step, "actor": [actor], "rollout": [rollout], "doses": doses}
        ledger.append(told | {"drawn": drawn(recipe, step)})
    ledger.append({**validated, "step": STEPS})
    judged = {"val-core/arith/acc/mean@1": 0.5, "robust/validation_k3_kl": 1e-9}
    if noisy and "validation" in recipe.noise.passes and recipe.noise.draws != "one_side":
        apart, largest = (2e-13, 1e-5) if recipe.noise.draws == "same" else (0.004, 0.2)
        judged |= {"robust/noisy_validation_k3_kl": apart, "robust/noisy_validation_dlogp_max": largest}
        judged |= {"robust/independent_validation_k3_kl": 0.004}
    metrics = {0: judged}
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
        metrics[step] |= {"robust/kept_prompts": 0.5, "robust/dlogp_max": 1e-5}
    metrics[STEPS] |= judged | {"val-core/arith/acc/mean@1": 0.59375}
    reloaded = {"step": STEPS, "score": 0.59375, "items": recipe.data.validation_items, "problem": ""}
    reloaded |= {"prompts": PROMPTS}
    return Evidence(recipe, LAYERS, metrics, ledger, (STEPS,), 0, reloaded)


def in_order(recipe):
    """An order without verl's sampler, which need not be installed."""
    return tuple(row % recipe.data.train_items for row in range(recipe.drawn_prompts * recipe.total_steps))


def drawn(recipe, step):
    number = recipe.drawn_prompts
    return list(in_order(recipe)[(step - 1) * number : step * number])


def step_line(evidence, step):
    return next(line for line in evidence.ledger if line["kind"] == "step" and line["step"] == step)


def passes(evidence, step):
    return step_line(evidence, step)["actor"][0]["passes"]


def rollout(evidence, step):
    return step_line(evidence, step)["rollout"][0]


def validation(evidence):
    return next(line for line in evidence.ledger if line["kind"] == "validated")


def planted(table):
    """``table`` of (violation, changes to the recipe, check that finds it) for ``pytest.mark.parametrize``."""
    return pytest.mark.parametrize(("plant", "changes", "named"), table, ids=[each[0].__name__ for each in table])


def check_named(plant, changes, named):
    """That ``plant``, done to what a clean run leaves, fails the check ``named``."""
    evidence = run_of(changes, "E5b" if changes is AQN else "E5")
    plant(evidence)
    assert named in {failed.check for failed in judge(evidence)}
