"""The order in which a run sees its training items, known before it starts: verl's own sampler under the run's seed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice

from harness.exceptions import HarnessError
from harness.installed import full_setup
from harness.training.recipe import Recipe

_DIGITS = 16


def planned_order(recipe: Recipe) -> tuple[int, ...]:
    """Return the rows of the training file in the order in which the run draws them, for all of its planned steps.

    Dynamic sampling draws on where it drops groups, in this same order. Raises :class:`HarnessError` where the sampler
    is not installed.
    """
    return tuple(islice(_rows(recipe.data.train_items, recipe.run.seed), recipe.drawn_prompts * recipe.total_steps))


def order_hash(recipe: Recipe) -> str:
    """Return 16 hex digits of :func:`planned_order`: equal for arms that share a seed, distinct between seeds."""
    text = ",".join(map(str, planned_order(recipe)))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _rows(items: int, seed: int) -> Iterator[int]:
    """Yield row numbers epoch after epoch, as ``verl.trainer.ppo.utils.create_rl_sampler`` does with shuffling on."""
    try:
        import torch
        from torchdata.stateful_dataloader.sampler import RandomSampler
    except ImportError:
        raise HarnessError("torchdata", "verl's sampler is not installed here", full_setup()) from None
    generator = torch.Generator()
    generator.manual_seed(seed)
    sampler = RandomSampler(data_source=range(items), generator=generator)
    while True:
        yield from sampler
