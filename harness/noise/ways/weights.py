"""Perturbed weights: a module computes with a perturbed copy of its weight, and the weight itself is never written.

The copy shadows the parameter while the module runs: it is what every reader of ``module.weight`` inside the forward
sees, so the gradient with respect to the input uses it, and the gradient with respect to the weight passes straight
through to the parameter. There is nothing to restore, hence nothing to forget: without gradients, in training, under
gradient checkpointing of both kinds and after an exception the parameter has its own bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn

from harness.noise.protocol import Session
from harness.noise.sites import Site
from harness.noise.ways.shadow import shadow, shown, unshadow

FIELD = "weight"


@contextlib.contextmanager
def perturbed(model: nn.Module, sites: Sequence[Site], session: Session) -> Iterator[None]:
    """Shadow the weight of every module of ``sites`` while it runs."""
    with contextlib.ExitStack() as stack:
        for site in sites:
            module = model.get_submodule(site.module)
            session.hook(stack, module.register_forward_pre_hook(_before(site, session)))
            session.hook(stack, module.register_forward_hook(_after(site, session), always_call=True, prepend=True))
        yield


def _before(site: Site, session: Session) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any) -> None:
        field = site.field or FIELD
        shadow(module, field, session.weight(site, shown(module, field)), session.handle)

    return hook


def _after(site: Site, session: Session) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        unshadow(module, site.field or FIELD, session.handle)

    return hook
