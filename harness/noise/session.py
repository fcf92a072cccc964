"""Puts relative noise into a running transformers model, and takes it out again.

A session perturbs the output of every covered product while its ``with`` block is open. Draws are keyed by
(seed, item, token position, site, feature), so the session must know which item each sequence of a batch is:
:meth:`NoiseSession.batch` tells it. The global random number generator is never used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.exceptions import NoiseSpecError
from harness.noise import attention, rotary
from harness.noise.kernel import Kernel
from harness.noise.ledger import Ledger
from harness.noise.plan import InjectionPlan
from harness.noise.rows import Rows, row_bases
from harness.noise.sites import LINEAR, ROTARY, Site
from harness.numerics.keyed_random import Keys, derive_key, stream_keys


class NoiseSession:
    """The injector. Use as a context manager; restores hooks and attention in ``finally``.

    ``plan`` names the sites (from :func:`harness.noise.plan.build_plan`). Inside the block, wrap the forwards
    of one batch in :meth:`batch`. ``ledger`` holds the counts. ``compiled`` forces the kernel one way; by
    default it is compiled once that pays. Draws are the same bits either way.
    """

    def __init__(self, model: PreTrainedModel, plan: InjectionPlan, compiled: bool | None = None) -> None:
        self.model = model
        self.plan = plan
        self.ledger = Ledger()
        self._bases: Tensor | None = None
        self._scale = 0.0
        self._rows: Rows | None = None
        self._kernel = Kernel(compiled)
        self._exit = contextlib.ExitStack()
        self._device = next(model.parameters()).device
        self._columns = {
            site: stream_keys(derive_key("site", site.name), site.columns, self._device).view(1, -1)
            for site in plan.sites
            if not site.grows
        }

    def __enter__(self) -> NoiseSession:
        with contextlib.ExitStack() as stack:
            modules = dict(self.model.named_modules())
            self._hook(stack, self.model.register_forward_pre_hook(self._before_forward, with_kwargs=True))
            self._hook(stack, self.model.register_forward_hook(self._after_forward, always_call=True))
            for site in self.plan.sites:
                if site.op == LINEAR:
                    self._hook(stack, modules[site.module].register_forward_hook(self._linear_hook(site)))
                elif site.op == ROTARY:
                    stack.enter_context(rotary.perturbed(modules[site.module], site, self))
            stack.enter_context(attention.perturbed(self.model, self.plan.sites, self))
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._exit.close()

    @staticmethod
    def _hook(stack: contextlib.ExitStack, handle: Any) -> None:
        stack.callback(handle.remove)

    @contextlib.contextmanager
    def batch(self, items: Sequence[str], seeds: Sequence[int], scale: float) -> Iterator[NoiseSession]:
        """Names the sequences of a batch: ``items[b]`` and ``seeds[b]`` key row b; ``scale`` is a fraction >= 0.

        Inside, :meth:`select` follows a batch from which finished sequences are dropped.
        """
        before = self._bases, self._scale
        self._bases = row_bases(items, seeds, self.plan.spec.key).to(self._device)
        self._scale = float(scale)
        try:
            yield self
        finally:
            self._bases, self._scale = before

    def select(self, kept: Tensor) -> None:
        """Keeps the sequences with the indices ``kept`` (int64), in that order."""
        if self._bases is None:
            raise RuntimeError("select() outside batch()")
        self._bases = self._bases[kept]

    def _before_forward(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if self._bases is None:
            raise NoiseSpecError(
                "a forward pass without item keys",
                "draws are keyed by item, so that results do not depend on the batch",
                "wrap the forward in session.batch(items, seeds, scale)",
            )
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is None or ids.ndim != 2 or ids.shape[0] != self._bases.shape[0]:
            shape = None if ids is None else tuple(ids.shape)
            raise NoiseSpecError(f"input_ids of shape {shape} with {self._bases.shape[0]} item keys", "one key per row")
        cache = kwargs.get("past_key_values")
        past = 0 if cache is None else int(cache.get_seq_length())
        self._rows = Rows.of(self._bases, kwargs.get("attention_mask"), ids.shape[1], past)

    def _after_forward(self, module: nn.Module, args: Any, output: Any) -> None:
        self._rows = None
        self.ledger.flush()

    def rows(self, site: Site) -> Rows:
        """The rows of the running forward; raises where a site is called outside the model's own forward."""
        if self._rows is None:
            raise NoiseSpecError(
                f"{site.name} ran outside the model's forward", "its rows are unknown", "call the model itself"
            )
        return self._rows

    def perturb(self, site: Site, y: Tensor) -> Tensor:
        """``y`` (batch, tokens, columns) with noise; counted in the ledger. dtype, shape and device are kept."""
        rows = self.rows(site)
        if y.ndim != 3 or y.shape[0] != rows.keys.shape[0] or y.shape[2] != site.columns:
            raise NoiseSpecError(
                f"{site.name} returned shape {tuple(y.shape)}",
                f"(batch {rows.keys.shape[0]}, tokens, {site.columns}) was expected: rows cannot be told apart",
                "leave this site out",
            )
        rows = rows.last(y.shape[1])
        flat = y.reshape(-1, site.columns)
        keys = Keys.of(rows.keys).view(-1, 1)
        counted = rows.count, rows.count * site.columns
        after = self.apply(site, flat, (keys, self._columns[site]), rows.real.reshape(-1, 1), counted)
        return after.view(y.shape)

    def apply(self, site: Site, y: Tensor, keys: tuple[Keys, Keys], real: Tensor, counted: tuple[int, int]) -> Tensor:
        """Perturbs ``y`` under (row, column) ``keys`` and enters it into the ledger.

        Keys and ``real`` (bool, False where nothing is to be counted) broadcast against ``y``; ``counted`` are the
        token rows and the elements that ``real`` keeps.
        """
        scale = torch.tensor(self._scale, dtype=torch.float32, device=y.device)
        after, sums = self._kernel.perturb(y, *keys, scale, real)
        self.ledger.note(site, *counted, sums)
        return after

    def _linear_hook(self, site: Site) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            return self.perturb(site, output)

        return hook
