"""All that can be known of a training run before it costs anything: settings, expectations, cost, preflight."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.training.book import resolved
from harness.training.compose import Composed, compose
from harness.training.estimate import estimate
from harness.training.machine import MachineState, look_around
from harness.training.preflight import Finding, Flight, preflight, refusals
from harness.training.recipe import Recipe
from harness.training.render import Place, render
from harness.training.sizes import Sizes, sizes_of

RUNS = Path("runs") / "training"
RECIPE_FILE = "recipe.json"
_REWARD = Path(__file__).resolve().parent / "reward.py"


@dataclass(frozen=True)
class Checked:
    """A recipe with verl's configuration of it, the sizes of its model and what the preflight found."""

    recipe: Recipe
    sizes: Sizes
    place: Place
    composed: Composed
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> tuple[Finding, ...]:
        """Return the findings that stand in the way of a start."""
        return refusals(self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        layers = self.sizes.layers
        schedule_refused = any(each.check == "aqn_schedule_off" for each in self.refused)
        return {
            "name": self.recipe.name,
            "profile": self.recipe.profile,
            "recipe_hash": self.recipe.recipe_hash,
            "effective_hash": None if schedule_refused else self.recipe.effective_hash(layers),
            "seed": self.recipe.run.seed,
            "folder": str(self.place.folder),
            "parameters": self.sizes.parameters,
            "expected": None if schedule_refused else estimate(self.recipe, self.sizes),
            "overrides": list(self.composed.overrides),
            "preflight": [asdict(each) for each in self.findings],
            "refused": [each.check for each in self.refused],
        }


def default_folder(recipe: Recipe) -> Path:
    """Return where a run of ``recipe`` lies unless its user says."""
    return RUNS / f"{recipe.name}-{recipe.profile}-seed{recipe.run.seed}"


def place_of(recipe: Recipe, folder: Path, ray_folder: Path | None = None) -> Place:
    """Return the place of a run in ``folder``: data files of the recipe, or those that the harness writes there."""
    folder = folder.absolute()  # the processes of a run have working directories of their own
    train = _file(recipe.data.train_files, folder / "data" / "train.parquet")
    validation = _file(recipe.data.validation_files, folder / "data" / "validation.parquet")
    return Place(folder, train, validation, _REWARD, ray_folder)


def _file(given: str, own: Path) -> Path:
    there = resolved(given) if given else own
    return (Path(given) if there is None else there).absolute()


def check_recipe(
    recipe: Recipe, folder: Path | None = None, machine: MachineState | None = None, resumed: bool = False
) -> Checked:
    """Return what can be known of ``recipe`` before it runs in ``folder``; nothing is started or written.

    Raises :class:`HarnessError` where verl is not installed, does not know a setting, or the model has no sizes.
    """
    sizes = sizes_of(recipe)
    place = place_of(recipe, default_folder(recipe) if folder is None else folder)
    composed = compose(render(recipe, place))
    flight = Flight(recipe, sizes, place, look_around() if machine is None else machine, resumed)
    return Checked(recipe, sizes, place, composed, preflight(flight))
