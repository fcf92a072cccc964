"""Noise on the rotary embedding's angle product. Reached only by ``op:rotary``: alone it destroys a model."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.exceptions import NoiseSpecError
from harness.noise.protocol import Session
from harness.noise.sites import Site, angle_name
from harness.noise.ways.wrapping import wrapped

_PRODUCTS = (torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.bmm)


class _AngleMode(TorchFunctionMode):
    """Perturbs (batch, frequencies, tokens) products while the rotary module runs."""

    def __init__(self, site: Site, session: Session) -> None:
        super().__init__()
        self._site = site
        self._session = session

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _PRODUCTS:
            if result.ndim != 3:
                raise NoiseSpecError(
                    f"op:rotary at {self._site.name}",
                    f"its angles have shape {tuple(result.shape)}: positions of several kinds are not supported",
                    "leave op:rotary out",
                )
            angles = result.transpose(1, 2)
            rows = self._session.frame(self._site).rows
            # positions that all sequences share come as a batch of one; their noise differs
            batch = angles.shape[0] if rows is None else rows.keys.shape[0]
            return self._session.result(self._site, angles.expand(batch, -1, -1)).transpose(1, 2)
        return result


@contextlib.contextmanager
def perturbed(model: nn.Module, sites: Sequence[Site], session: Session) -> Iterator[None]:
    """Wrap the forward of every rotary module of ``sites`` so that its matrix product is perturbed."""
    by_name = {site.name: site for site in sites}
    with contextlib.ExitStack() as stack:
        for path in dict.fromkeys(site.module for site in sites):
            around = functools.partial(_run, session, path, by_name)
            stack.enter_context(wrapped(model.get_submodule(path), around))
        yield


def _run(
    session: Session, path: str, sites: Mapping[str, Site], module: nn.Module, original: Any, args: Any, kwargs: Any
) -> Any:
    kind = kwargs.get("layer_type", args[2] if len(args) > 2 else None)
    site = sites.get(angle_name(path, kind if isinstance(kind, str) else ""))
    with contextlib.nullcontext() if site is None else _AngleMode(site, session):
        return original(*args, **kwargs)
