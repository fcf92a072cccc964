"""What the auditor asks of rows beyond their relative error: do they follow the formula, and does noise repeat?"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.numerics.error_models import perturb
from harness.numerics.keyed_random import DrawKey, Keys
from harness.spec.errors import ErrorModel

Formula = Callable[[Tensor], Tensor]
SEQUENCES, TOKENS, COLUMNS = 8, 32, 1024
"""How many sequences of a batch, last tokens of them and columns are searched for noise that repeats."""

LEAST_CHANGED = 8
"""Changed elements from which on two rows with the same noise are no accident."""


def formula_of(error: ErrorModel, level: float) -> Formula | None:
    """Return what ``error`` makes of rows at ``level``, None where it draws, so that the auditor cannot know."""
    if error.random or not level:
        return None
    unread = Keys(torch.zeros(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32))
    return lambda rows: perturb(error, rows, DrawKey(unread, unread), level)


def repeated_rows(exact: Tensor, used: Tensor, real: Tensor) -> int:
    """Return how many rows got the result and the noise of an earlier one; both tensors are (batch, tokens, columns).

    ``real`` (batch, tokens) is False at padding. Equal results come of equal tokens: of the prompt that all items
    share, of one item under several seeds. Only where draws are keyed by row do they go on as different ones.
    """
    exact, used, real = (x[:SEQUENCES, -TOKENS:] for x in (exact, used, real))
    exact, used = exact[..., :COLUMNS], used[..., :COLUMNS]
    kept = real & ((exact != used).sum(-1) >= LEAST_CHANGED)
    rows = torch.cat([exact, used], -1)[kept].float()
    return len(rows) - len(torch.unique(rows, dim=0))
