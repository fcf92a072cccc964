"""The data of a run in verl's layout: Parquet files of generated tasks, and a hash of what is in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.evaluate.tasks.arith import DATA_SEED, generate
from harness.exceptions import HarnessError
from harness.training.recipe import Recipe
from harness.training.render import Place

ARITH = "arith"
_DIGITS = 16


@dataclass(frozen=True)
class Written:
    """Hashes (16 hex digits) of the rows of both files, in order."""

    train: str
    validation: str


def prompts_hash(prompts: Iterable[Sequence[int]]) -> str:
    """Return 16 hex digits of ``prompts`` as a set of token ids, whatever their order and however often each comes."""
    told = sorted({",".join(map(str, tokens)) for tokens in prompts})
    return hashlib.sha256("|".join(told).encode()).hexdigest()[:_DIGITS]


def rows(split: str, count: int, without: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the first ``count`` problems of ``split`` (train or test) whose questions are not in ``without``."""
    taken, index = set(without), 0
    found: list[dict[str, Any]] = []
    while len(found) < count:
        problem = generate(DATA_SEED, split, index)
        if problem.question not in taken:
            found.append(
                {
                    "data_source": ARITH,
                    "prompt": [{"role": "user", "content": problem.question}],
                    "ability": "math",
                    "reward_model": {"style": "rule", "ground_truth": str(problem.answer)},
                    "extra_info": {"split": split, "index": len(found)},
                }
            )
        index += 1
    return found


def write_data(recipe: Recipe, place: Place) -> Written:
    """Write the files that ``place`` names where the task is a generated one; return what is in them.

    Raises :class:`HarnessError` for a task whose data the harness does not write.
    """
    if not recipe.data.train_files:
        if recipe.data.task != ARITH:
            raise HarnessError(
                f"data.task {recipe.data.task!r} without files", "only arith is written here", "give --train-data"
            )
        validation = rows("test", recipe.data.validation_items)
        asked = {row["prompt"][0]["content"] for row in validation}
        _write(rows("train", recipe.data.train_items, asked), place.train_file)
        _write(validation, place.validation_file)
    return Written(*(_digest(file) for file in (place.train_file, place.validation_file)))


def _write(table: Sequence[dict[str, Any]], file: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(list(table)), file)


def _digest(file: Path) -> str:
    from pyarrow import parquet

    table = parquet.read_table(file, columns=["prompt", "reward_model"]).to_pylist()
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:_DIGITS]
