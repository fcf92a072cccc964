"""An independent count inside an engine process: products and what became of them, seen at PyTorch's dispatcher.

Shares nothing with the session: it recognizes products by their operators (vLLM's own among them), finds out by their
memory which of them the perturbing operator was given, measures what that changed, and holds the draws against those
of the requests' items, seeds and positions. It sees compiled code too, because that calls the same operators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness.integrations.vllm_plugin.rows import Request
from harness.noise.audit.auditor import PRODUCTS
from harness.noise.audit.draw_checks import check_draws
from harness.noise.audit.draws import Draws
from harness.record import DECODE, PREFILL
from harness.spec import ErrorModel
from harness.spec.tokens import Span, in_spans

OWN_PRODUCTS = ("onednn_mm", "onednn_scaled_mm", "weight_packed_linear", "cpu_gemm_wna16", "cutlass_scaled_mm")
"""Further products, which vLLM has operators of its own for."""

PERTURB = "perturb"


@dataclass(frozen=True)
class Piece:
    """The columns ``start`` to ``stop`` of a product that belong to ``site``; ``head`` where it makes logits."""

    site: str
    start: int
    stop: int
    head: bool


@dataclass(frozen=True)
class Looked:
    """What the noise must be in the audited forwards: ``error`` at ``level``; ``lot`` seeds what is looked at, and
    ``spans`` are the steps to which it is limited (:mod:`harness.spec.tokens`; none: it is not)."""

    level: float
    error: ErrorModel
    shared: bool
    lot: int
    spans: tuple[Span, ...] = ()

    def picked(self, steps: Sequence[int]) -> Tensor | None:
        """Return bool, True in the rows of selected ``steps``; None where all are."""
        return torch.tensor([in_spans(step, self.spans) for step in steps]) if self.spans else None

    def draws(self, sites: Iterable[str]) -> Draws:
        """Return what collects the draws of ``sites``."""
        return Draws(self.error, self.level, sites, self.shared, self.lot)


@dataclass
class Seen:
    """What was counted in the forwards of one phase.

    ``products`` counts calls; ``matched`` the calls of the perturbing operator whose input was the result of the
    product just before, and ``rows`` their rows; for those ``squared`` adds up ((out - in) / in)^2 over ``nonzero``
    elements of the columns that the plan names, ``changed`` those of them that differ, and ``strays`` elements of
    other columns that do. ``selected`` counts the rows to which the noise is limited; others are stray.
    """

    forwards: int = 0
    products: int = 0
    matched: int = 0
    rows: int = 0
    selected: int = 0
    squared: float = 0.0
    nonzero: int = 0
    changed: int = 0
    strays: int = 0


class EngineAuditor(TorchDispatchMode):
    """Counts inside a ``with`` block, on the thread that entered it, prefill and decode apart.

    ``pieces`` says what the operator with some number perturbs (None: no product), ``sites`` are all sites of the plan.
    :meth:`begin` names the rows of each forward.
    """

    def __init__(
        self, handle: int, pieces: Callable[[int], Sequence[Piece] | None], sites: Sequence[str], looked: Looked
    ) -> None:
        super().__init__()
        self.seen = {phase: Seen() for phase in (PREFILL, DECODE)}
        self._handle, self._pieces, self._looked = handle, pieces, looked
        self._picked: dict[bool, Tensor | None] = {False: None, True: None}
        self._draws = {(phase, head): looked.draws(sites) for phase in self.seen for head in (False, True)}
        self._phase = PREFILL
        self._step = 0
        self._last: tuple[int, Tensor] | None = None

    def begin(self, scheduled: Sequence[tuple[str, Request, int, int, int]]) -> None:
        """Start a forward over (name, request, computed, tokens, prompt tokens), in the order of its rows.

        It belongs to the prefill as soon as one request is fed tokens of its prompt.
        """
        prefill = any(computed < prompt for _, _, computed, _, prompt in scheduled)
        self._phase = PREFILL if prefill else DECODE
        self.seen[self._phase].forwards += 1
        self._step += 1
        owners = [(request.item, request.seed) for _, request, _, _, _ in scheduled]
        rows = [(owner, computed, tokens) for owner, (_, _, computed, tokens, _) in zip(owners, scheduled, strict=True)]
        body = [(owner, position + 1) for owner, first, tokens in rows for position in range(first, first + tokens)]
        head = [(owner, computed + tokens) for owner, computed, tokens in rows]
        before_first = [request.context if request.scored else prompt for _, request, _, _, prompt in scheduled]
        ends = [computed + tokens for _, _, computed, tokens, _ in scheduled]
        steps = [
            position + 1 - before
            for before, (_, _, computed, tokens, _) in zip(before_first, scheduled, strict=True)
            for position in range(computed, computed + tokens)
        ]
        self._picked = {
            False: self._looked.picked(steps),
            True: self._looked.picked([end - before for end, before in zip(ends, before_first, strict=True)]),
        }
        for is_head, found in ((False, body), (True, head)):
            self._draws[self._phase, is_head].begin(
                self._step, [owner for owner, _ in found], [length for _, length in found]
            )

    def scoring(self, request: Request, start: int, count: int) -> None:
        """Take the head's next rows for those that score the prompt of ``request``: positions ``start`` on, ``count``
        of them."""
        lengths = list(range(start + 1, start + count + 1))
        self._picked[True] = self._looked.picked([length - request.context for length in lengths])
        self._draws[self._phase, True].begin(self._step, [(request.item, request.seed)] * count, lengths)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in OWN_PRODUCTS or name in PRODUCTS:
            given = result if isinstance(result, Tensor) else args[0]
            self.seen[self._phase].products += 1
            self._last = given.data_ptr(), given
        elif name == PERTURB and args[2] == self._handle:
            self._perturbed(args[0], result, self._pieces(args[3]))
        return result

    def _perturbed(self, before: Tensor, after: Tensor, pieces: Sequence[Piece] | None) -> None:
        # compiled code puts other results, such as a quantized input, into the memory of a product that it has used
        if pieces is None or self._last is None or before.data_ptr() != self._last[0]:
            return
        seen = self.seen[self._phase]
        seen.matched += 1
        seen.rows += before.numel() // max(1, before.shape[-1])
        mask = self._mask(before, pieces)
        seen.selected += int(mask.sum())
        wide = before.double()
        error = after.double() - wide
        differ = (after != before) & ~(after.isnan() & before.isnan())  # a fault elsewhere may leave NaN here
        different = int(differ.sum())
        for piece in pieces:
            columns = slice(piece.start, piece.stop)
            own, wrong = wide[mask][..., columns], error[mask][..., columns]
            kept = own != 0
            seen.nonzero += int(kept.sum())
            seen.squared += float(((wrong / torch.where(kept, own, 1.0)) ** 2)[kept].sum())
            changed = int(differ[mask][..., columns].sum())
            seen.changed += changed
            different -= changed
            if before.ndim == 2:
                exact, used = before[:, None, columns], after[:, None, columns]
                self._draws[self._phase, piece.head].look(piece.site, exact, used, mask[:, None])
        seen.strays += different

    def _mask(self, rows: Tensor, pieces: Sequence[Piece]) -> Tensor:
        """Which of ``rows`` the noise may change, bool; all where it is not limited."""
        picked = self._picked[any(piece.head for piece in pieces)]
        if picked is None or len(picked) != len(rows):
            return torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        return picked.to(rows.device)

    def report(self) -> dict[str, Any]:
        """Return what was seen in each phase, as plain values, and what its draws are wrong in."""
        return {
            phase: asdict(seen)
            | {"draws": [words for head in (False, True) for words in check_draws(self._draws[phase, head])]}
            for phase, seen in self.seen.items()
        }
