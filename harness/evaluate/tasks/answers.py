"""The answers of a finished run, token by token: how probable does a checkpoint find them, and what else instead?

JSONL, one answer an object: ``item`` (the key of the item that it answers, which keys its draws of noise too),
``question``, ``context`` and ``answer`` (token ids of the prompt and of the answer), ``places`` (numbers of the
answer's tokens, from 0, at which distributions are kept; default: all), ``top`` (how many of the most probable tokens
are kept at each; default 32) and, where items belong together, ``cluster``.
Or the folder of a run of this task: then the same answers are scored, and of every place the tokens that were kept
there are kept again, so that the two runs can be compared token by token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from harness.distributions import TOP, Distribution, Ids, Keep
from harness.evaluate.tasks.base import Item, ScoresTexts, Tokens, hash_items, read_json_lines
from harness.evaluate.tasks.rows import cluster_of
from harness.exceptions import HarnessError, StoreError
from harness.record import LikelihoodResult
from harness.runs.folder import MANIFEST
from harness.runs.loaded import Run, complete_run
from harness.strict import shown

NAME = "answers"
SCORER = "greedy"
_Kept = Mapping[tuple[str, float, int], Ids]


@dataclass(frozen=True)
class AnswersTask(ScoresTexts):
    """The answers of ``data``, a file or a run of this task; read once, at the first use.

    Every method that needs them raises :class:`HarnessError` for data that are missing, empty, unreadable, or of
    another form, and for a run of another task or without evidence.
    """

    name: ClassVar[str] = NAME
    scorer: ClassVar[str] = SCORER
    floor: ClassVar[float] = 0.0
    asked_of: ClassVar[str] = "answers"

    data: Path | None = None

    def dataset_hash(self) -> str:
        """Return the hash of all answers with what they answer, 16 hex digits."""
        return hash_items(Item(f"{item.key} {item.reference}", "", "", "") for item in self._items)

    def requests(self, item: Item) -> tuple[Tokens, ...]:
        """Return the one answer, behind what it answers."""
        return (tokens_of(item.reference),)

    def kept(self, item: str, level: float, seed: int) -> Keep:
        """Return what is kept of the answer of ``item``: where ``data`` is a run, the tokens that it kept of that draw,
        else the most probable ones."""
        places, top = self._asked[item]
        return Keep(places, self._read[1].get((item, level, seed)), top)

    @cached_property
    def _asked(self) -> dict[str, tuple[tuple[int, ...], int]]:
        return {item.key: _read_reference(item.reference)[1:] for item in self._items}

    @property
    def _items(self) -> tuple[Item, ...]:
        return self._read[0]

    @cached_property
    def _read(self) -> tuple[tuple[Item, ...], _Kept]:
        if self.data is None:
            rule, way_out = "its answers are those of a finished run", "use harness divergence record RUN --out FOLDER"
            raise HarnessError(f"--task {self.name} without --data", rule, way_out)
        if (self.data / MANIFEST).is_file():
            return _of_run(complete_run(self.data))
        items = tuple(_item(f"{self.data}, line {number}", row) for number, row in read_json_lines(self.data))
        _check_once(self.data, items)
        return items, {}


def reference_of(tokens: Tokens, places: Sequence[int], top: int = TOP) -> str:
    """Return the reference of an item: canonical JSON of the token ids that are fed, of those that are scored, of the
    places among these at which distributions are kept, and, unless it is :data:`TOP`, of how many tokens at each."""
    return json.dumps(_data_of(tokens, places, top), separators=(",", ":"))


def _data_of(tokens: Tokens, places: Sequence[int], top: int) -> dict[str, Any]:
    data = {"context": tokens.context, "answer": tokens.continuation, "places": tuple(places)}
    return data if top == TOP else {**data, "top": top}


def tokens_of(reference: str) -> Tokens:
    """Return the tokens in the text of :func:`reference_of`. Raises :class:`HarnessError` for any other text."""
    return _read_reference(reference)[0]


def places_of(reference: str) -> tuple[int, ...]:
    """Return the places in the text of :func:`reference_of`. Raises :class:`HarnessError` for any other text."""
    return _read_reference(reference)[1]


def _read_reference(reference: str) -> tuple[Tokens, tuple[int, ...], int]:
    try:
        data = json.loads(reference)
        tokens = Tokens(_ids(data["context"]), _ids(data["answer"]))
        return tokens, _checked_places(data["places"], len(tokens.continuation)), _checked_top(data.get("top", TOP))
    except (ValueError, TypeError, KeyError, RecursionError):
        rule = "it must hold the token ids of a context and of an answer, and places among these"
        raise HarnessError(f"reference {shown(reference)}", rule, "correct the task") from None


def answer_row(item: Item, tokens: Tokens, places: Sequence[int], top: int = TOP) -> str:
    """Return the line of an answers file for what ``item`` was answered."""
    row: dict[str, Any] = {"item": item.key, "question": item.question, **_data_of(tokens, places, top)}
    return json.dumps(row | ({"cluster": item.cluster} if item.cluster else {}), ensure_ascii=False)


def _of_run(run: Run) -> tuple[tuple[Item, ...], _Kept]:
    if run.arm.key.get("task") != NAME:
        rule = f"a run of the task {run.arm.key.get('task')} keeps no distributions"
        raise HarnessError(f"--data {run.path}", rule, "use harness divergence record RUN --out FOLDER")
    problems = [problem for level in run.arm.outcomes for problem in run.arm.certificate.problems_at(level)]
    if problems:
        raise StoreError(f"run {run.path}", f"it is no evidence: {problems[0]}", "record it again")
    items = tuple(
        Item(key, run.arm.questions[key], run.references[key], "", cluster=run.arm.clusters.get(key, ""))
        for key in run.asked.items
    )
    return items, {name: found.ids for name, found in distributions_of(run).items()}


def distributions_of(run: Run) -> dict[tuple[str, float, int], Distribution]:
    """Return what ``run`` kept, by item, level and noise seed. Raises :class:`StoreError` where a record kept none."""
    found = {}
    for result in run.results:
        name = result.item, result.level, result.seed
        told = result.requests if isinstance(result, LikelihoodResult) else ()
        try:
            found[name] = Distribution.read(told[0].distribution if told else "")
            wanted = places_of(run.references[result.item])
            if tuple(found[name].at.tolist()) != wanted:
                raise ValueError(f"{found[name].places} places where {len(wanted)} others were asked for")
        except ValueError as error:
            rule = f"item {name[0]} at level {name[1]:g}, seed {name[2]} has no distribution ({error})"
            raise StoreError(f"run {run.path}", rule, "record it again") from None
    return found


def _item(place: str, row: Mapping[str, Any]) -> Item:
    for name in ("item", "question"):
        if not isinstance(row.get(name), str) or not row[name]:
            raise HarnessError(f"{place}: {name} is {shown(row.get(name))}", "it must be text", "correct the row")
    cluster = cluster_of(place, row)
    found = []
    for name in ("context", "answer"):
        try:
            found.append(_ids(row.get(name)))
        except ValueError:
            rule = "it must be a list of token ids, at least one"
            raise HarnessError(f"{place}: {name} is {shown(row.get(name))}", rule, "correct the row") from None
    try:
        places = _checked_places(row.get("places", list(range(len(found[1])))), len(found[1]))
    except ValueError:
        rule = f"they must be ascending numbers from 0 to {len(found[1]) - 1}, at least one"
        raise HarnessError(f"{place}: places are {shown(row['places'])}", rule, "correct the row") from None
    try:
        top = _checked_top(row.get("top", TOP))
    except ValueError:
        rule = "it must be a whole number, 1 or more"
        raise HarnessError(f"{place}: top is {shown(row['top'])}", rule, "correct the row") from None
    return Item(row["item"], row["question"], reference_of(Tokens(*found), places, top), "", cluster=cluster)


def _checked_places(found: object, tokens: int) -> tuple[int, ...]:
    places = _ids(found)
    if list(places) != sorted(set(places)) or places[-1] >= tokens:
        raise ValueError(found)
    return places


def _checked_top(found: object) -> int:
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise ValueError(found)
    return found


def _ids(found: object) -> tuple[int, ...]:
    if not isinstance(found, list) or not found:
        raise ValueError(found)
    if any(isinstance(each, bool) or not isinstance(each, int) or each < 0 for each in found):
        raise ValueError(found)
    return tuple(found)


def _check_once(path: Path, items: Iterable[Item]) -> None:
    seen: set[str] = set()
    for item in items:
        if item.key in seen:
            raise HarnessError(f"{path}: item {item.key} has two answers", "it has one", "remove one of them")
        seen.add(item.key)
