"""Generates one item of a stored run again, alone, and holds it against the stored record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.checkpoints.hub import FIELD as HUB_FIELD
from harness.checkpoints.source import resolve_again
from harness.engines.device import out_of_memory_as
from harness.engines.generation import Prompt
from harness.engines.protocol import Batch
from harness.evaluate.opening import engine_of
from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.prompting import Prompting
from harness.evaluate.rendering import plain_text, render
from harness.evaluate.tasks import Item, is_verbatim
from harness.exceptions import CheckpointError, HarnessError, NotComparableError
from harness.likelihoods import DECODING
from harness.record import ItemResult, SiteCount
from harness.runs.draw import Draw, find_draw
from harness.runs.loaded import Run, load_run
from harness.scorers.until import holds, until_of
from harness.spec import EngineOptions, EvalSpec

_SHOWN = 40


def prepared_again(run: Run, checkpoint: Path | None, data: str | None, device: str | None) -> Prepared:
    """Return the evaluation of ``run``, loaded again from its manifest; ``checkpoint`` and ``data`` override its paths.

    Raises :class:`NotComparableError` where weights, settings, or anything that the measurement depends on is not
    what it was.
    """
    stored, manifest = run.asked, run.evaluation
    path = checkpoint or Path(manifest.checkpoint["path"])
    if checkpoint is None and not path.is_dir() and HUB_FIELD not in manifest.checkpoint:
        raise CheckpointError(
            f"checkpoint {path}, which the run was made of", "no such folder", "say where it is: --checkpoint"
        )
    source = resolve_again(manifest.checkpoint, checkpoint)
    if source.weights != stored.weights:
        raise NotComparableError(
            f"checkpoint {path}",
            f"its weights are {source.weights[:16]}..., those of the run {stored.weights[:16]}...",
            "give the checkpoint of the run: --checkpoint",
        )
    spec = EvalSpec.from_json(dict(manifest.spec))
    prepared = prepare(source, spec if data is None else replace(spec, data=data), device)
    now = {**prepared.key, "settings": prepared.checkpoint.settings}
    before = {**run.arm.key, "settings": stored.settings}
    differing = [
        f"{name} ({before.get(name)!s:.{_SHOWN}} there, {now.get(name)!s:.{_SHOWN}} here)"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if differing:
        raise NotComparableError(
            f"run {run.path} cannot be repeated here",
            f"what its numbers depend on differs: {', '.join(differing)}",
            "restore the checkpoint's files and the task's data",
        )
    return prepared


@dataclass(frozen=True)
class Replayed:
    """What came of one item generated again.

    ``generations`` holds the clean and the noisy one, each beside its stored record, as JSON types; ``equal_tokens``
    counts the tokens that the two have in common before they part, None where they are equal. ``counts`` is the ledger.
    """

    run: Run
    draw: Draw
    about: Mapping[str, Any]
    equal_tokens: int | None
    generations: tuple[Mapping[str, Any], ...]
    counts: tuple[SiteCount, ...]

    @property
    def reproduced(self) -> bool:
        """True where every generation is as it is stored."""
        return all(generation["as_stored"] for generation in self.generations)

    def to_json(self) -> dict[str, Any]:
        """Return JSON types, the ledger left out."""
        return {
            "run": str(self.run.path),
            "notes": list(self.run.arm.certificate.notes),
            **self.about,
            "equal_tokens": self.equal_tokens,
            "generations": [dict(generation) for generation in self.generations],
            "reproduced": self.reproduced,
        }


def replay(
    run: Run | Path | str,
    item: str,
    level: float,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    data: str | None = None,
    device: str | None = None,
) -> Replayed:
    """Generate ``item`` of the stored ``run`` again, alone, without noise and at ``level``, beside its records.

    ``item`` is the item's hash or its unique beginning; ``checkpoint`` and ``data`` say where those of the run are now.
    Raises :class:`harness.exceptions.HarnessError` for what the run does not hold, and
    :class:`NotComparableError` where weights, settings or data are not what they were.
    """
    stored = run if isinstance(run, Run) else load_run(Path(run))
    if stored.arm.key.get("decoding") == DECODING:
        raise HarnessError(
            f"run {stored.path}", "it scored given continuations and generated nothing", "evaluate again and compare"
        )
    draw = find_draw(stored, item, level, seed)
    where = None if checkpoint is None else Path(checkpoint)
    return _replay(stored, prepared_again(stored, where, data, device), draw)


def _replay(run: Run, prepared: Prepared, draw: Draw) -> Replayed:
    item, level, seed = draw.item, draw.level, draw.seed
    stored = {(record.item, record.level, record.seed): record for record in run.results}
    wanted = dict.fromkeys(((0.0, draw.clean_seed), (level, seed)))
    results, counts = _generate(prepared, item, list(wanted))
    clean, noisy = results[0], results[-1]
    parted = None if clean is noisy else _first_difference(clean.tokens, noisy.tokens)
    decode = prepared.checkpoint.tokenizer.decode
    (asked,) = (found for found in prepared.items if found.key == item)
    generations = [_generation(result, stored[item, result.level, result.seed], parted, decode) for result in results]
    ends = until_of(run.arm.key)
    generations = [{**each, "by_text": holds(each["text"], ends)} for each in generations]
    about = {
        "checkpoint": str(prepared.checkpoint.path),
        "noise": str(prepared.spec.noise.at_level(level)),
        "device": prepared.device,
        "stored_device": run.evaluation.device,
        "certificate": run.arm.certificate.status,
        "item": item,
        "question": asked.question,
        "reference": asked.reference,
        "prompt": _prompt(prepared, asked),
        "level": level,
        "seed": seed,
    }
    return Replayed(run, draw, about, parted, tuple(generations), tuple(counts))


def _prompt(prepared: Prepared, asked: Item) -> str:
    """The text that asks the item."""
    prompting = prepared.prompting or Prompting(prepared.task)
    messages = prompting.messages(asked)
    if not prompting.chat:
        return plain_text(messages, is_verbatim(prepared.task))
    return render(prepared.checkpoint, messages, day=prepared.spec.template_date)


def _generate(
    prepared: Prepared, item: str, wanted: Sequence[tuple[float, int]]
) -> tuple[list[ItemResult], list[SiteCount]]:
    results: list[ItemResult] = []
    counts: list[SiteCount] = []
    batches = [Batch(level, (Prompt(item, seed, prepared.prompts[item]),)) for level, seed in wanted]
    with (
        out_of_memory_as(f"one item on {prepared.device}", "give a --device that has more"),
        engine_of(prepared, EngineOptions(batch_size=1)) as engine,
    ):
        for ran in engine.stream(iter(batches)):
            results += ran.results
            counts += ran.counts
    return results, counts


def _generation(result: ItemResult, stored: ItemResult, parted: int | None, decode: Any) -> dict[str, Any]:
    differs = _first_difference(result.tokens, stored.tokens)
    return {
        **asdict(result),
        "tokens": list(result.tokens),
        "parts": _parts(result.tokens, parted, decode),
        "as_stored": differs is None and result.truncated == stored.truncated,
        "first_difference": None
        if differs is None
        else {"token": differs, "stored": _token(stored, differs, decode), "now": _token(result, differs, decode)},
        "stored": {**asdict(stored), "tokens": list(stored.tokens)},
    }


def _first_difference(first: Sequence[Any], second: Sequence[Any]) -> int | None:
    """How many entries are equal before the first one that differs, or where one ends; None for equal sequences."""
    equal = next((n for n, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), None)
    if equal is None and len(first) != len(second):
        return min(len(first), len(second))
    return equal


def _token(result: ItemResult, index: int, decode: Any) -> str | None:
    """The text of one token; None where the answer has ended before it."""
    return str(decode([result.tokens[index]])) if index < len(result.tokens) else None


def _parts(tokens: Sequence[int], parted: int | None, decode: Any) -> list[str]:
    """The text before the token that differs, that token (empty: the answer has ended), and the rest."""
    whole = str(decode(tokens, skip_special_tokens=True))
    if parted is None:
        return [whole, "", ""]
    # a token may be part of a character, so that the text of the first tokens need not begin the whole text
    beginnings = [str(decode(tokens[:count], skip_special_tokens=True)) for count in (parted, parted + 1)]
    equal = [_first_difference(whole, beginning) for beginning in beginnings]
    cuts = [len(whole) if count is None else count for count in equal]
    return [whole[: cuts[0]], whole[cuts[0] : cuts[1]], whole[cuts[1] :]]
