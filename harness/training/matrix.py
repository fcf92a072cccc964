"""Arms times training seeds, planned: which runs there are, that the arms differ in one factor, that data is shared.

::

    title = "AQN under 5 % noise"
    factor = "aqn"
    profile = "tiny"
    seeds = [0, 1, 2]
    levels = [0, 0.05, 0.10]
    items = 500

    [[arm]]
    name = "without"
    recipe = "E5"

    [[arm]]
    name = "with"
    recipe = "E5b"
    [arm.changes.aqn]
    sigma_start = 0.02
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.exceptions import HarnessError
from harness.strict import fill, read_toml
from harness.training.book import TINY, load_recipe
from harness.training.order import order_hash
from harness.training.recipe import Recipe
from harness.training.sections import Value
from harness.training.sizes import sizes_of
from harness.training.tables import merged

RUNS, EVALUATIONS = "runs", "evaluations"


@dataclass(frozen=True)
class ArmEntry:
    """One ``[[arm]]``: its name, its recipe, and what is changed in it."""

    name: str
    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MatrixFile:
    """The file. ``factor`` empty is the one in which the arms turn out to differ."""

    title: str
    arm: tuple[ArmEntry, ...]
    seeds: tuple[int, ...]
    factor: str = ""
    profile: str = TINY
    levels: tuple[float, ...] = (0.0, 0.05, 0.1)
    items: int = 0


@dataclass(frozen=True)
class Arm:
    """An arm: its name, its recipe at no seed in particular, and its effective settings."""

    name: str
    recipe: Recipe
    effective: Mapping[str, Value]


@dataclass(frozen=True)
class Cell:
    """One training run of the matrix: an arm at a training seed, with the hash of the order of its data."""

    arm: str
    seed: int
    recipe: Recipe
    order: str

    @property
    def name(self) -> str:
        """Return the name of the cell's folders."""
        return f"{self.arm}-seed{self.seed}"


@dataclass(frozen=True)
class Matrix:
    """A planned matrix: ``factor`` is the one setting in which the arms differ; cells run seed by seed."""

    title: str
    factor: str
    levels: tuple[float, ...]
    items: int
    arms: tuple[Arm, ...]
    cells: tuple[Cell, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {
            "title": self.title,
            "factor": self.factor,
            "levels": list(self.levels),
            "arms": {arm.name: arm.effective[self.factor] for arm in self.arms},
            "cells": [
                {"arm": cell.arm, "seed": cell.seed, "recipe": cell.recipe.recipe_hash, "data_order": cell.order}
                for cell in self.cells
            ],
        }


def load_matrix(file: Path, changes: Mapping[str, Any] | None = None) -> Matrix:
    """Return the matrix in the TOML file ``file``; ``changes`` are laid over the recipe of every arm.

    Raises :class:`HarnessError` for what cannot be read, and for arms that may not be compared.
    """
    found = fill(MatrixFile, read_toml(file, "matrix"), f"matrix {file}")
    where = f"matrix {file}"
    _check_lists(found, where)
    arms = []
    for entry in found.arm:
        try:
            asked = merged(entry.changes, changes or {})
            recipe = load_recipe(_beside(entry.recipe, file), found.profile, asked)
            arms.append(Arm(entry.name, recipe, _settings(recipe)))
        except HarnessError as error:
            raise HarnessError(f"{where}, arm {entry.name}: {error}") from None
    factor = one_factor(arms, found.factor, where)
    cells = tuple(_cell(arm, seed) for seed in found.seeds for arm in arms)
    _check_orders(cells, where)
    return Matrix(found.title, factor, found.levels, found.items, tuple(arms), cells)


def one_factor(arms: Sequence[Arm], declared: str = "", where: str = "matrix") -> str:
    """Return the one setting in which ``arms`` differ, each from each.

    Raises :class:`HarnessError` for two arms that act the same, for arms that differ in more than one setting, and
    where it is not the ``declared`` one.
    """
    factor = ""
    for one, other in combinations(arms, 2):
        differing = [name for name in one.effective if one.effective[name] != other.effective.get(name)]
        pair = f"arms {one.name} and {other.name}"
        if not differing:
            raise HarnessError(
                f"{where}: {pair}", "they act the same, so they are replicates and no arms", "change one setting"
            )
        if len(differing) > 1:
            raise HarnessError(
                f"{where}: {pair}",
                f"they differ in {len(differing)} factors ({', '.join(differing)}), so no difference has a cause",
                "let them differ in one",
            )
        factor = differing[0]  # the same in every pair: two arms along different factors would differ in both
    if declared and declared != factor:
        raise HarnessError(
            f"{where}: factor {declared!r}", f"the arms differ in {factor}", "declare it, or change them"
        )
    return factor


def _settings(recipe: Recipe) -> dict[str, Value]:
    """Return the effective settings, and the files of the data, which two arms must share as well."""
    files = {"data.train_files": recipe.data.train_files, "data.validation_files": recipe.data.validation_files}
    machine = {"machine.platform": recipe.machine.platform}
    return {**recipe.effective(sizes_of(recipe).layers), **files, **machine}


def _cell(arm: Arm, seed: int) -> Cell:
    recipe = arm.recipe.with_seed(seed)
    return Cell(arm.name, seed, recipe, order_hash(recipe))


def _beside(recipe: str, file: Path) -> str:
    return str(file.parent / recipe) if recipe.endswith(".toml") else recipe


def _check_lists(found: MatrixFile, where: str) -> None:
    for what, values in (("arm", [arm.name for arm in found.arm]), ("seed", list(found.seeds))):
        twice = [value for index, value in enumerate(values) if value in values[:index]]
        if twice:
            raise HarnessError(f"{where}: {what} {twice[0]!r}", "it is given twice", "drop one")
    if len(found.arm) < 2:
        raise HarnessError(f"{where}: {len(found.arm)} arms", "a comparison has two at least", "add an [[arm]]")
    if not found.seeds or min(found.seeds) < 0:
        raise HarnessError(f"{where}: seeds {list(found.seeds)}", "they are whole numbers from 0 up", "give three")
    for arm in found.arm:
        if not arm.name.replace("-", "").replace("_", "").isalnum():
            raise HarnessError(f"{where}: arm {arm.name!r}", "its name is that of a folder", "use letters and digits")
    if not found.levels or 0.0 not in found.levels or not all(0 <= level < 1 for level in found.levels):
        raise HarnessError(f"{where}: levels {list(found.levels)}", "0 and fractions below 1", "write [0, 0.05, 0.1]")


def _check_orders(cells: Sequence[Cell], where: str) -> None:
    """Refuse arms that do not see the same data at the same seed, and seeds that see it in one order."""
    by_seed: dict[int, set[str]] = {}
    for cell in cells:
        by_seed.setdefault(cell.seed, set()).add(cell.order)
    for seed, orders in by_seed.items():
        if len(orders) > 1:
            raise HarnessError(f"{where}: seed {seed}", "the arms see their data in different orders", "align them")
    if len({next(iter(orders)) for orders in by_seed.values()}) < len(by_seed):
        raise HarnessError(f"{where}: seeds", "two of them give one order of the data", "give other seeds")
