"""One draw of a stored run: an item at a level with a noise seed, found by the description that a user gives."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from harness.exceptions import HarnessError, StoreError
from harness.runs.loaded import Run
from harness.runs.manifest import ExternalManifest
from harness.spec import EvalSpec

MOST_NAMED = 3


@dataclass(frozen=True)
class Draw:
    """``item`` is the hash, ``level`` a fraction (or in the unit of the error model), ``seed`` the noise seed (of a
    sampled answer: its draw); ``clean_seed`` that of the clean answer beside it."""

    item: str
    level: float
    seed: int
    clean_seed: int = 0


def find_draw(run: Run, item: str, level: float, seed: int = 0) -> Draw:
    """Return the draw that is meant, which ``run`` holds; ``item`` is its hash or the unique beginning of it.

    Raises :class:`HarnessError` naming what the run has instead.
    """
    if isinstance(run.manifest, ExternalManifest):
        raise HarnessError(
            f"run {run.path}", "its completions were produced elsewhere", "replay a run of harness eval or harness gate"
        )
    key = _item(run.asked.items, item)
    spec = EvalSpec.from_json(dict(run.evaluation.spec))
    if level not in spec.levels:
        known = ", ".join(f"{found:g}" for found in spec.levels)
        raise HarnessError(f"--level {level:g}", f"the run has the levels {known}", "choose one of them")
    if seed not in spec.seeds_at(level):
        known = ", ".join(str(found) for found in spec.seeds_at(level))
        raise HarnessError(f"--seed {seed}", f"at level {level:g} the run has the seeds {known}", "choose one of them")
    clean = seed if seed in spec.seeds_at(0.0) else 0
    there = {(record.item, record.level, record.seed) for record in run.results}
    for wanted in ((key, 0.0, clean), (key, level, seed)):
        if wanted not in there:
            raise StoreError(
                f"run {run.path}",
                f"it is unfinished: item {key} has no record at level {wanted[1]:g}, seed {wanted[2]}",
                "resume it with harness eval",
            )
    return Draw(key, level, seed, clean)


def _item(items: Sequence[str], prefix: str) -> str:
    found = [prefix] if prefix in items else [item for item in items if item.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        named = ", ".join(found[:MOST_NAMED])
        raise HarnessError(f"--item {prefix!r}", f"it means {named}{more}", "give more of the hash")
    close = difflib.get_close_matches(prefix, items, n=1, cutoff=0.5)
    way_out = f"did you mean {close[0]}?" if close else f"the first of its {len(items)} items is {items[0]}"
    raise HarnessError(f"--item {prefix!r}", "no item of the run begins so", way_out)
