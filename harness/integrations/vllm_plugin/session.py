"""The noise session of one engine process: perturbs what the layers compute, row by row as the requests ask.

Shares kernel, keys and ledger with :class:`harness.noise.session.NoiseSession`, so that an element gets the same draw
in both engines. Imports no vLLM.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.exceptions import EvidenceError
from harness.integrations.vllm_plugin.auditor import Piece
from harness.integrations.vllm_plugin.payload import Payload, site_number
from harness.integrations.vllm_plugin.rows import (
    ON,
    Bases,
    Group,
    Request,
    Scheduled,
    Scoring,
    Step,
    build_step,
    scored_rows,
)
from harness.noise.custom_ops import RESULT, SESSIONS, perturb
from harness.noise.frames import Frame
from harness.noise.injector import Injector
from harness.noise.kernel import Kernel
from harness.noise.layout import VALUE
from harness.noise.ledger import Ledger
from harness.noise.sites import CONV1D, LINEAR, Site
from harness.record import QUANTIZER, SiteCount
from harness.runs.quantized import quantized_op
from harness.spec import NoiseSpec


@dataclass(frozen=True)
class Slice:
    """The columns ``start`` to ``stop`` of a layer's result that belong to ``site``."""

    site: Site
    start: int
    stop: int


@dataclass(frozen=True)
class Product:
    """What one call of the operator perturbs: the result (or input) of a layer, which may hold several sites' columns.

    ``name`` identifies it in every process. ``shared`` slices are the same columns for several sites: the input of
    a fused layer, perturbed once and booked for each. ``quantizer`` is the number of the quantization it belongs to.
    """

    name: str
    slices: tuple[Slice, ...]
    head: bool = False
    shared: bool = False
    quantizer: int | None = None


@dataclass(frozen=True)
class Work:
    """Forward passes, and the rows in them that layers and head computed without counting (see :class:`Step`)."""

    forwards: int = 0
    body: int = 0
    head: int = 0
    scored: int = 0
    """Calls of the head beside the one of each forward: one for each prompt that is scored."""


