"""What a process of a run says of its settings: verl's configuration as it holds it, against the one that was launched.

The launched settings lie beside the ledger, so that every process reads the same file; what it compares is the object
that its own part of verl was built from, and a few values of what was built.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from harness.noise.ledger import process_name
from harness.strict import read_object
from harness.training.recipe import current_recipe
from harness.training.verl_plugin import LEDGER_VARIABLE, SETTINGS_FILE

WORKER, ROLLOUT = "actor_rollout_ref.", "actor_rollout_ref.rollout."
REPLACED = ("trainer.v1.trainer_mode",)
"""Settings that verl's own code compares by name, and that the plugin's trainer therefore puts back."""


def launched() -> Mapping[str, Any]:
    """Return verl's settings, by dotted key, as this run was launched with them."""
    return read_object(Path(os.environ[LEDGER_VARIABLE]).with_name(SETTINGS_FILE))


def echo(config: Any, prefix: str = "", **built: Any) -> dict[str, Any]:
    """Return what this process says: its recipe's hash, how many settings below ``prefix`` it holds, those that differ.

    ``config`` is a table of verl's (OmegaConf, a dataclass of verl's, or a mapping) that stands for ``prefix``.
    ``built`` are values of what was made from it.
    """
    recipe = current_recipe()
    held, differs = 0, []
    for key, wanted in launched().items():
        if not key.startswith(prefix) or key in REPLACED:
            continue
        for found in _values(config, key.removeprefix(prefix).split(".")):
            held += 1
            if found != wanted:
                differs.append([key, found, wanted])
    return {
        "process": process_name(),
        "recipe": None if recipe is None else recipe.recipe_hash,
        "held": held,
        "differs": differs,
        "built": built,
    }


def engine_echo(engine: Any) -> dict[str, Any]:
    """Return what was built in an engine of verl: learning rate and decay of its optimizer, dtype, trained parameters.

    An engine that only runs forward has no optimizer.
    """
    parameters = list(engine.module.parameters())
    told = {
        "dtype": sorted({str(each.dtype).removeprefix("torch.") for each in parameters}),
        "parameters": sum(each.numel() for each in parameters),
        "trained": sum(each.numel() for each in parameters if each.requires_grad),
        "forward_only": bool(engine.engine_config.forward_only),
    }
    optimizer = getattr(engine, "optimizer", None)
    if optimizer is not None:
        groups = optimizer.param_groups
        told["learning_rate"] = sorted({float(each.get("initial_lr", each["lr"])) for each in groups})
        told["weight_decay"] = sorted({float(each["weight_decay"]) for each in groups})
    return told


def _values(config: Any, path: list[str]) -> Iterator[Any]:
    """Yield what stands at ``path``, as plain data; nothing where verl has moved or dropped it."""
    found = config
    for name in path:
        if is_dataclass(found):
            found = vars(found)
        if not hasattr(found, "keys") or name not in found:
            return
        found = found[name]
    yield list(found) if hasattr(found, "__iter__") and not isinstance(found, str | Mapping) else found
