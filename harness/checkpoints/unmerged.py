"""Runs a LoRA adapter beside its base: each adapted linear stays the module it was, at the path it had.

An adapted linear computes W x in its own forward, and its caller gets W x + scaling * B A x. So the sites of noise,
their names and with them every draw are those of the base, as are the counts and what the auditor compares: noise and
quantization act on W and W x, and the two products of the adapter (``lora_A``, ``lora_B`` below it) stay exact.
The adapter reads the input of the linear before anything quantizes it. Merged, the same noise acts on (W + BA) x: what
differs is noise of relative size ``scale`` on the adapter's part, and the rounding of the merge.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from harness.checkpoints.lora import Update, read_config, read_updates
from harness.exceptions import CheckpointError


class Factor(nn.Module):
    """A of an update. No ``nn.Linear``: it is not what a specification means by a linear."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., in) to (..., rank), in the dtype of the adapter."""
        return nn.functional.linear(x.to(self.weight.dtype), self.weight)


class ScaledFactor(Factor):
    """B of an update, with its scaling and its addition: they are not operators of the module around the linear."""

    def __init__(self, weight: Tensor, scaling: float) -> None:
        super().__init__(weight)
        self.scaling = scaling

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:  # type: ignore[override]
        """Return ``onto`` (..., out) plus scaling * B ``x``, in the dtype of ``onto``, as peft adds it."""
        return (onto + super().forward(x) * self.scaling).to(onto.dtype)


class Adapted(nn.Module):
    """Mixed into the class of a linear; its hooks, the noise among them, see the linear without the adapter."""

    lora_A: Factor
    lora_B: ScaledFactor

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The linear's result, plus the update of ``x``."""
        result: Tensor = self.lora_B(self.lora_A(x), super().__call__(x, *args, **kwargs))
        return result


class AdaptedLinear(Adapted, nn.Linear):
    """``nn.Linear`` with an adapter beside it."""


class AdaptedConv1D(Adapted, Conv1D):
    """GPT-2's linear with an adapter beside it."""


_ADAPTED = MappingProxyType({nn.Linear: AdaptedLinear, Conv1D: AdaptedConv1D})


def attach(model: nn.Module, adapter: Path) -> None:
    """Put the adapter in the folder ``adapter`` beside the linears of ``model``, for good.

    Raises :class:`CheckpointError` where it is not a plain LoRA adapter, or adapts what is not a linear of the model.
    """
    modules = dict(model.named_modules())
    for path, update in read_updates(adapter, read_config(adapter)).items():
        module = modules.get(path)
        if type(module) not in _ADAPTED:
            raise CheckpointError(
                f"adapter {adapter}",
                f"{path} is no plain linear of the model ({type(module).__name__})",
                "merge it: --adapter merged",
            )
        assert module is not None
        _adapt(module, update)


def _adapt(module: Any, update: Update) -> None:
    module.__class__ = _ADAPTED[type(module)]
    device = module.weight.device
    module.lora_A, module.lora_B = Factor(update.a.to(device)), ScaledFactor(update.b.to(device), update.scaling)
    module.train(module.training)
