"""The ways into a model, behind one protocol: each takes the sites that are its own and attaches the session to them.

A way is a context manager over (model, sites, session). While it is open, it hands results of its sites to
``session.result``, their operands to ``session.operand`` or their weights to ``session.weight``; on leaving, also by
an exception, everything is as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from harness.noise.protocol import Session
from harness.noise.sites import ANGLE, ATTENTION, EXPERTS, FUNCTION, MODULE, WEIGHT, Site
from harness.noise.ways import attention, checkpointing, experts, functions, modules, rotary, weights

WayIn = Callable[[Any, Sequence[Site], Session], AbstractContextManager[None]]

_WAYS: tuple[tuple[str, WayIn], ...] = (
    (WEIGHT, weights.perturbed),
    (MODULE, modules.perturbed),
    (ATTENTION, attention.perturbed),
    (ANGLE, rotary.perturbed),
    (EXPERTS, experts.perturbed),
    (FUNCTION, functions.perturbed),
)


def attach(stack: contextlib.ExitStack, session: Session) -> None:
    """Open every way that the plan of ``session`` has sites for, on ``stack``."""
    plan, model = session.plan, session.model
    if isinstance(model, nn.Module):
        stack.enter_context(checkpointing.bound(model, session))
    for name, way in _WAYS:
        sites = [site for site in plan.sites if site.way == name]
        if sites or (name == FUNCTION and plan.functions):
            stack.enter_context(way(model, sites, session))
