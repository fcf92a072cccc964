"""Small modules whose clean results are known without running anything else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from harness.noise import NoiseSession, build_plan
from harness.spec import parse_noise

WIDTH, HEADS = 8, 2


class _Attention(nn.Module):
    """Products of ones, called as functions, in a module that looks like an attention block."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_idx, self.head_dim = 0, WIDTH // HEADS
        self.config = SimpleNamespace(num_attention_heads=HEADS)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (all 1) and results (all 1), for (batch, heads, tokens, dim)."""
        batch, tokens, _ = hidden.shape
        query = torch.full((batch, HEADS, tokens, self.head_dim), 1 / self.head_dim)
        value = torch.full((batch, HEADS, tokens, self.head_dim), 1 / tokens)
        return query @ torch.ones(batch, HEADS, self.head_dim, tokens), torch.ones(batch, HEADS, tokens, tokens) @ value


class Ones(nn.Module):
    """Every operator gives exactly 1, so that under noise ``(y - 1) / scale`` is its draw."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.attention = _Attention()
        for linear in (self.first, self.second):
            nn.init.zeros_(linear.weight)
            nn.init.ones_(linear.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, use_cache: Any = None) -> Any:
        """The results by name."""
        hidden = torch.zeros(*input_ids.shape, WIDTH)
        scores, results = self.attention(hidden)
        return {"first": self.first(hidden), "second": self.second(hidden), "qk": scores, "pv": results}


def draws(items: tuple[str, ...], seed: int = 0, mask: Tensor | None = None, tokens: int = 4) -> dict[str, Tensor]:
    """The draws of every operator of :class:`Ones` for the sequences ``items``."""
    model = Ones()
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear,matmul"), "functions")
    ids = torch.ones(len(items), tokens, dtype=torch.long)
    given = {} if mask is None else {"attention_mask": mask}
    with (
        torch.no_grad(),
        NoiseSession(model, plan, compiled=False) as session,
        session.batch(items, [seed] * len(items), 0.5),
    ):
        return {name: (y - 1) / 0.5 for name, y in model(input_ids=ids, **given).items()}


class Output:
    """What transformers' models return, as far as it is used here."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


class ByHand(nn.Module):
    """Two blocks, each recomputed by torch's own checkpoint where ``kind`` says so."""

    def __init__(self, kind: str = "", session: NoiseSession | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embedding = nn.Embedding(16, WIDTH)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU()) for _ in range(2))
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)
        self.kind = kind
        self.session = session

    def forward(self, input_ids: Tensor, use_cache: Any = None) -> Any:
        """An output with ``logits``, as transformers has it."""
        hidden = self.embedding(input_ids)
        for block in self.blocks:
            if not self.kind or self.session is None:
                hidden = block(hidden)
            elif self.kind == "bound":
                contexts = self.session.checkpoint_contexts
                hidden = checkpoint(block, hidden, use_reentrant=False, context_fn=contexts)
            else:
                hidden = checkpoint(block, hidden, use_reentrant=self.kind == "reentrant")
        return Output(hidden)
