"""The recipes that come with the package, and those of users: one TOML file each, laid over its base and a profile.

A file holds what differs from its ``base`` (another recipe, or a fragment of ``recipes/bases``; in a user's file also a
path beside it), the words about it, and under ``[gpu...]`` or ``[tiny...]`` what a profile changes for it. In this
order: base, file, profile, the file's own tables for the profile, the changes of the caller.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.exceptions import HarnessError
from harness.installed import PACKAGE
from harness.strict import fill, read_object, read_toml
from harness.text import nearest
from harness.training.recipe import Recipe
from harness.training.tables import merged

FOLDER = Path(__file__).resolve().parent / "recipes"
GPU, TINY = "gpu", "tiny"
PROFILES = (GPU, TINY)
SUFFIX, RESOLVED = ".toml", ".json"
_OWN = ("name", "profile")
"""Keys of a recipe that its file cannot say."""


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes of the package, sorted as people sort them."""
    return tuple(sorted((file.stem for file in FOLDER.glob(f"*{SUFFIX}")), key=_natural))


@cache
def aliases() -> Mapping[str, str]:
    """Return alias -> name: ids that the sources used more than once, and which recipe the plain one means."""
    return {name: str(value) for name, value in read_toml(FOLDER / "tables" / f"aliases{SUFFIX}").items()}


def load_recipe(name: str, profile: str = TINY, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe called ``name``, or that of the file ``name``, in ``profile``.

    A JSON file, as each run keeps one, is a recipe with base and profile merged in; it keeps its profile. ``changes``
    are applied last, tables as in the file. Raises :class:`HarnessError`.
    """
    if profile not in PROFILES:
        raise HarnessError(f"profile {profile!r}", f"it is {' or '.join(PROFILES)}", nearest(profile, PROFILES))
    if name.endswith(RESOLVED):
        return _resolved_recipe(Path(name), changes or {})
    file = find_recipe(name)
    table, overlays = _laid(file, ())
    table = merged(table, read_toml(FOLDER / "profiles" / f"{profile}{SUFFIX}", "profile"))
    table = merged(merged(table, overlays.get(profile, {})), changes or {})
    for key in _OWN:
        if key in table:
            raise HarnessError(f"recipe {file}: {key}", f"the {key} is not said in the file", "drop it")
    table = {"label": file.stem, "source": "of its own", **table}
    return fill(Recipe, {**table, "name": file.stem, "profile": profile}, f"recipe {file.stem} ({profile})")


def find_recipe(name: str) -> Path:
    """Return the file of the recipe ``name``: one of the package, an alias, or a path. Raises :class:`HarnessError`."""
    if name.endswith(SUFFIX):
        return Path(name)
    known = {each.lower(): each for each in (*recipe_names(), *aliases())}
    found = known.get(name.lower())
    if found is None:
        raise HarnessError(f"recipe {name!r}", "there is none of this name", nearest(name, known.values()))
    return FOLDER / f"{aliases().get(found, found)}{SUFFIX}"


def _resolved_recipe(file: Path, changes: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.from_json(merged(read_object(file), changes))
    except HarnessError as error:
        raise HarnessError(f"recipe {file}: {error}") from None


def resolved(path: str) -> Path | None:
    """Return the folder or file that ``path`` means here or in the package's checkout, None where neither has it."""
    for place in (Path(path).expanduser(), PACKAGE.parent / path):
        if path and place.exists():
            return place
    return None


def _laid(file: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings of ``file`` over those of its bases, and its overlays by profile over theirs."""
    if file in above:
        raise HarnessError(f"recipe {above[0]}", f"its bases come back to {file.stem}", "give it another base")
    own = read_toml(file, "recipe")
    overlays = {profile: own.pop(profile) for profile in PROFILES if profile in own}
    for profile, overlay in overlays.items():
        if not isinstance(overlay, Mapping):
            raise HarnessError(f"recipe {file}: {profile}", "it is a table", f"write [{profile}.run]")
    base = own.pop("base", None)
    if base is None:
        return own, overlays
    if not isinstance(base, str) or not base:
        raise HarnessError(f"recipe {file}: base {base!r}", "it is the name of another recipe", "name one")
    below, under = _laid(_base_file(base, file), (*above, file))
    for key in ("title", "label", "published", "note"):
        below.pop(key, None)  # words about the base are none about this one
    return merged(below, own), merged(under, overlays)


def _base_file(base: str, file: Path) -> Path:
    fragment = FOLDER / "bases" / f"{base}{SUFFIX}"
    if fragment.is_file():
        return fragment
    if base.endswith(SUFFIX):
        return file.parent / base
    try:
        return find_recipe(base)
    except HarnessError as error:
        raise HarnessError(f"recipe {file}: base: {error}") from None


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """E9a before E10a: runs of digits as numbers."""
    words = re.findall(r"\d+|\D+", name.lower())
    return tuple((0, int(word), "") if word.isdecimal() else (1, 0, word) for word in words)
