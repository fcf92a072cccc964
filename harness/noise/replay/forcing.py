"""Replays stored answers by teacher forcing: one forward over prompt and answer gives the logits of every position.

Draws are keyed by item, seed, position, site and column, so the logits at a position are those of the forward that
chose its token, whatever the batch was. Not so where a fault made NaN or infinity: in one forward over everything a
mask gives a later token the weight 0, and 0 times NaN is NaN, in rows that never saw that token when they were
generated. Generated answers of which a logit is NaN are therefore fed again as an engine does it: the prompt, then
token by token.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.noise.replay.draws import Side, counted, row_stream
from harness.noise.replay.hooks import Layer, Places, Rows
from harness.noise.replay.sampled import columns, draws_of, judged_step
from harness.spec.sampling import Sampling
from harness.spec.tokens import in_spans

TOKENS, LOGITS = 4096, 1 << 25
"""Tokens fed, and logits made, in one forward at most (but always one record)."""


@dataclass(frozen=True)
class Answer:
    """A stored answer: what was fed, what came out, by which draws. ``ended`` if an end of sequence followed it;
    ``asked`` int (steps, k) are tokens whose log-probabilities are wanted too. ``at_once`` if the engine fed
    everything in one forward, as it does to score."""

    item: str
    seed: int
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    ended: bool
    asked: NDArray[np.int32] | None = field(default=None, compare=False)
    at_once: bool = False

    @property
    def fed(self) -> tuple[int, ...]:
        """The tokens of the forward: all but the last one generated."""
        return (*self.prompt, *(self.tokens if self.ended else self.tokens[:-1]))

    @property
    def steps(self) -> int:
        """Tokens generated, the end of sequence included."""
        return len(self.tokens) + self.ended


@dataclass(frozen=True)
class Replayed:
    """What the second implementation found at each step of an answer, one number or token for each.

    ``best`` is the token with the largest logit, ``logits`` that of the stored token (of an end of sequence: the
    largest of the stop tokens), ``gaps`` how far it lies below the best one, 0 where the stored token is the best;
    ``logprobs`` the log-probability (nats) of the stored token, which an end of sequence has none of; ``asked`` float32
    (steps, k) those of the tokens that were asked for.
    Of sampled answers ``best`` is the token that the draw chooses, ``gaps`` the least change of logits with which it
    could have chosen the stored one, and an end of sequence is the stop token that is nearest to being chosen.
    """

    best: tuple[int, ...]
    logits: tuple[float, ...]
    gaps: tuple[float, ...]
    logprobs: tuple[float, ...] = ()
    asked: NDArray[np.float32] | None = field(default=None, compare=False)


@torch.inference_mode()
def replay(
    model: Any,
    layers: Sequence[Layer],
    answers: Sequence[Answer],
    level: float,
    stop: Sequence[int],
    sampling: Sampling | None = None,
) -> Iterator[tuple[int, Replayed]]:
    """Yield (index in ``answers``, what was found), in any order, for answers that were made at ``level``.

    ``layers`` are the quantization, then the noise; ``stop`` are the tokens that end an answer; ``sampling`` is how
    tokens were drawn, None where the largest logit decided. The model is left as it was.
    """
    rows = Rows(level=level)
    on = [layer for layer in layers if level or layer.spec.at != "output"]
    numbered = [Layer(layer.spec, layer.sites, number) for number, layer in enumerate(on)]
    places = Places(model, numbered, rows)
    vocabulary = model.config.get_text_config().vocab_size
    with places.opened():
        for batch in _batches(answers, vocabulary):
            asked = [answers[index] for index in batch]
            logits = _mended(model, numbered, rows, asked, _forced(model, numbered, rows, asked))
            found = _read(logits, asked, stop) if sampling is None else _drawn(logits, asked, stop, sampling)
            yield from zip(batch, found, strict=True)


def _batches(answers: Sequence[Answer], vocabulary: int) -> Iterator[list[int]]:
    """Answers of similar length together."""
    waiting: list[int] = []
    for index in sorted(range(len(answers)), key=lambda index: len(answers[index].fed)):
        together = [*waiting, index]
        too_long = len(together) * len(answers[index].fed) > TOKENS
        if waiting and (too_long or sum(answers[i].steps for i in together) * vocabulary > LOGITS):
            yield waiting
            together = [index]
        waiting = together
    if waiting:
        yield waiting


def _forced(model: Any, layers: Sequence[Layer], rows: Rows, answers: Sequence[Answer]) -> Tensor:
    """The logits that chose the tokens of ``answers``, one after the other, float32 (wanted tokens, vocabulary)."""
    device = next(model.parameters()).device
    width = _width(model, max(len(answer.fed) for answer in answers))
    ids = torch.zeros(len(answers), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    picked: list[int] = []
    for row, answer in enumerate(answers):
        fed = answer.fed
        ids[row, : len(fed)] = torch.tensor(fed)
        mask[row, : len(fed)] = 1
        first = row * width + len(answer.prompt) - 1
        picked += range(first, first + answer.steps)
    rows.tokens = width
    rows.picked = torch.tensor(picked, device=device)
    rows.keys = [_keys(layer, answers, range(width), device) for layer in layers]
    rows.selected = [_selected(layer, answers, range(width), device) for layer in layers]
    positions = torch.arange(width, device=device).expand(len(answers), width)
    output = model(
        input_ids=ids.to(device), attention_mask=mask.to(device), position_ids=positions, use_cache=False
    ).logits
    if output.shape[:2] != (1, len(picked)):  # a head that is no module made all of them
        output = output.reshape(1, -1, output.shape[-1])[:, rows.picked]
    logits: Tensor = output[0].float()
    return logits


def _mended(model: Any, layers: Sequence[Layer], rows: Rows, answers: Sequence[Answer], logits: Tensor) -> Tensor:
    """``logits`` (wanted tokens, vocabulary), those of generated answers that hold NaN made again token by token."""
    start = 0
    for answer in answers:
        part = slice(start, start + answer.steps)
        start = part.stop
        if not answer.at_once and bool(logits[part].isnan().any()):
            again = _stepped(model, layers, rows, answer)
            if again is not None:
                logits[part] = again
    return logits


def _stepped(model: Any, layers: Sequence[Layer], rows: Rows, answer: Answer) -> Tensor | None:
    """The logits of one answer, float32 (steps, vocabulary), from a forward over its prompt and one for each further
    token; None where the model keeps no keys and values. Of a prompt as wide as there are heads the last tokens come
    one by one, so that no dimension can be mistaken."""
    device = next(model.parameters()).device
    prompt, fed = len(answer.prompt), answer.fed
    first = next(count for count in range(prompt, 0, -1) if count in (1, _width(model, count)))
    cache, found = None, []
    for start, stop in ((0, first), *((at, at + 1) for at in range(first, len(fed)))):
        places = range(start, stop)
        rows.tokens = len(places)
        rows.picked = torch.tensor([len(places) - 1], device=device)
        rows.keys = [_keys(layer, [answer], places, device) for layer in layers]
        rows.selected = [_selected(layer, [answer], places, device) for layer in layers]
        output = model(
            input_ids=torch.tensor([fed[start:stop]], device=device),
            attention_mask=torch.ones(1, stop, dtype=torch.long, device=device),
            position_ids=torch.tensor([places], device=device),
            past_key_values=cache,
            use_cache=True,
        )
        cache = getattr(output, "past_key_values", None)
        if cache is None:
            return None
        if stop >= prompt:
            found.append(output.logits[0, -1].float())
    return torch.stack(found)


def _width(model: Any, longest: int) -> int:
    """As wide as the longest answer, but unlike the number of heads, so that no dimension can be mistaken."""
    config = model.config.get_text_config()
    heads = {getattr(config, name, None) for name in ("num_attention_heads", "num_key_value_heads", "n_head")}
    while longest in heads:
        longest += 1
    return longest


def _keys(layer: Layer, answers: Sequence[Answer], places: range, device: torch.device) -> Side:
    """Row keys of the tokens at ``places``, those of padding too. Quantization that draws has one seed."""
    noise = layer.spec.at == "output"
    streams = [row_stream(answer.item, answer.seed if noise else 0, layer.spec.key) for answer in answers]
    sides = [Side.of(counted(stream, places), device) for stream in streams]
    return Side(torch.cat([side.low for side in sides]), torch.cat([side.high for side in sides]))


def _selected(layer: Layer, answers: Sequence[Answer], places: range, device: torch.device) -> Tensor | None:
    """Whether the noise of ``layer`` acts on the tokens at ``places``, those of padding too; None where on all."""
    spans = layer.spec.spans
    if not spans:
        return None
    wanted = [in_spans(at + 1 - len(answer.prompt), spans) for answer in answers for at in places]
    return torch.tensor(wanted, device=device)


def _read(logits: Tensor, answers: Sequence[Answer], stop: Sequence[int]) -> list[Replayed]:
    """(wanted tokens, vocabulary) -> what each answer's tokens got."""
    best, at = logits.max(-1)
    normaliser = logits.logsumexp(-1)
    ending = logits[:, list(stop)].amax(-1) if stop else torch.full_like(best, -torch.inf)
    found, start = [], 0
    for answer in answers:
        part = slice(start, start + answer.steps)
        start = part.stop
        stored = logits[part][: len(answer.tokens)].gather(1, torch.tensor(answer.tokens, device=at.device)[:, None])
        own = torch.cat([stored[:, 0], ending[part][len(answer.tokens) :]])
        chosen = at[part].tolist()
        logprobs = stored[:, 0] - normaliser[part][: len(answer.tokens)]
        gaps = [_gap(*pair) for pair in zip(best[part].tolist(), own.tolist(), strict=True)]
        asked = None if answer.asked is None else _asked(logits[part], normaliser[part], answer.asked)
        found.append(Replayed(tuple(chosen), tuple(own.tolist()), tuple(gaps), tuple(logprobs.tolist()), asked))
    return found


