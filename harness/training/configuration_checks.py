"""Checks that every process of a run holds the configuration that the recipe comes to, and built what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.training.evidence import BEGUN, Evidence
from harness.training.sections import LORA


def settings_not_in_force(evidence: Evidence) -> str:
    """Find a process whose verl holds another setting than the launched one, or that read another recipe."""
    for line in evidence.lines(BEGUN):
        echoes = line.get("echoes", [])
        machine = evidence.recipe.machine
        engines = sum("engines" in told["built"] for told in echoes)
        servers = sum("workers" in told["built"] for told in echoes)
        if engines < machine.nodes * machine.devices or not servers:
            return f"{engines} workers of {machine.nodes * machine.devices} and {servers} servers say what they hold"
        for told in echoes:
            if told["recipe"] != evidence.recipe.recipe_hash:
                return f"{told['process']} runs the recipe {told['recipe']}, launched was {evidence.recipe.recipe_hash}"
            if not told["held"]:
                return f"{told['process']} holds none of the settings"
            for key, found, wanted in told["differs"]:
                return f"{told['process']} holds {key} = {found!r}, launched was {wanted!r}"
    return ""


def built_otherwise(evidence: Evidence) -> str:
    """Find an engine whose optimizer, dtype, adapter or context is not what its settings say."""
    for line in evidence.lines(BEGUN):
        for told in line.get("echoes", []):
            for engine in told["built"].get("engines", []):
                found = _engine_off(evidence, engine)
                if found:
                    return f"{told['process']}: {found}"
            for worker in told["built"].get("workers", []):
                found = _worker_off(evidence, worker)
                if found:
                    return f"{told['process']}: {found}"
    return ""


def _engine_off(evidence: Evidence, engine: Mapping[str, Any]) -> str:
    recipe = evidence.recipe
    if engine["forward_only"]:
        return ""
    for name in ("learning_rate", "weight_decay"):
        wanted = [getattr(recipe.optimizer, name)]
        if engine.get(name) != wanted:
            return f"its optimizer was built with {name} {engine.get(name)}, the recipe says {wanted}"
    share = engine["trained"] / engine["parameters"]
    if share == 0 or (share == 1) == (recipe.tuning.kind == LORA):
        return f"it trains {engine['trained']} of {engine['parameters']} parameters, tuning is {recipe.tuning.kind}"
    return ""


def _worker_off(evidence: Evidence, worker: Mapping[str, Any]) -> str:
    recipe = evidence.recipe
    wanted = {
        "dtype": recipe.model.dtype,
        "max_model_len": recipe.data.max_prompt + recipe.data.max_response,
        "enforce_eager": recipe.model.enforce_eager,
    }
    for name, value in wanted.items():
        if worker[name] != value:
            return f"its vLLM was built with {name} = {worker[name]}, the recipe says {value}"
    return ""
