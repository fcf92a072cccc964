"""Keyed sampling inside vLLM: a logits processor that leaves one token, the one that :mod:`harness.numerics.gumbel`
draws.

vLLM itself is greedy then, and reports the logit that the model gave (``logprobs_mode="raw_logits"``), because it takes
that before any processor. The step of an answer is the length of vLLM's own list of its tokens, which a preemption
keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from harness.integrations.vllm_plugin.payload import KEY
from harness.integrations.vllm_plugin.rows import request_of
from harness.numerics.gumbel import answer_streams, drawn_tokens, step_keys, token_keys
from harness.numerics.keyed_random import Keys
from harness.spec.sampling import Sampling


@dataclass(frozen=True)
class Answer:
    """One request: the stream of its draws, how they are drawn, and vLLM's list of the tokens it has so far."""

    stream: int
    sampling: Sampling
    tokens: list[int]


class KeyedSampler(LogitsProcessor):
    """Replaces the logits of every request that asks for sampling by 0 at the drawn token and minus infinity
    elsewhere."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self._answers: dict[int, Answer] = {}
        self._tokens: Keys | None = None

    def is_argmax_invariant(self) -> bool:
        """Return False: greedy decoding takes what this leaves."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Take note of the requests that came, went, or moved to another row."""
        process_dict_updates(self._answers, batch_update, answer_of)

    def apply(self, logits: Tensor) -> Tensor:
        """Return ``logits`` (rows, tokens), changed in place."""
        if self._tokens is None and self._answers:
            self._tokens = token_keys(logits.shape[-1], logits.device)
        for sampling in {answer.sampling for answer in self._answers.values()}:
            rows = [row for row, answer in self._answers.items() if answer.sampling == sampling]
            answers = [self._answers[row] for row in rows]
            streams, steps = (
                torch.tensor(numbers, device=logits.device)
                for numbers in ([answer.stream for answer in answers], [len(answer.tokens) for answer in answers])
            )
            keys, place = step_keys(streams, steps), torch.tensor(rows, device=logits.device)
            assert self._tokens is not None
            drawn = drawn_tokens(logits[place], keys, self._tokens, sampling.temperature, sampling.top_p)
            logits[place] = -torch.inf
            logits[place, drawn] = 0.0
        return logits


def answer_of(parameters: Any, prompt: list[int] | None, tokens: list[int]) -> Answer | None:
    """Return what a new request asks for, None where its tokens are not to be drawn."""
    arguments = parameters.extra_args
    given = ((arguments or {}).get(KEY) or {}).get("sampling")
    if given is None:
        return None
    request = request_of(arguments, KEY, "", prompt or ())
    return Answer(int(answer_streams([request.item], [request.seed])[0]), Sampling(*given), tokens)
