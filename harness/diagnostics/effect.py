"""What quantizing one layer alone does to the model's own answers: KL divergence and accuracy, paired with clean."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.diagnostics.scan_result import LayerEffect
from harness.diagnostics.scan_spec import ScanSpec
from harness.diagnostics.scanned_model import ScannedModel, quantized_places
from harness.engines.generation import Completion, Prompt, generate, left_pad
from harness.evaluate.prepared import Prepared
from harness.evaluate.scoring import scored_result
from harness.spec.formats import Recipe
from harness.stats import Interval, bca_mean, tango, wilson

KEPT_BYTES = 1 << 30
"""Clean logits are kept up to this size; beyond it they are computed again for every layer."""

_Advance = Callable[[int], None]


@dataclass(frozen=True)
class Answer:
    """What the model answered to one item; an answer without a result, or cut off before it, is not ``right``."""

    item: str
    completion: Completion
    right: bool


@dataclass(frozen=True)
class Fed:
    """Sequences of one forward pass: prompts with the clean answers, all but the last token of it, left-padded.

    ``steps`` says of each row how many of its last positions predict a token of the answer (its end included).
    """

    items: tuple[str, ...]
    ids: Tensor
    mask: Tensor
    positions: Tensor
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Under:
    """What a changed model does: its own answers, and by item, in nats per token of the clean answer, the mean of
    KL(clean || changed) and of the entropy of the changed model."""

    answers: tuple[Answer, ...]
    kl: Mapping[str, float]
    entropy: Mapping[str, float]


class CleanAnswers:
    """The clean answers to the items of ``prepared``, made once, and what a change of the model makes of them."""

    def __init__(self, prepared: Prepared, batch_size: int, advance: _Advance = lambda count: None) -> None:
        self._prepared, self._batch_size = prepared, batch_size
        self._model: Any = prepared.checkpoint.model
        self.clean = self._answers(advance)
        self._fed = self._sequences()
        self._kept: list[list[Tensor]] = []
        width = self._model.config.get_text_config().vocab_size
        self._keeping = 4 * width * sum(sum(fed.steps) for fed in self._fed) <= KEPT_BYTES
        if self._keeping:
            self._kept = [self._logits(fed) for fed in self._fed]

    @property
    def positions(self) -> int:
        """Tokens of the clean answers, their ends included."""
        return sum(answer.completion.steps for answer in self.clean)

    @property
    def accuracy(self) -> Interval:
        """Of the clean answers."""
        return _accuracy(self.clean)

    def entropy(self) -> dict[str, float]:
        """Return the mean entropy of the clean model by item, in nats per token of its answer."""
        found: dict[str, float] = {}
        for index, fed in enumerate(self._fed):
            logits = self._kept[index] if self._keeping else self._logits(fed)
            found |= {item: float(entropy(row).mean()) for item, row in zip(fed.items, logits, strict=True)}
        return found

    def under(
        self,
        changed: Callable[[], contextlib.AbstractContextManager[object]],
        advance: _Advance = lambda count: None,
    ) -> Under:
        """Return what the model does inside ``changed()``. ``advance(n)`` is told of every n items answered."""
        divergences, entropies = {}, {}
        for index, fed in enumerate(self._fed):
            before = self._kept[index] if self._keeping else self._logits(fed)
            with changed():
                after = self._logits(fed)
            for item, one, other in zip(fed.items, before, after, strict=True):
                divergences[item] = float(divergence(one, other).mean())
                entropies[item] = float(entropy(other).mean())
        with changed():
            answers = self._answers(advance)
        return Under(answers, divergences, entropies)

    def _answers(self, advance: _Advance) -> tuple[Answer, ...]:
        found: dict[str, Answer] = {}
        known = {item.key: item for item in self._prepared.items}
        for prompts in self._batches():
            completions = generate(self._model, prompts, self._prepared.decoding)
            for prompt, completion in zip(prompts, completions, strict=True):
                text = self._prepared.checkpoint.tokenizer.decode(completion.tokens, skip_special_tokens=True)
                result = scored_result(
                    known[prompt.item],
                    text,
                    self._prepared.scorer,
                    level=0.0,
                    seed=0,
                    truncated=completion.truncated,
                    tokens=completion.tokens,
                    prompt_tokens=len(prompt.tokens),
                )
                found[prompt.item] = Answer(prompt.item, completion, result.score == 1.0)
            advance(len(prompts))
        return tuple(found[item.key] for item in self._prepared.items)

    def _batches(self) -> list[list[Prompt]]:
        """All prompts, the longest first: the same batches whenever they are asked for."""
        prompts = [Prompt(item, 0, tokens) for item, tokens in self._prepared.prompts.items()]
        prompts.sort(key=lambda prompt: -len(prompt.tokens))
        size = self._batch_size
        return [prompts[start : start + size] for start in range(0, len(prompts), size)]

    def _sequences(self) -> list[Fed]:
        completions = {answer.item: answer.completion for answer in self.clean}
        found = []
        for prompts in self._batches():
            steps = [completions[prompt.item].steps for prompt in prompts]
            whole = [
                (*prompt.tokens, *completions[prompt.item].tokens[: count - 1])
                for prompt, count in zip(prompts, steps, strict=True)
            ]
            ids, mask = left_pad(whole, self._prepared.decoding.pad, self._model.device)
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            found.append(Fed(tuple(prompt.item for prompt in prompts), ids, mask, positions, tuple(steps)))
        return found

    @torch.inference_mode()
    def _logits(self, fed: Fed) -> list[Tensor]:
        """For each row its logits over the answer, float32 (steps, vocabulary), on the CPU."""
        output = self._model(
            input_ids=fed.ids,
            attention_mask=fed.mask,
            position_ids=fed.positions,
            use_cache=False,
            logits_to_keep=max(fed.steps),
        )
        return [row[-count:].float().cpu() for row, count in zip(output.logits, fed.steps, strict=True)]


class Effects(CleanAnswers):
    """Measures layers, each quantized alone, against the clean answers."""

    def __init__(self, loaded: ScannedModel, spec: ScanSpec, advance: _Advance = lambda count: None) -> None:
        self._loaded, self._spec = loaded, spec
        super().__init__(loaded.prepared, spec.batch_size, advance)

    def measure(self, group: str, recipe: Recipe, advance: _Advance = lambda count: None) -> LayerEffect:
        """Quantize the block ``group`` alone. ``advance(n)`` is told of every n items answered."""
        places = [place for place in self._loaded.chosen if place.group == group]
        spec = self._spec
        found = self.under(
            lambda: quantized_places(self._model, places, recipe, spec.takes_weights, spec.takes_activations), advance
        )
        lost, gained = flips(self.clean, found.answers)
        return LayerEffect(
            group=group,
            format=recipe.format.name,
            what=spec.what,
            items=len(found.answers),
            positions=self.positions,
            kl=_mean(list(found.kl.values())).to_json(),
            accuracy=_accuracy(found.answers).to_json(),
            difference=tango(lost, gained, len(found.answers)).to_json(),
            lost=lost,
            gained=gained,
            changed_answers=sum(
                one.completion.tokens != other.completion.tokens
                for one, other in zip(self.clean, found.answers, strict=True)
            ),
        )


def divergence(clean: Tensor, other: Tensor) -> Tensor:
    """Return KL(clean || other) in nats at every position, float64 (positions,), from logits (positions,
    vocabulary)."""
    p, q = (logits.double().log_softmax(-1) for logits in (clean, other))
    terms = p.exp() * (p - q)
    # 0 log 0 = 0, where a model rules a token out with minus infinity
    return torch.where(p == -math.inf, 0.0, terms).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """Return entropy in nats at every position, float64 (positions,), from logits (positions, vocabulary)."""
    p = logits.double().log_softmax(-1)
    return -torch.where(p == -math.inf, 0.0, p.exp() * p).sum(-1)


def _mean(values: Sequence[float]) -> Interval:
    """Mean over items with its BCa bounds; without bounds where something is not a number."""
    if not all(math.isfinite(value) for value in values):
        return Interval(math.nan, math.nan, math.nan)
    found = bca_mean(values, label="kl")
    return Interval(found.estimate, found.low, found.high)


def _accuracy(answers: Sequence[Answer]) -> Interval:
    return wilson(sum(answer.right for answer in answers), len(answers))


def flips(clean: Sequence[Answer], other: Sequence[Answer]) -> tuple[int, int]:
    """Return (items lost, items gained)."""
    pairs = [(one.right, two.right) for one, two in zip(clean, other, strict=True)]
    return sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
