"""Minimal pairs as a measure of AQN: is the good sentence likelier than the bad one, and how far do its tokens move?

For language models that answer no questions. A data file has one JSON object a line with ``sentence_good`` and
``sentence_bad``, as BLiMP has them (Warstadt et al., TACL 8, 2020); other fields are left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.diagnostics.aqn_probe import Clean, Noisy
from harness.diagnostics.effect import KEPT_BYTES, divergence, entropy
from harness.evaluate.checkpoint import Checkpoint
from harness.evaluate.tasks import Item, select
from harness.evaluate.tasks.base import hash_items, item_key, read_json_lines, unique_items
from harness.exceptions import HarnessError
from harness.strict import shown

TASK = "pairs"
COLUMNS = ("sentence_good", "sentence_bad")


@dataclass(frozen=True)
class _Batch:
    """Sentences right-padded: whose they are, token ids, how many tokens are real."""

    owners: tuple[tuple[int, bool], ...]
    ids: Tensor
    lengths: tuple[int, ...]


def read_pairs(path: Path) -> tuple[Item, ...]:
    """Return the pairs in ``path``: ``question`` is the good sentence, ``reference`` the bad one.

    Raises :class:`HarnessError` naming the line that is no pair.
    """
    items = []
    for number, row in read_json_lines(path):
        good, bad = (row.get(column) for column in COLUMNS)
        place = f"{path}, line {number}"
        for column, value in zip(COLUMNS, (good, bad), strict=True):
            if not isinstance(value, str) or not value.strip():
                raise HarnessError(f"{place}: {column} {shown(value)}", "it is a sentence", "correct the row")
        assert isinstance(good, str) and isinstance(bad, str)
        if good == bad:
            raise HarnessError(f"{place}: {shown(good)}", "both sentences are the same", "correct the row")
        items.append(Item(item_key(TASK, good, bad), good, bad, ""))
    return unique_items(items, str(path))


class PairProbe:
    """The pairs of a file under one model. ``right``: the sum of the log-probabilities of the good sentence is larger.

    KL and entropy are means over the tokens of the good sentence. ``prefix`` stands before every sentence, as its
    tokens have to be predicted from something; None is the tokenizer's own first token.
    """

    def __init__(self, checkpoint: Checkpoint, pairs: Sequence[Item], prefix: str | None, batch_size: int) -> None:
        self._model: Any = checkpoint.model
        self.keys = [pair.key for pair in pairs]
        self._tokenizer: Any = checkpoint.tokenizer
        self.prefix = prefix if prefix is not None else self._tokenizer.bos_token
        self._first = self._tokens(self.prefix) if self.prefix else []
        if not self._first:
            raise HarnessError(f"prefix {shown(self.prefix)}", "it gives no token", "give --prefix a text that does")
        sentences = [(number, good) for number in range(len(pairs)) for good in (True, False)]
        tokens = [self._tokens(pairs[n].question if good else pairs[n].reference) for n, good in sentences]
        order = sorted(range(len(sentences)), key=lambda each: len(tokens[each]))
        self._batches = [
            self._batch([(sentences[each], tokens[each]) for each in order[start : start + batch_size]])
            for start in range(0, len(order), batch_size)
        ]
        self.tokens = sum(len(t) for (_, good), t in zip(sentences, tokens, strict=True) if good)
        self._keeping = 4 * self._model.config.get_text_config().vocab_size * self.tokens <= KEPT_BYTES
        self._kept: list[dict[int, Tensor]] = []

    def clean(self, advance: Callable[[int], None]) -> Clean:
        """Return what the model does as it is."""
        scores: dict[tuple[int, bool], float] = {}
        entropies: dict[int, float] = {}
        for batch in self._batches:
            good = self._read(batch, scores)
            entropies |= {number: float(entropy(logits).mean()) for number, logits in good.items()}
            if self._keeping:
                self._kept.append(good)
            advance(len(good))
        return Clean(self._right(scores), [entropies[number] for number in range(len(self.keys))], self.tokens)

    def under(
        self, changed: Callable[[], contextlib.AbstractContextManager[object]], advance: Callable[[int], None]
    ) -> Noisy:
        """Return what the model does inside ``changed()``, which is entered once where clean logits are kept."""
        scores: dict[tuple[int, bool], float] = {}
        divergences: dict[int, float] = {}
        entropies: dict[int, float] = {}
        with contextlib.ExitStack() as once:
            if self._keeping:
                once.enter_context(changed())
            for index, batch in enumerate(self._batches):
                before = self._kept[index] if self._keeping else self._read(batch, {})
                with contextlib.nullcontext() if self._keeping else changed():
                    after = self._read(batch, scores)
                for number, logits in after.items():
                    divergences[number] = float(divergence(before[number], logits).mean())
                    entropies[number] = float(entropy(logits).mean())
                advance(len(after))
        numbers = range(len(self.keys))
        return Noisy(self._right(scores), [divergences[n] for n in numbers], [entropies[n] for n in numbers])

    def _right(self, scores: dict[tuple[int, bool], float]) -> list[int]:
        return [int(scores[number, True] > scores[number, False]) for number in range(len(self.keys))]

    def _tokens(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _batch(self, sentences: Sequence[tuple[tuple[int, bool], list[int]]]) -> _Batch:
        width = max(len(tokens) for _, tokens in sentences) + len(self._first)
        ids = torch.zeros(len(sentences), width, dtype=torch.int64)
        for row, (_, tokens) in enumerate(sentences):
            ids[row, : len(self._first) + len(tokens)] = torch.tensor([*self._first, *tokens])
        owners = tuple(owner for owner, _ in sentences)
        return _Batch(owners, ids.to(self._model.device), tuple(len(tokens) for _, tokens in sentences))

    @torch.inference_mode()
    def _read(self, batch: _Batch, scores: dict[tuple[int, bool], float]) -> dict[int, Tensor]:
        """Adds the sums of log-probabilities to ``scores``; returns the logits of the good sentences by pair."""
        first = len(self._first)
        # padding stands behind everything that is read, where causal attention does not see it
        output = self._model(input_ids=batch.ids, use_cache=False).logits
        found = {}
        for row, (owner, length) in enumerate(zip(batch.owners, batch.lengths, strict=True)):
            logits = output[row, first - 1 : first - 1 + length].float().cpu()
            told = batch.ids[row, first : first + length].cpu()
            chosen = logits.gather(1, told[:, None])[:, 0].double() - logits.double().logsumexp(-1)
            scores[owner] = float(chosen.sum())
            number, good = owner
            if good:
                found[number] = logits.clone() if self._keeping else logits
        return found


def load_pairs(data: str | None, items: int | None, seed: int) -> tuple[tuple[Item, ...], str]:
    """Return (chosen pairs, hash of the whole file). Raises :class:`HarnessError`."""
    if data is None:
        raise HarnessError(f"--task {TASK} without --data", "the pairs stand in a file", "give --data FILE.jsonl")
    every = read_pairs(Path(data))
    return select(every, len(every) if items is None else items, seed), hash_items(every)