def _gap(best: float, own: float) -> float:
    """How far a stored token's logit lies below the best one, which is NaN where any is; equal ones are a tie."""
    if best == own or (math.isnan(best) and math.isnan(own)):
        return 0.0
    return math.inf if math.isnan(best - own) else best - own


def _asked(logits: Tensor, normaliser: Tensor, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
    wanted = torch.from_numpy(tokens.astype(np.int64)).to(logits.device)
    found: NDArray[np.float32] = (logits.gather(1, wanted) - normaliser[:, None]).cpu().numpy()
    return found


def _drawn(logits: Tensor, answers: Sequence[Answer], stop: Sequence[int], sampling: Sampling) -> list[Replayed]:
    """As :func:`_read`, of tokens that were drawn."""
    tokens = columns(logits.shape[-1])
    found, start = [], 0
    for answer in answers:
        own = logits[start : start + answer.steps].double().cpu().numpy()
        start += answer.steps
        steps = [
            judged_step(row, draws_of(answer.item, answer.seed, step, tokens), sampling, stored)
            for step, (row, stored) in enumerate(zip(own, _stored(answer, stop), strict=True))
        ]
        best, gaps = tuple(step.best for step in steps), tuple(step.gap for step in steps)
        found.append(Replayed(best, tuple(float(row[step.token]) for row, step in zip(own, steps, strict=True)), gaps))
    return found


def _stored(answer: Answer, stop: Sequence[int]) -> list[tuple[int, ...]]:
    """The tokens that may stand at each step of a record: one, or any that ends an answer."""
    return [*((token,) for token in answer.tokens), *([tuple(stop)] if answer.ended else [])]
