"""The actor's judgement of answers that were not trained on: how far validation is from the actor's own policy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import transfer_queue as tq
from verl.workers.utils.padding import response_from_nested

from harness.training.verl_plugin.apart import Apart, apart

JUDGED = ("log_probs", "rollout_log_probs", "response_mask")


def trained_apart(batch: Any) -> Apart:
    """Return how far rollout and old log-probabilities of a training ``batch`` of verl are apart."""
    data = _fetched(batch, ("old_log_probs", "rollout_log_probs", "response_mask"))
    return apart(data["rollout_log_probs"], data["old_log_probs"], data["response_mask"])


def prompts_of(batch: Any) -> set[tuple[int, ...]]:
    """Return the prompts, as token ids, that verl rendered for the answers of ``batch``."""
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["prompts"])
    return {tuple(prompt.tolist()) for prompt in data["prompts"].unbind()}


def judged(trainer: Any, batch: Any, temperature: float) -> Apart:
    """Have the actor of ``trainer`` judge the answers of ``batch``, as many as fill its micro-batches."""
    config = trainer.config.actor_rollout_ref.rollout
    multiple = trainer.actor_rollout_wg.world_size * config.log_prob_micro_batch_size_per_gpu
    number = len(batch) - len(batch) % multiple
    if not number:
        return Apart()
    told = {"calculate_entropy": False, "compute_loss": False, "temperature": temperature}
    part = type(batch)(
        keys=batch.keys[:number],
        tags=batch.tags[:number],
        partition_id=batch.partition_id,
        extra_info={**(batch.extra_info or {}), **told},
    )
    trainer.actor_rollout_wg.compute_log_prob(part)
    data = tq.kv_batch_get(keys=part.keys, partition_id=part.partition_id, select_fields=list(JUDGED))
    data["log_probs"] = response_from_nested(data["log_probs"], data["response_mask"])
    padded = data.to_padded_tensor()
    return apart(padded["rollout_log_probs"], padded["log_probs"], padded["response_mask"])


def _fetched(batch: Any, names: tuple[str, ...]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = tq.kv_batch_get(
        keys=batch.keys, partition_id=batch.partition_id, select_fields=list(names)
    ).to_padded_tensor()
    return found


@contextlib.contextmanager
def each_sampled(buffer: Any, seen: Callable[[Any], None]) -> Iterator[None]:
    """Call ``seen`` with every batch that verl takes from its replay ``buffer`` inside, before it is used."""
    sample = buffer.sample

    def looked(*args: Any, **kwargs: Any) -> Any:
        batch, told = sample(*args, **kwargs)
        seen(batch)
        return batch, told

    buffer.sample = looked
    try:
        yield
    finally:
        del buffer.sample
