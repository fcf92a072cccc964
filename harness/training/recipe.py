"""A training experiment as one frozen object, its file form, and what it comes to: steps, updates, effective settings.

The launched processes read it from the JSON file that the environment variable :data:`VARIABLE` names.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from harness.aqn.config import AqnConfig
from harness.exceptions import HarnessError
from harness.runs.folder import write_json
from harness.strict import fill, read_object
from harness.training.injection import AqnPart, NoisePart, QuantizationPart
from harness.training.sections import (
    CORRECTION_OFF,
    LORA,
    AlgorithmPart,
    DataPart,
    MachinePart,
    ModelPart,
    OptimizerPart,
    RunPart,
    TuningPart,
    Value,
)
from harness.training.tables import pruned

VARIABLE = "ROBUSTNESS_RECIPE"
OFF = "off"
_DIGITS = 16


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run. ``label`` is the id of the sources, ``name`` the one that is unique.

    ``source`` says where the settings were published, ``published`` the experiments of the registry that it repeats
    (and thereby the claims that it feeds), ``note`` what differs from the source. ``noise``, ``quantization`` and
    ``aqn`` are None where the run has none.
    """

    name: str
    title: str
    label: str
    source: str
    profile: str
    model: ModelPart
    data: DataPart
    algorithm: AlgorithmPart
    optimizer: OptimizerPart
    run: RunPart
    machine: MachinePart
    tuning: TuningPart = field(default_factory=TuningPart)
    noise: NoisePart | None = None
    quantization: QuantizationPart | None = None
    aqn: AqnPart | None = None
    published: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if self.trained_prompts % self.optimizer.mini_batch:
            raise HarnessError(
                f"optimizer.mini_batch {self.optimizer.mini_batch} for {self.trained_prompts} prompts",
                "a step is a whole number of updates",
                "give a divisor",
            )
        part = self.quantization
        if part is not None and not part.straight_through and not (part.activations and self.tuning.kind == LORA):
            raise HarnessError(
                "quantization.straight_through = false",
                "it takes the gradient from activations beside an adapter; trained weights would get none",
                'quantize activations and write kind = "lora", or drop it',
            )

    @property
    def drawn_prompts(self) -> int:
        """Return the prompts that a step takes from the data, before any are dropped."""
        return self.data.gen_batch or self.data.train_batch

    @property
    def trained_prompts(self) -> int:
        """Return the prompts that a step trains on: without dynamic sampling all that were drawn."""
        return self.data.train_batch if self.algorithm.filter_groups else self.drawn_prompts

    @property
    def steps_per_epoch(self) -> int:
        """Return the whole steps of an epoch."""
        return max(1, self.data.train_items // self.drawn_prompts)

    @property
    def total_steps(self) -> int:
        """Return the planned steps of the run."""
        return self.run.steps or self.run.epochs * self.steps_per_epoch

    @property
    def updates_per_step(self) -> int:
        """Return the optimizer updates of a step."""
        return self.trained_prompts // self.optimizer.mini_batch

    @property
    def validates_alike(self) -> bool:
        """Return whether rollout and actor compute the same numbers in a clean validation: float32, weights alike."""
        return self.model.dtype == "float32" and (self.quantization is None or self.quantization.alike)

    def aqn_config(self, layers: int) -> AqnConfig | None:
        """Return AQN's settings for a model of ``layers`` layers, None without AQN. Raises :class:`HarnessError`."""
        if self.aqn is None:
            return None
        return self.aqn.config(self.total_steps, self.run.epochs, layers, self.run.seed)

    def with_seed(self, seed: int) -> Recipe:
        """Return the same recipe at another training seed."""
        return replace(self, run=replace(self.run, seed=seed))

    def effective(self, layers: int) -> dict[str, Value]:
        """Return every setting that acts, by dotted name, the seed left out; a part that is off is one word.

        Two recipes that act the same on a model of ``layers`` layers have the same. Noise, quantization, AQN, tuning
        and rollout correction are one setting each, so that they are one factor of a comparison.
        """
        algorithm, optimizer = self.algorithm, self.optimizer
        found: dict[str, Value] = {
            "model.path": self.model.path,
            "model.dtype": self.model.dtype,
            "data.task": self.data.task,
            "data.train_items": self.data.train_items,
            "data.max_prompt": self.data.max_prompt,
            "data.max_response": self.data.max_response,
            "data.drawn_prompts": self.drawn_prompts,
            "data.trained_prompts": self.trained_prompts,
            "run.steps": self.total_steps,
            "tuning": _text(self.tuning) if self.tuning.rank else self.tuning.kind,
            "noise": OFF if self.noise is None else _text(self.noise),
            "quantization": OFF if self.quantization is None else _quantization_text(self.quantization),
            "aqn": self._aqn_text(layers),
            "algorithm.correction": self._correction_text(),
            "algorithm.filter_groups": algorithm.filter_metric if algorithm.filter_groups else OFF,
            "algorithm.kl_loss": f"{algorithm.kl_type} {algorithm.kl_coef:g}" if algorithm.kl_loss else OFF,
            "algorithm.overlong": (
                f"{algorithm.overlong_buffer} {algorithm.overlong_penalty:g}" if algorithm.overlong_buffer else OFF
            ),
        }
        for name in ("rollouts", "temperature", "top_p", "clip_low", "clip_high", "clip_c"):
            found[f"algorithm.{name}"] = getattr(algorithm, name)
        for name in ("loss_aggregation", "policy_loss"):
            found[f"algorithm.{name}"] = getattr(algorithm, name)
        for each in fields(optimizer):
            found[f"optimizer.{each.name}"] = getattr(optimizer, each.name)
        return dict(sorted(found.items()))

    def _correction_text(self) -> str:
        given = self.algorithm.correction
        return _text({key: value for key, value in given.items() if CORRECTION_OFF.get(key) != value}) or OFF

    def _aqn_text(self, layers: int) -> str:
        config = self.aqn_config(layers)
        if config is None:
            return OFF
        shown = config.to_json()
        rest = {name: shown[name] for name in ("targets", "mode", "norm_dtype")}
        doses = [
            [f"{sigma * config.multiplier(layer, step):.9e}" for layer in (None, *range(layers))]
            for step, sigma in enumerate(config.schedule.values)
        ]
        first, last = config.schedule.sigma_start, config.schedule.sigma_end
        kinds = ",".join(config.targets.kinds)
        return f"{kinds} sigma {first:g} to {last:g} dose {digest({'doses': doses, **rest})}"

    @property
    def recipe_hash(self) -> str:
        """Return 16 hex digits of everything that is written in the recipe, its seed included."""
        return digest(self.to_json())

    def effective_hash(self, layers: int) -> str:
        """Return 16 hex digits of :meth:`effective`: equal for recipes that act the same."""
        return digest(self.effective(layers))

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary; :meth:`from_json` reads it."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return pruned(plain)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """Return the inverse of :meth:`to_json`. Raises :class:`HarnessError` for what does not fit."""
        return fill(cls, data, "recipe")


def digest(value: Any) -> str:
    """Return 16 hex digits of ``value``, plain data, whatever the order of its names."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def current_recipe(environment: Mapping[str, str] | None = None) -> Recipe | None:
    """Return the recipe that the environment names, None where it names none. Raises :class:`HarnessError`."""
    file = (os.environ if environment is None else environment).get(VARIABLE, "")
    return Recipe.from_json(read_object(Path(file))) if file else None


def write_recipe(recipe: Recipe, file: Path) -> None:
    """Write ``recipe`` for the launched processes."""
    write_json(file, recipe.to_json())


def epochs_drawn(recipe: Recipe) -> int:
    """Return the epochs that verl has to be allowed so that the planned steps are reached."""
    return max(
        recipe.run.epochs, math.ceil(recipe.total_steps / max(1, recipe.data.train_items // recipe.trained_prompts))
    )


def _text(value: Any) -> str:
    data = value if isinstance(value, dict) else asdict(value)
    return "; ".join(f"{name}={_word(each)}" for name, each in sorted(data.items()))


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else f"{value}"


def _quantization_text(part: QuantizationPart) -> str:
    specs = "; ".join(map(str, part.specs()))
    gradient = "straight-through" if part.straight_through else "no gradient"
    return f"{part.bits} {specs}; {','.join(part.sides)}; {gradient}"
