"""The experiments of the sources at full size: where their models and data lie, and who runs them how often."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.training.book import GPU, load_recipe
from harness.training.recipe import Recipe

TRAIN_FILE, VALIDATION_FILE = "train.parquet", "validation.parquet"
REPLICATIONS = 3
"""Training seeds of an arm unless its user says: one run supports no claim."""


@dataclass(frozen=True)
class Places:
    """``models`` holds a folder for each model under its name, ``data`` one for each task with both files."""

    models: Path | None = None
    data: Path | None = None

    def put(self, recipe: Recipe) -> Recipe:
        """Return ``recipe`` with the paths of this machine; what is not given stays as published."""
        model, data = recipe.model, recipe.data
        if self.models is not None:
            model = replace(model, path=str(self.models / recipe.model.path))
        if self.data is not None:
            folder = self.data / recipe.data.task
            data = replace(data, train_files=str(folder / TRAIN_FILE), validation_files=str(folder / VALIDATION_FILE))
        return replace(recipe, model=model, data=data)


def replications(name: str, seeds: int = REPLICATIONS, places: Places | None = None) -> tuple[Recipe, ...]:
    """Return the published experiment ``name`` at training seeds 0 to ``seeds`` - 1. Raises :class:`HarnessError`."""
    recipe = (places or Places()).put(load_recipe(name, GPU))
    return tuple(recipe.with_seed(seed) for seed in range(seeds))