class EngineSession:
    """Perturbs and counts inside an engine process, as soon as :meth:`open` was called and a step was begun.

    Before that (while the engine measures its memory and compiles) its operators return what they are given.
    """

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self.handle = payload.handle
        self.is_open = False
        self.products: dict[str, Product] = {}
        self.work = Work()
        self.default: Request | None = None
        self._numbers: dict[int, Product] = {}
        self._step: Step | None = None
        self._scheduled: dict[str, Scheduled] = {}
        self._scored: Scoring | None = None
        self._device: torch.device | str = "cpu"
        self._bases = Bases(payload.noise.key)
        self._fed: dict[str, int] = {}
        self._ledgers: dict[tuple[int | None, float], Ledger] = {}
        self._injectors: dict[tuple[int | None, float], Injector] = {}
        self._kernel = Kernel()
        self._weights: list[tuple[int, Site, SiteCount]] = []
        self._problems: list[str] = []
        self._taken: dict[str, int] = {}

    def open(self) -> None:
        """Start perturbing. Raises :class:`EvidenceError` where another engine of this process has this handle."""
        other = SESSIONS.get(self.handle)
        if other is not None and other is not self:
            raise EvidenceError("two engines in one process", "their operators would be mixed up", "close the first")
        SESSIONS.put(self.handle, self)
        self.is_open = True

    def close(self) -> None:
        """Stop perturbing."""
        self.is_open = False
        self._step = None

    def next_name(self, op: str) -> str | None:
        """Return the module that the next layer of ``op`` is, in the order in which transformers has them."""
        taken = self._taken.get(op, 0)
        self._taken[op] = taken + 1
        names = self.payload.order.get(op, ())
        return names[taken] if taken < len(names) else None

    def pieces(self, number: int) -> tuple[Piece, ...] | None:
        """Return the columns that the operator with that number perturbs, and whose they are; None where it is not the
        noise on a product."""
        found = self._numbers.get(number)
        if found is None:
            return ()
        if found.quantizer is not None or not _multiplies(found):
            return None
        return tuple(Piece(piece.site.name, piece.start, piece.stop, found.head) for piece in found.slices)

    def register(self, product: Product) -> int:
        """Return the number that names ``product`` in the operator's arguments; called while the model is built."""
        number = site_number(product.name)
        other = self._numbers.get(number)
        if other is not None and other.name != product.name:
            raise EvidenceError(f"{product.name} and {other.name}", "they have the same number", "rename a module")
        self.products[product.name] = product
        self._numbers[number] = product
        return number

    def site(self, number: int) -> Product:
        """Return what the operator with that number perturbs: nothing, where compiled code names what was never built
        here."""
        found = self._numbers.get(number)
        if found is None:
            self._note("compiled code names an operator that this process did not build: a stale compile cache")
            return Product("", ())
        return found

    def _note(self, problem: str) -> None:
        """Keeps ``problem`` for :meth:`troubles`: an exception here would only kill the engine, unexplained."""
        if problem not in self._problems:
            self._problems.append(problem)

    def troubles(self) -> list[str]:
        """Return what went wrong since the last call; each makes the run INVALID."""
        found, self._problems = self._problems, []
        return found

    def frame_of(self, token: int) -> Step | None:
        """Return the forward that runs now. Engines run one at a time, so ``token`` says nothing."""
        return self._step

    def begin(self, scheduled: Sequence[tuple[str, Request, int, int, int]], device: torch.device | str) -> None:
        """Start a forward over (name, request, computed, tokens, prompt tokens), in the order of its rows."""
        self.flush()
        rows = [
            Scheduled(request, computed, tokens, prompt, self._fed.get(name, 0))
            for name, request, computed, tokens, prompt in scheduled
        ]
        self._step = build_step(rows, self.payload.noise.error, self._bases, device, self.payload.noise.spans)
        self._scheduled, self._device = dict(zip((each[0] for each in scheduled), rows, strict=True)), device
        body, head = self._step.uncounted
        done = self.work
        self.work = replace(done, forwards=done.forwards + 1, body=done.body + body, head=done.head + head)
        for name, _, computed, tokens, _ in scheduled:
            self._fed[name] = max(self._fed.get(name, 0), computed + tokens)

    def request(self, name: str) -> Request:
        """Return what request ``name`` of the running forward asks for."""
        return self._scheduled[name].request

    @contextlib.contextmanager
    def scoring(self, name: str, count: int) -> Iterator[None]:
        """Let the head compute the logits that score the first ``count`` tokens of request ``name`` in this forward."""
        found = self._scheduled.get(name)
        if found is None or self._step is None:
            self._note(f"logits of prompt {name} were computed outside its forward")
            yield
            return
        noise = self.payload.noise
        self._scored = scored_rows(found, count, noise.error, self._bases, self._device, noise.spans)
        done = self.work
        self.work = replace(done, scored=done.scored + 1, head=done.head + self._scored.uncounted)
        try:
            yield
        finally:
            self._scored = None

    def end(self) -> None:
        """Take note that no forward runs: what is computed now belongs to no request."""
        self._step = None

    def forget(self, alive: Sequence[str]) -> None:
        """Drop what is known of all requests but ``alive``."""
        self._fed = {name: fed for name, fed in self._fed.items() if name in set(alive)}

    def inject(self, product: Product, part: str, y: Tensor, step: Step | None) -> Tensor:
        """Return ``y`` (rows, columns) with the noise that each row's request asks for, counted by level."""
        if step is None or y.numel() == 0 or not product.slices:
            return y
        # a row is a token, also where a layer sees its heads apart: (tokens, heads, width)
        flat = y.reshape(y.shape[0], -1)
        quantizing = product.quantizer is not None
        wanted: int = step.rows(product.head)
        groups: Sequence[Group] = step.groups(product.head, quantizing)
        scored = self._scored if product.head else None
        if scored is not None:
            wanted, groups = scored.count, (scored.every if quantizing else scored.noisy,)
        if flat.shape[0] != wanted:
            self._note(
                f"{product.name} computed {flat.shape[0]} rows in a forward of {wanted}, so that they"
                " cannot be told apart"
            )
            return y
        pieces = product.slices[:1] if product.shared else product.slices
        whole = sum(piece.stop - piece.start for piece in pieces) == flat.shape[1]
        if len(groups) == 1 and groups[0].indices is None and len(pieces) == 1 and whole:
            return self._apply(product, pieces[0], flat, groups[0]).reshape(y.shape)
        whole = whole and scored is None and step.whole(product.head, quantizing)
        after = torch.empty_like(flat) if whole else flat.clone()
        for piece in pieces:
            columns = flat[:, piece.start : piece.stop]
            for group in groups:
                if group.indices is None:
                    after[:, piece.start : piece.stop] = self._apply(product, piece, columns, group)
                else:
                    after[group.indices, piece.start : piece.stop] = self._apply(
                        product, piece, columns[group.indices], group
                    )
        return after.reshape(y.shape)

    def _apply(self, product: Product, piece: Slice, y: Tensor, group: Group) -> Tensor:
        """One group of rows. Sites that share an input quantize the same numbers, and each books its own."""
        injector = self._injector(product.quantizer, group.level)
        frame = group.frame
        if product.quantizer is not None:
            frame = replace(frame, error=self._quantization(product.quantizer).error, level=ON)
        if product.shared:
            for other in product.slices[1:]:
                injector.inject(other.site, "", y, frame)
        return injector.inject(piece.site, "", y, frame)

    def _injector(self, quantizer: int | None, level: float) -> Injector:
        wanted = quantizer, level
        if wanted not in self._injectors:
            self._ledgers[wanted] = Ledger()
            self._injectors[wanted] = Injector(self._ledgers[wanted], self._kernel)
        return self._injectors[wanted]

    def _quantization(self, number: int) -> NoiseSpec:
        return self.payload.quantizers[number][0]

    def quantize_weight(self, number: int, site: Site, weight: Tensor) -> Tensor:
        """Return ``weight`` (out, in) of ``site`` under quantization ``number``; measured whenever weights are
        loaded."""
        ledger = Ledger()
        error = self._quantization(number).error
        frame = Frame(0, torch.tensor(0), None, True, error, ON, True, "", (), 0)
        after = Injector(ledger, self._kernel).inject(site, VALUE, weight.detach(), frame)
        self._weights += [(number, site, count) for count in ledger.drain(ON).values()]
        return after

    def forget_weights(self) -> None:
        """Forget what was measured on weights that are about to be overwritten: only those quantized anew count."""
        self._weights.clear()

    def flush(self) -> None:
        """Add up what the last forward counted."""
        for ledger in self._ledgers.values():
            ledger.flush()

    def drain(self, levels: Sequence[float]) -> list[SiteCount]:
        """Return everything counted since the last call, by level; the quantized weights once for each of
        ``levels``."""
        counts: list[SiteCount] = []
        for (quantizer, level), ledger in self._ledgers.items():
            for count in ledger.drain(level).values():
                counts.append(count if quantizer is None else self._quantized(count, quantizer))
        for number, _, count in self._weights:
            counts += [replace(self._quantized(count, number), level=level) for level in levels]
        return counts

    def _quantized(self, count: SiteCount, number: int) -> SiteCount:
        return replace(count, op=quantized_op(count.op, self._quantization(number).at), kind=QUANTIZER)

    def take_work(self) -> Work:
        """Return what was done since the last call."""
        done, self.work = self.work, Work()
        return done

    def linears(self, head: bool) -> list[str]:
        """Return one site of every linear layer whose result is perturbed: the output head, or all others."""
        found = [product for product in self.products.values() if product.quantizer is None]
        return [product.slices[0].site.name for product in found if product.head is head and _multiplies(product)]

    def missing(self) -> list[str]:
        """Return sites of the payload that no layer of this engine perturbs."""
        found = {piece.site.name for product in self.products.values() for piece in product.slices}
        found |= {site.name for _, site, _ in self._weights}
        return [site.name for sites in self._asked().values() for site in sites if site.name not in found]

    def _asked(self) -> Mapping[int | None, Sequence[Site]]:
        return {None: self.payload.sites} | {number: sites for number, (_, sites) in enumerate(self.payload.quantizers)}


def operated(y: Tensor, session: EngineSession, number: int) -> Tensor:
    """Return ``y`` through the one opaque operator, at the product with that number.

    The operator wants a tensor that names the forward; an engine runs one at a time.
    """
    token = torch.zeros((), dtype=torch.int64, device="cpu")
    noisy: Tensor = perturb(y, token, session.handle, number, RESULT)
    return noisy


def _multiplies(product: Product) -> bool:
    return all(piece.site.op in (LINEAR, CONV1D) for piece in product.slices)
