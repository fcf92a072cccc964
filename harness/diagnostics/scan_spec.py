"""What a scan was asked for, checked before anything is loaded (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.checkpoints.modes import ADAPTER_MODES, MERGED
from harness.exceptions import HarnessError
from harness.spec.formats import SCALE_RULES, Format, Recipe, find_format
from harness.text import nearest

WEIGHTS, ACTIVATIONS, BOTH = "weights", "activations", "both"
WHATS = (WEIGHTS, ACTIVATIONS, BOTH)
CALIBRATED, SOURCES = "calibrated", "sources"
POLICIES = (CALIBRATED, SOURCES)


@dataclass(frozen=True)
class TaskChoice:
    """The items that activations and answers are taken from; the fields are those of ``harness eval``."""

    name: str
    data: str | None = None
    items: int = 64
    item_seed: int = 0
    scorer: str | None = None
    max_new_tokens: int | None = None


@dataclass(frozen=True)
class ScanSpec:
    """A scan: the checkpoint, the formats (with scale rule and rounding), what is quantized, and on which task.

    ``effect`` asks for the effect on the model's own answers, which needs a ``task``, as activations do. ``include``
    are globs of module paths that bring in what is left out by default. ``adapter`` says how the weights of a LoRA
    adapter are seen, ``base`` where its base checkpoint lies if its own config does not know.
    """

    checkpoint: Path
    recipes: tuple[Recipe, ...]
    what: str = WEIGHTS
    task: TaskChoice | None = None
    effect: bool = False
    include: tuple[str, ...] = ()
    adapter: str = MERGED
    base: Path | None = None
    dtype: str = "float32"
    attention: str = "auto"
    device: str | None = None
    batch_size: int = 64

    @property
    def takes_weights(self) -> bool:
        """True where weights are measured."""
        return self.what in (WEIGHTS, BOTH)

    @property
    def takes_activations(self) -> bool:
        """True where activations are measured."""
        return self.what in (ACTIVATIONS, BOTH)

    def settings(self) -> dict[str, Any]:
        """Return all that a number of the scan depends on besides the weights, as JSON types."""
        task = self.task
        ran = task is not None and (self.effect or self.takes_activations)
        return {
            "formats": [recipe.format.name for recipe in self.recipes],
            "scale_rules": {recipe.format.name: recipe.scale_rule for recipe in self.recipes},
            "rounding": self.recipes[0].rounding,
            "what": self.what,
            "effect": self.effect,
            "include": list(self.include),
            "adapter": self.adapter,
            "task": None if task is None or not ran else vars(task),
            "dtype": self.dtype if ran else None,
            "attention": self.attention if ran else None,
            "batch_size": self.batch_size if self.effect else None,
        }


def parse_recipes(formats: str, scale_rule: str) -> tuple[Recipe, ...]:
    """Return the recipes of ``mxfp4,nvfp4,mxfp8``, in that order, each once; the rule is for those formats that have
    one.

    Raises :class:`HarnessError` for an unknown format or rule, none at all, and a rule where no format takes it.
    """
    names = [name.strip() for name in formats.split(",")]
    if not any(names):
        raise HarnessError(f"--format {formats!r}", "a scan needs at least one format", "give mxfp4, for example")
    if "" in names:
        raise HarnessError(f"--format {formats!r}", "an entry of the list is empty", "drop the comma too many")
    if scale_rule not in SCALE_RULES:
        raise HarnessError(f"--scale-rule {scale_rule}", "unknown scale rule", nearest(scale_rule, SCALE_RULES))
    rows = [_format(name) for name in names]
    if scale_rule != SCALE_RULES[0] and not any(row.has_scale_rule for row in rows):
        raise HarnessError(
            f"--scale-rule {scale_rule} with {formats}", "only power-of-two scales have a rule", "drop --scale-rule"
        )
    found = [Recipe.of(row, scale_rule if row.has_scale_rule else None) for row in rows]
    return tuple(dict.fromkeys(found))


def check_spec(spec: ScanSpec, effect_asked: bool) -> None:
    """Raise :class:`HarnessError` for what does not go together."""
    for option, value, known in (("what", spec.what, WHATS), ("adapter", spec.adapter, ADAPTER_MODES)):
        if value not in known:
            raise HarnessError(f"--{option} {value}", f"it is one of {', '.join(known)}", nearest(value, known))
    if spec.task is None and spec.takes_activations:
        raise HarnessError(
            f"--what {spec.what} without --task", "activations come from real inputs", "give --task arith, for example"
        )
    if spec.task is None and effect_asked:
        raise HarnessError("--effect without --task", "the effect is measured on answers", "give --task")
    if spec.batch_size < 1:
        raise HarnessError(f"--batch-size {spec.batch_size}", "a batch holds at least one item", "give 1 or more")
    if spec.takes_activations:
        for recipe in spec.recipes:
            if recipe.format.rows > 1:
                raise HarnessError(
                    f"format {recipe.format.name} for activations",
                    "its tiles span several tokens, so that a token would depend on its neighbours",
                    "choose a format without tiles, or --what weights",
                )


def _format(name: str) -> Format:
    try:
        return find_format(name)
    except ValueError as error:
        raise HarnessError(f"--format {name}", str(error)) from None
