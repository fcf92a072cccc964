"""Puts noise into a running model, and takes it out again.

A session perturbs every site of its plan while its ``with`` block is open: results in the forward pass, gradients of
operands in the backward pass, or weights. Draws are keyed by (seed, item, token position, site, feature) where
:meth:`NoiseSession.batch` names the items of a batch; otherwise by (seed, number of the forward, row, ...). The global
random number generator is never used.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.exceptions import EvidenceError, NoiseSpecError
from harness.ledger import require
from harness.noise import ways
from harness.noise.custom_ops import RESULT, SESSIONS, Operand, begin, number_sites, perturb
from harness.noise.frames import Frame, Rows, anonymous_bases, row_bases
from harness.noise.injector import Injector
from harness.noise.kernel import Kernel
from harness.noise.layout import VALUE
from harness.noise.ledger import Ledger
from harness.noise.phases import current_phase
from harness.noise.plan import InjectionPlan
from harness.noise.sites import Site
from harness.numerics.keyed_random import Keys
from harness.spec.errors import ErrorModel


@dataclass(frozen=True)
class _Named:
    """The batch that :meth:`NoiseSession.batch` names: one key per row, the seed if all rows have the same one."""

    number: int
    bases: Tensor
    seed: int | None
    level: float
    error: ErrorModel
    prompts: Tensor | None


def _lengths(prompts: Sequence[int], bases: Tensor) -> Tensor:
    """``prompts``, one for each of the sequences that ``bases`` key, int64 (batch,)."""
    lengths = torch.tensor(prompts)
    if lengths.shape != bases.shape:
        raise ValueError(f"{bases.numel()} items but {lengths.numel()} lengths of prompts")
    return lengths


FRAMES_KEPT = 256
"""Forwards whose compiled backward pass may still come; far more than any micro-batching holds back. An eager backward
pass holds the frame of its forward itself."""


class NoiseSession:
    """The injector. Use as a context manager; restores hooks, functions and attention in ``finally``; nests.

    ``plan`` names the sites (from :func:`harness.noise.planner.build_plan`). ``ledger`` holds the counts.
    ``compiled=False`` keeps the kernel to plain tensor operators; the bits are the same. With ``checked`` leaving the
    block normally raises :class:`EvidenceError` where a strength above 0 was asked for and nothing was changed.
    ``in_place`` lets the results of linears be overwritten where no gradient is taken: for callers who know that nobody
    keeps them (an auditor copies what it compares).
    """

    def __init__(
        self,
        model: nn.Module | None,
        plan: InjectionPlan,
        compiled: bool | None = None,
        *,
        checked: bool = False,
        in_place: bool = False,
    ) -> None:
        self.model = model
        self.plan = plan
        self.ledger = Ledger()
        self.is_open = False
        self.traced_token: Tensor | None = None
        self._checked = checked
        self._local = threading.local()
        self._injector = Injector(self.ledger, Kernel(compiled, in_place), plan.spec.softmax == "renormalised")
        self._exit = contextlib.ExitStack()
        self._frames: OrderedDict[int, Frame] = OrderedDict()
        self._alive: weakref.WeakValueDictionary[int, Frame] = weakref.WeakValueDictionary()
        self._forwards = itertools.count(1)
        self._batches = itertools.count(1)
        self._parts = itertools.count(1)
        self._lock = threading.Lock()
        self._sites = list(plan.sites)
        self._numbers = number_sites(plan.sites)
        self.handle = SESSIONS.add(self)

    def __enter__(self) -> NoiseSession:
        with contextlib.ExitStack() as stack:
            if self.model is not None:
                self.hook(stack, self.model.register_forward_pre_hook(self._before_forward, with_kwargs=True))
                self.hook(stack, self.model.register_forward_hook(self._after_forward, always_call=True))
            ways.attach(stack, self)
            self._exit = stack.pop_all()
        self.is_open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: Any) -> None:
        try:
            self._exit.close()
        finally:
            self.is_open = False
        if kind is None and self._checked and self.plan.spec.level:
            require(self.ledger.counts(self.plan.spec.level).values())

    def __reduce__(self) -> Any:
        raise NoiseSpecError(
            "a copy of a model inside a noise session", "its hooks belong to that one", "copy it before, or leave first"
        )

    @staticmethod
    def hook(stack: contextlib.ExitStack, handle: Any) -> None:
        """Have the hook ``handle`` removed when ``stack`` closes."""
        stack.callback(handle.remove)

    @contextlib.contextmanager
    def batch(
        self,
        items: Sequence[str],
        seeds: Sequence[int],
        scale: float,
        error: ErrorModel | None = None,
        prompts: Sequence[int] | None = None,
    ) -> Iterator[NoiseSession]:
        """Name the sequences of a batch: ``items[b]`` and ``seeds[b]`` key row b; ``scale`` is the strength (>= 0).

        ``error`` replaces the error model of the plan. ``prompts[b]`` are the tokens of row b's prompt: what a
        specification with ``tokens:`` counts from, and refuses to be without (:class:`NoiseSpecError`). Inside,
        :meth:`select` follows a batch from which finished sequences are dropped. Belongs to the calling thread.
        """
        local = self._local
        before = self._named()
        bases = row_bases(items, seeds, self.plan.spec.key)
        seed = seeds[0] if len(set(seeds)) == 1 else None
        lengths = None if prompts is None else _lengths(prompts, bases)
        local.named = _Named(next(self._batches), bases, seed, float(scale), error or self.plan.spec.error, lengths)
        try:
            yield self
        finally:
            local.named = before

    def select(self, kept: Tensor) -> None:
        """Keep the sequences with the indices ``kept`` (int64), in that order."""
        named = self._named()
        if named is None:
            raise RuntimeError("select() outside batch()")
        index = kept.to(named.bases.device)
        prompts = None if named.prompts is None else named.prompts[index]
        self._local.named = replace(named, bases=named.bases[index], prompts=prompts)

    @contextlib.contextmanager
    def narrowed(self, kept: Tensor, prompts: Sequence[int] | None = None) -> Iterator[NoiseSession]:
        """Have only the sequences with the indices ``kept`` (int64) in the forwards inside, their prompts as long as
        ``prompts`` says, where it is given; afterwards all are there again as they were."""
        before = self._named()
        self.select(kept)
        if prompts is not None:
            self._local.named = replace(self._local.named, prompts=_lengths(prompts, self._local.named.bases))
        try:
            yield self
        finally:
            self._local.named = before

    @contextlib.contextmanager
    def step(self, step: int, micro_batch: int = 0) -> Iterator[NoiseSession]:
        """Key the draws of unnamed forwards and of weight gradients by this step and micro-batch.

        Without it, the number of the forward within the session takes their place.
        """
        before = getattr(self._local, "step", None), getattr(self._local, "calls", None)
        self._local.step, self._local.calls = (step, micro_batch), itertools.count(1)
        try:
            yield self
        finally:
            self._local.step, self._local.calls = before

    @contextlib.contextmanager
    def paused(self) -> Iterator[NoiseSession]:
        """Have no noise and no counts for what this thread runs inside; directions and phases stay as they are."""
        before = self.is_paused
        self._local.paused = True
        try:
            yield self
        finally:
            self._local.paused = before

    @property
    def is_paused(self) -> bool:
        """True inside :meth:`paused`, on this thread."""
        return getattr(self._local, "paused", False)

    @contextlib.contextmanager
    def bound(self, frame: Frame) -> Iterator[None]:
        """Let recomputations inside belong to ``frame`` (see :meth:`checkpoint_contexts`)."""
        before = self._frame
        self._local.frame = frame
        try:
            yield
        finally:
            self._local.frame = before

    def checkpoint_contexts(self) -> tuple[Any, Any]:
        """Return the contexts for ``torch.utils.checkpoint(..., use_reentrant=False,
        context_fn=session.checkpoint_contexts)``.

        transformers' gradient checkpointing, of both kinds, needs no help.
        """
        return contextlib.nullcontext(), self.bound(self.frame(None))

    def _named(self) -> _Named | None:
        return getattr(self._local, "named", None)

    @property
    def _frame(self) -> Frame | None:
        return getattr(self._local, "frame", None)

    def _before_forward(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        like = kwargs.get("input_ids", args[0] if args else None)
        if like is None:
            like = kwargs.get("inputs_embeds")
        if not isinstance(like, Tensor) or like.ndim < 2:
            shape = tuple(like.shape) if isinstance(like, Tensor) else None
            raise NoiseSpecError(f"input_ids of shape {shape}", "rows are (batch, tokens)", "pass input_ids or embeds")
        cache = kwargs.get("past_key_values")
        past = 0 if cache is None else int(cache.get_seq_length())
        mask = kwargs.get("attention_mask")
        mask = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None
        if torch.compiler.is_compiling():
            self.traced_token = begin(like, mask, past, self.handle)
        elif self.is_paused:  # nothing of the batch, the phase or the number of the forward has to fit
            self._local.frame = Frame(0, torch.tensor(0), None, False, self.plan.spec.error, 0.0, False, "", ())
        else:
            # parts of the model may be compiled on their own
            self.traced_token = self.begin(like.shape, mask, past, like.device).token

    def _after_forward(self, module: nn.Module, args: Any, output: Any) -> None:
        if not torch.compiler.is_compiling():
            self._local.frame = None
            self.ledger.flush()

    def begin(self, shape: Sequence[int], mask: Tensor | None, past: int, device: torch.device) -> Frame:
        """Start a forward pass over a batch of ``shape`` (batch, tokens, ...) after ``past`` cached tokens."""
        with torch._C.DisableTorchFunction():  # a function mode must not take the arithmetic of keys for the model's
            return self._start(self._framed(shape, mask, past, device))

    def _framed(self, shape: Sequence[int], mask: Tensor | None, past: int, device: torch.device) -> Frame:
        named, spec = self._named(), self.plan.spec
        number = next(self._forwards)
        labels = (spec.seed, *(getattr(self._local, "step", None) or ("forward", number)))
        if named is None:
            bases, level, error = anonymous_bases(shape[0], labels, device), self._own_level(), spec.error
        else:
            bases, level, error = named.bases.to(device), named.level, named.error
            if bases.shape[0] != shape[0]:
                raise NoiseSpecError(
                    f"input of shape {tuple(shape)} with {bases.shape[0]} item keys", "one key per row"
                )
        rows = Rows.of(bases, mask, shape[1], past)
        if spec.tokens:
            rows = rows.within(self._prompts(named).to(device), spec.spans)
        token = torch.tensor(number)
        batch, seed = (None, spec.seed) if named is None else (named.number, named.seed)
        gate = self._gate()
        return Frame(number, token, rows, named is not None, error, level, *gate, labels, seed, batch)

    def _prompts(self, named: _Named | None) -> Tensor:
        """How many tokens the prompt of each sequence has."""
        if named is None or named.prompts is None:
            raise NoiseSpecError(
                f"noise limited to tokens:{','.join(self.plan.spec.tokens)}",
                "where the prompts end is not known in this forward",
                "wrap it in session.batch(items, seeds, scale, prompts=LENGTHS)",
            )
        return named.prompts

    def _own_level(self) -> float:
        """The strength in the specification itself."""
        if self.plan.spec.level is None:
            raise NoiseSpecError(
                f"the noise {self.plan.spec} has no strength",
                "without one it is given batch by batch",
                "write it into the specification, or wrap the forward in session.batch(items, seeds, scale)",
            )
        return self.plan.spec.level

    def _start(self, frame: Frame) -> Frame:
        self._local.frame = frame
        with self._lock:
            self._frames[frame.number] = frame
            while len(self._frames) > FRAMES_KEPT:
                self._frames.popitem(last=False)
        return frame

    def _gate(self) -> tuple[bool, str]:
        phase, wanted = current_phase(), self.plan.spec.phases
        if wanted and not phase:
            raise NoiseSpecError(
                f"noise limited to phase:{','.join(wanted)}",
                "no phase is declared",
                f"wrap the forward in harness.noise.phase({wanted[0]!r})",
            )
        return not self.is_paused and (not wanted or phase in wanted), phase

    def frame_of(self, number: int) -> Frame:
        """Return the forward with that number. Raises :class:`EvidenceError` where it is too long ago."""
        with self._lock:
            found = self._frames.get(number) or self._alive.get(number)
        if found is None:
            raise EvidenceError(
                f"forward {number} of a noise session", f"only the last {FRAMES_KEPT} are kept", "run backward sooner"
            )
        return found

    def frame(self, site: Site | None) -> Frame:
        """Return the forward that is running, or being recomputed, on this thread."""
        if self._frame is not None:
            return self._frame
        if self.model is None:
            return self._loose()
        where = "a recomputation" if torch._C._current_graph_task_id() != -1 else (site.name if site else "a site")
        raise NoiseSpecError(
            f"{where} ran outside the model's forward",
            "its rows are unknown",
            "call the model itself; checkpoint with context_fn=session.checkpoint_contexts",
        )

    def derived(self, frame: Frame, rows: Rows) -> Frame:
        """Return ``frame`` with other ``rows``, under a number of its own, which is negative."""
        number = -next(self._parts)
        return replace(frame, number=number, token=torch.tensor(number), rows=rows)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """Run one call of an operator outside any model: its result and the gradients of its operands share a frame."""
        with self.bound(self._loose()):
            yield

    def _loose(self) -> Frame:
        """The frame of the next call outside any model: it is keyed by its number, within the step if one is given."""
        spec, number = self.plan.spec, next(self._forwards)
        step = getattr(self._local, "step", None)
        labels = (spec.seed, "call", number) if step is None else (spec.seed, *step, "call", next(self._local.calls))
        token = torch.tensor(number)
        return Frame(number, token, None, False, spec.error, self._own_level(), *self._gate(), labels, spec.seed)

    def site(self, number: int) -> Site:
        """Return the site with that number."""
        return self._sites[number]

    def number(self, site: Site) -> int:
        """Return the number of ``site``; sites found while running are added."""
        with self._lock:
            if site.name not in self._numbers:
                self._numbers[site.name] = len(self._sites)
                self._sites.append(site)
            return self._numbers[site.name]

    def result(self, site: Site, y: Tensor) -> Tensor:
        """Return the result of ``site`` with forward noise, where the specification asks for it; counted in the
        ledger."""
        if not self.plan.spec.forward or not (y.is_floating_point() or y.is_complex()):
            return y
        if torch.compiler.is_compiling():
            return self._opaque(y, self.traced_token, self._numbers[site.name], RESULT)
        frame = self.frame(site)
        if not frame.active:
            return y
        if y.requires_grad and torch.is_grad_enabled():
            return self._opaque(y, self._kept(frame).token, self.number(site), RESULT)
        return self.inject(site, RESULT, y, frame)

    def portion(self, site: Site, y: Tensor, keys: Keys, real: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """Return some rows of the result of ``site`` without gradients, perturbed, and the measures that
        :meth:`note` takes; :meth:`harness.noise.injector.Injector.portion`."""
        return self._injector.portion(site, y, keys, real, frame)

    def note(self, site: Site, frame: Frame, rows: int, elements: int, sums: Sequence[Tensor]) -> None:
        """Count all portions of one call of ``site``; :meth:`harness.noise.injector.Injector.note`."""
        self._injector.note(site, frame, rows, elements, sums)

    def weight(self, site: Site, value: Tensor) -> Tensor:
        """Return the weight ``value`` of ``site``, perturbed; its gradient passes straight through to ``value``.

        Without gradients the perturbed copy is kept until the weight, its strength or its seed changes.
        """
        if torch.compiler.is_compiling():
            return self._opaque(value, self.traced_token, self._numbers[site.name], VALUE)
        frame = self.frame(site)
        if not frame.active:
            return value
        if value.requires_grad and torch.is_grad_enabled():
            return self._opaque(value, self._kept(frame).token, self.number(site), VALUE)
        return self.inject(site, VALUE, value, frame)

    def operand(self, site: Site, x: Tensor, name: str) -> Tensor:
        """Return ``x``, the operand ``name`` of ``site``, so that its gradient is perturbed, where that is asked
        for."""
        if not self.plan.spec.backward or not x.requires_grad or not torch.is_grad_enabled():
            return x
        if torch.compiler.is_compiling():
            frame, token, number = None, self.traced_token, self._numbers[site.name]
        else:
            frame = self.frame(site)
            if not frame.active:
                return x
            token, number = self._kept(frame).token, self.number(site)
        after: Tensor = Operand.apply(x, token, self.handle, number, name, frame)
        return after

    def _opaque(self, y: Tensor, token: Tensor | None, number: int, part: str) -> Tensor:
        after: Tensor = perturb(y, token, self.handle, number, part)
        return after

    def _kept(self, frame: Frame) -> Frame:
        """``frame``, to be found by its number as long as somebody holds it."""
        with self._lock:
            self._alive[frame.number] = frame
        return frame

    def inject(self, site: Site, part: str, y: Tensor, frame: Frame) -> Tensor:
        """Return ``y`` perturbed at ``site`` in ``frame``, and counted;
        :meth:`harness.noise.injector.Injector.inject`."""
        with torch._C.DisableTorchFunction():
            return self._injector.inject(site, part, y, frame)
