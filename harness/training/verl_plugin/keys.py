"""What keys a draw in training, such that actor and rollout know it both: the prompt's tokens, the token's position,
and a seed of the step.

The item of a sequence is the digest of its prompt alone, so that the samples of one prompt share their draws at equal
positions: which sample it is, a rollout engine is not told.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from harness.integrations.vllm_plugin.rows import prompt_item
from harness.numerics.keyed_random import derive_key
from harness.training.injection import ACTOR, INDEPENDENT, ROLLOUT

BOTH = "both"


def draw_seed(seed: int, step: int, side: str, draws: str) -> int:
    """Return the noise seed (0 to 2**63 - 1) of ``side`` at ``step``: one for both sides, except for independent draws.

    ``side`` is rollout or actor, ``draws`` as in :class:`harness.training.injection.NoisePart`.
    """
    assert side in (ROLLOUT, ACTOR)
    return derive_key("training noise", seed, step, side if draws == INDEPENDENT else BOTH) & ((1 << 63) - 1)


def items_of(sequences: Sequence[Tensor], answers: Sequence[int]) -> list[str]:
    """Return the item of each sequence, int64 (tokens,), unpadded, whose last ``answers`` tokens are no prompt."""
    found: dict[tuple[int, ...], str] = {}
    items = []
    for tokens, length in zip(sequences, answers, strict=True):
        prompt = tuple(tokens.tolist()[: len(tokens) - length])
        if prompt not in found:
            found[prompt] = prompt_item(prompt)
        items.append(found[prompt])
    return items
