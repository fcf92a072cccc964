"""The last checkpoint of a run read back and scored on the run's own validation: it must be what was validated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.checkpoints.modes import MERGED, UNMERGED
from harness.exceptions import HarnessError
from harness.runs.folder import write_atomically, write_json
from harness.training.data import prompts_hash
from harness.training.injection import ROLLOUT
from harness.training.recipe import Recipe
from harness.training.reward import compute_score
from harness.training.sections import LORA

FILE, ANSWERS = "readback.json", "answers.jsonl"
BATCH = 32


@dataclass(frozen=True)
class Readback:
    """The mean ``score`` of the checkpoint of ``step`` over ``items``, greedy and without noise, and its answers.

    ``problem`` says why there are none. ``prompts`` is :func:`harness.training.data.prompts_hash` of what was asked.
    """

    step: int
    score: float
    items: int
    problem: str = ""
    answers: tuple[Mapping[str, Any], ...] = ()
    prompts: str = ""


def read_back(recipe: Recipe, checkpoint: Path, step: int, validation: Path) -> Readback:
    """Return how ``checkpoint``, loaded by the harness, scores on the rows of the Parquet file ``validation``.

    The rollout's quantization is on, as it is in verl's validation; operator noise and AQN are off.
    """
    if recipe.algorithm.validation_temperature > 0:
        return Readback(step, 0.0, 0, "its validation is sampled, so no two scores agree; validate greedily")
    try:
        answers = tuple(_answers(recipe, checkpoint, _rows(validation)))
    except HarnessError as error:
        return Readback(step, 0.0, 0, f"it cannot be read back: {error}")
    score = sum(each["score"] for each in answers) / len(answers)
    return Readback(step, score, len(answers), "", answers, prompts_hash(each["asked"] for each in answers))


def write_readback(found: Readback, folder: Path) -> None:
    """Write ``found`` into the folder of the run, its answers one a line as ``harness score`` reads them."""
    told = asdict(found)
    answers = told.pop("answers")
    write_json(folder / FILE, told)
    kept = [{name: each[name] for name in ("question", "completion", "truncated")} for each in answers]
    write_atomically(folder / ANSWERS, "".join(json.dumps(each) + "\n" for each in kept))


def _rows(file: Path) -> list[Mapping[str, Any]]:
    from pyarrow import ArrowException, parquet

    try:
        found: list[Mapping[str, Any]] = parquet.read_table(file).to_pylist()
    except (ArrowException, OSError) as error:
        raise HarnessError(f"data file {file}", str(error), "copy it again") from None
    return found


def _answers(recipe: Recipe, path: Path, rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield question, prompt tokens (asked), completion, whether it was cut off, and the reward (score) of the greedy
    answer to every row."""
    import torch

    from harness.checkpoints.source import resolve
    from harness.engines.generation import Decoding, Prompt, generate
    from harness.evaluate.checkpoint import load_checkpoint
    from harness.evaluate.rendering import render
    from harness.noise.inject import noisy

    part = recipe.quantization
    quantized = part is not None and ROLLOUT in part.sides
    beside = recipe.tuning.kind == LORA and quantized  # the rollout quantizes the base, not what is merged into it
    device = "cuda" if torch.cuda.is_available() else "cpu"
    source = resolve(path, adapter=UNMERGED if beside else MERGED)
    loaded = load_checkpoint(source, recipe.model.dtype, device=device)
    tokenizer = loaded.tokenizer
    stop = loaded.model.generation_config.eos_token_id
    stops = tuple(stop) if isinstance(stop, list) else (int(stop if stop is not None else tokenizer.eos_token_id),)
    decoding = Decoding(recipe.data.max_response, stops, stops[0])
    texts = [render(loaded, row["prompt"], str(row["data_source"])) for row in rows]
    prompts = [tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    specs = part.specs() if part is not None and quantized else ()
    with noisy(loaded.model, specs) if specs else nullcontext():
        for first in range(0, len(rows), BATCH):
            chosen = range(first, min(first + BATCH, len(rows)))
            done = generate(loaded.model, [Prompt(str(n), 0, prompts[n]) for n in chosen], decoding)
            for number, answer in zip(chosen, done, strict=True):
                text = tokenizer.decode(list(answer.tokens), skip_special_tokens=True)
                row = rows[number]
                score = compute_score(row["data_source"], text, row["reward_model"]["ground_truth"])["score"]
                question = row["prompt"][-1]["content"]
                told = {"question": question, "completion": text, "truncated": answer.truncated}
                yield told | {"score": score, "asked": prompts[number]}
