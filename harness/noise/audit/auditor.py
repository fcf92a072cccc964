"""An independent count of the matrix products that really run, and of the error their modules gave.

It shares nothing with the injector: products are seen at PyTorch's dispatcher, below every Python spelling
(``@``, ``torch.matmul``, ``mm``, ``F.linear``, ``addmm``, einsum, ``scaled_dot_product_attention``), and
attributed by ``torch.utils.module_tracker``. Eager mode only: over compiled code a dispatch mode sees nothing.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.hooks import RemovableHandle

from harness.noise.audit.comparing import Formula, repeated_rows
from harness.noise.audit.draws import Draws
from harness.noise.audit.experts import ExpertsWatch
from harness.noise.audit.interface import AttentionCall, attention_watched
from harness.noise.audit.selecting import Selected
from harness.noise.audit.watching import ModuleWatcher
from harness.noise.kinds import operator_of
from harness.noise.sites import CONV1D, LINEAR, PV, QK, SDPA, is_attention
from harness.noise.sites import SOFTMAX as SOFTMAX_SITE

PRODUCTS = {
    *(
        "linear",
        "_linear",
        "mkldnn_linear",
        "matmul",
        "mm",
        "addmm",
        "addmm_",
        "bmm",
        "baddbmm",
        "addbmm",
        "mv",
        "addmv",
    ),
    *("dot", "vdot", "outer", "addr", "ger", "einsum", "tensordot", "chain_matmul", "linalg_multi_dot"),
    *("_scaled_mm", "_grouped_mm", "_int_mm", "convolution", "_convolution", "conv1d", "conv2d"),
}
"""Dispatcher names of products; with CompositeImplicit ones, which inference mode does not decompose."""

FUSED_ATTENTION = "attention"
SOFTMAX = {"_softmax", "softmax", "_safe_softmax"}
HAVE_PRODUCTS = (LINEAR, CONV1D)


class Auditor(ModuleWatcher):
    """Counts products per module inside a ``with`` block.

    ``products[(module, operator)]`` counts calls; ``module`` is the innermost module's name under ``model``
    (empty for the model itself). ``errors[site]`` collects (sum of ((used - product) / product)^2, number of
    non-zero elements, elements that differ): what went on to be used against what the operator itself gave. For a
    module that is one operator (linear, norm, activation, embedding) that is what it returned; for QK what the
    softmax was given; for the softmax what the next product was given; for PV and fused attention what the attention
    function returned to its block, or, where the block calls none, what its projection was given. In a clean forward
    nothing may differ. ``attentions`` holds how blocks called their attention function, and the width that a token's
    heads have together in what it returned. ``departures[site]`` counts elements that ``formula``
    does not give, where there is one; ``repeats[site]`` rows with the noise of another row that had the same result;
    ``sizes[site]`` holds the sum of (used - product)^2, the elements that differ and all, finite and not padding (for
    sites of ``by_rows``, whose padding can be told); ``parts[site]`` that sum over differences that are finite, the
    elements that differ whatever they were, and those whose difference is not finite. ``draws`` is shown what became of
    the rows of those. Where the noise is limited to some tokens, all of this is of the rows of ``selected``, which also
    counts what differs in others. Products of
    modules are copied when they are made: whoever perturbs them in place may do so. Costs about 12 us per operator.
    """

    def __init__(
        self,
        model: nn.Module,
        formula: Formula | None = None,
        draws: Draws | None = None,
        selected: Selected | None = None,
    ) -> None:
        super().__init__(model)
        self.selected = selected or Selected((), ())
        self.products: Counter[tuple[str, str]] = Counter()
        self.errors: dict[str, list[float]] = {}
        self.sizes: dict[str, list[float]] = {}
        self.parts: dict[str, list[float]] = {}
        self.departures: Counter[str] = Counter()
        self.repeats: Counter[str] = Counter()
        self.by_rows: set[str] = set()
        self.attentions: dict[str, tuple[AttentionCall, int]] = {}
        self.draws = draws
        self._formula = formula
        self._mask: Tensor | None = None
        self._results: dict[str, Any] = {}
        self._fused: set[str] = set()
        self._batch = 1
        self._experts: ExpertsWatch | None = None
        self._names = {module: name for name, module in model.named_modules()}
        self._calls: dict[str, AttentionCall] = {}
        self._inside = contextlib.ExitStack()
        self._attention = {name: module for name, module in model.named_modules() if is_attention(module)}
        self._kinds = {name: operator_of(module) for name, module in model.named_modules()}
        self._scores: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}

    def _hook(self) -> Iterator[RemovableHandle]:
        yield self._model.register_forward_pre_hook(self._masked, with_kwargs=True)
        if self._experts is not None:
            yield from self._experts.hook()
        for name, module in self._model.named_modules():
            if self._kinds[name] is not None:
                yield module.register_forward_hook(self._compare(name))
                if name.rpartition(".")[0] in self._attention:
                    yield module.register_forward_pre_hook(self._entering(name), prepend=True)
            elif name:  # a block: what its forward gave against what all hooks made of it
                yield module.register_forward_hook(self._given(name), prepend=True)
                yield module.register_forward_hook(self._let_out(name))

    def __enter__(self) -> Self:
        self._experts = ExpertsWatch(self._model, self._expert)
        self._inside.enter_context(attention_watched(self._attending, self._attended))
        super().__enter__()
        self._experts.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        held, self._experts = self._experts, None  # it holds this auditor, and that the model
        with self._inside:
            try:
                if held is not None:
                    held.__exit__(*exc)
            finally:
                super().__exit__(*exc)

    def _forget(self) -> None:
        for held in (self._results, self._scores, self._weights, self._calls):
            held.clear()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        first = _first(result)
        if name in PRODUCTS or FUSED_ATTENTION in name:
            self._product(name, first, args)
        elif name in SOFTMAX:
            module = self._innermost()
            self._compare_scores(module, args[0])
            if module in self._attention:
                self._weights[module] = result
        elif isinstance(first, Tensor) and first.is_floating_point():
            module = self._innermost()
            if self._kinds.get(module) not in (None, *HAVE_PRODUCTS):
                self._results[module] = first
        return result

    def _product(self, name: str, result: Any, args: tuple[Any, ...]) -> None:
        module = self._innermost()
        self.products[module, name] += 1
        if not isinstance(result, Tensor):
            return
        if module in self._attention:
            given = self._weights.pop(module, None)
            if given is not None and given.numel() == args[0].numel():
                self._compare_weights(f"{module}:{SOFTMAX_SITE}", given.to(args[0].dtype), args[0].reshape(given.shape))
            if FUSED_ATTENTION in name:
                self._fused.add(module)
            elif module not in self._results:
                self._scores[module] = result
        # a linear's own result may be perturbed where it lies
        self._results[module] = result.clone() if self._kinds.get(module) in HAVE_PRODUCTS else result

    def _attending(self, block: nn.Module, call: AttentionCall) -> None:
        """A block of the model calls its attention function. In others its products are calls of operators."""
        name = self._names.get(block)
        if name in self._attention:
            self._calls[str(name)] = call

    def _attended(self, block: nn.Module, returned: Tensor) -> None:
        """It got (batch, tokens, heads, dim) back, of which its last product was made."""
        name = self._names.get(block)
        call = self._calls.pop(name, None) if name is not None else None
        if name is None or call is None:
            return
        values = self._results.pop(name, None)
        self._scores.pop(name, None)
        if returned.ndim != 4:
            return
        batch, tokens, heads, width = returned.shape
        self.attentions[name] = call, heads * width
        if values is not None and values.numel() == returned.numel() and values.shape[-1] == width:
            exact = values.detach().reshape(batch, heads, tokens, width).transpose(1, 2)
            rows = batch, tokens, heads * width
            self._add(f"{name}:{SDPA if call.fused else PV}", exact.reshape(rows), returned.detach().reshape(rows))

    def _compare_weights(self, site: str, exact: Tensor, used: Tensor) -> None:
        """The probabilities of a softmax against what the next product was given of them."""
        if exact.is_meta:
            return
        kept = self._selected_scores(site, exact, used, torch.ones_like(exact, dtype=torch.bool))
        self._add(site, exact[kept], used[kept])

    def _selected_scores(self, site: str, exact: Tensor, used: Tensor, visible: Tensor) -> Tensor:
        """Which of ``visible`` elements (batch, heads, tokens, keys) lie in selected rows; others may not differ."""
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            four = exact.ndim == 4
            rows = self.selected.at(site, exact.shape[0], exact.shape[2], exact.device) if four else None
            if rows is None:
                return visible
            outside = visible & ~rows[:, None, :, None]
            self.selected.book(site, int(rows.sum()), _different(used[outside], exact[outside]))
            return visible & rows[:, None, :, None]

    def _compare_scores(self, module: str, given: Tensor) -> None:
        """The scores that a softmax inside ``module`` was given against the product QK, where no mask hides them."""
        product = self._scores.pop(module, None)
        call = self._calls.get(module)
        scaling = getattr(self._attention.get(module), "scaling", None) if call is None else call.scaling
        if product is None or product.numel() != given.numel() or product.is_meta or (call is not None and call.fused):
            return
        if not isinstance(scaling, int | float):  # as Falcon's: by what it scales cannot be told from outside
            return
        softcap = None if call is None else call.softcap
        visible = given > torch.finfo(product.dtype).min / 4
        used, exact = given.detach(), product.detach()
        # some models scale the query beforehand: the factor is then 1
        factors = (float(scaling), 1.0)
        scored = {factor: _scored(exact, factor, softcap, given) for factor in factors}
        factor = min(factors, key=lambda factor: _distance(scored[factor][visible], used[visible]))
        visible = self._selected_scores(f"{module}:{QK}", scored[factor], used, visible)
        used = used[visible]
        self._add(f"{module}:{QK}", scored[factor][visible], used, factor)
        if self._formula is not None:
            expected = _scored(self._formula(exact), factor, softcap, given)[visible]
            self.departures[f"{module}:{QK}"] += _different(expected, used)

    def _given(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self._results[f"{name}|given"] = _first(output)

        return hook

    def _let_out(self, name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            given, after = self._results.pop(f"{name}|given", None), _first(output)
            if given is not None and after is not given and isinstance(after, Tensor):
                self._add(name, given.detach(), after.detach())

        return hook

    def _entering(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], Tensor):  # before it is quantized, say
                self._results[f"{name}|entering"] = args[0]

        return hook

    def _compare(self, name: str) -> Any:
        owner = name.rpartition(".")[0]

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            product = self._results.pop(name, None)
            if product is not None and isinstance(output, Tensor) and product.numel() == output.numel():
                self._add(name, product.detach().reshape(output.shape), output.detach())
            entered = self._results.pop(f"{name}|entering", None)
            values = self._results.get(owner) if entered is not None else None
            if values is not None and values.numel() == entered.numel() and self._kinds[name] in HAVE_PRODUCTS:
                batch, tokens = entered.shape[:2]
                heads = values.reshape(batch, -1, tokens, values.shape[-1]).transpose(1, 2)
                op = SDPA if owner in self._fused else PV
                self._add(f"{owner}:{op}", heads.detach().reshape(entered.shape), entered.detach())
                del self._results[owner]

        return hook

    def _masked(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        mask = kwargs.get("attention_mask")
        self._mask = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None
        given = kwargs.get("input_ids", args[0] if args else kwargs.get("inputs_embeds"))
        self._batch = len(given) if isinstance(given, Tensor) else 1

    def _expert(self, site: str, exact: Tensor, used: Tensor, chosen: Tensor) -> None:
        """Compares rows of experts, as many for each token as it chose."""
        shape = self._batch, -1, exact.shape[1]
        self._add(
            site, exact.reshape(shape), used.reshape(shape), chosen=chosen.reshape(self._batch, -1, chosen.shape[1])
        )

    def _add(self, site: str, exact: Tensor, used: Tensor, factor: float = 1.0, chosen: Tensor | None = None) -> None:
        """Compares in the shape (batch, tokens, features) where rows are to be told apart, else in one dimension.

        Both are ``factor`` times what the site gave. ``chosen`` (batch, tokens, experts chosen) says whose rows they
        are where tokens have several.
        """
        if exact.is_meta:
            return
        # modes must not take this arithmetic for the model's, and this auditor need not look at its own
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            each = 1 if chosen is None else chosen.shape[2]
            picked = self._picked(site, exact, used, each) if exact.ndim == 3 else None
            before, after = (exact, used) if picked is None else (exact[picked], used[picked])
            nonzero = before != 0
            ratio = torch.where(nonzero, (after.float() - before.float()) / before.float(), 0.0)
            entry = self.errors.setdefault(site, [0.0, 0.0, 0.0])
            entry[0] += float(ratio.square().sum())
            entry[1] += float(nonzero.sum())
            entry[2] += _different(after, before)
            if exact.ndim > 1 and before.numel() and self._formula is not None:
                self.departures[site] += _different(self._formula(before), after)
            if exact.ndim == 3:
                real = self._real(exact if chosen is None else chosen).repeat_interleave(each, 1)
                self.by_rows.add(site)
                if self.draws is not None:
                    self.draws.look(site, exact, used, real, chosen, picked)
                real = real if picked is None else real & picked
                self.repeats[site] += repeated_rows(exact, used, real)
                exact, used = exact[real], used[real]  # padding has one key, so its noise says nothing new
            finite = torch.isfinite(exact)
            gap = (used.float() - exact.float()) / factor
            apart = torch.where(finite, gap, 0.0)
            size = self.sizes.setdefault(site, [0.0, 0.0, 0.0])
            size[0] += float(apart.square().sum())
            size[1] += float((apart != 0).sum())
            size[2] += float(finite.sum())
            part = self.parts.setdefault(site, [0.0, 0.0, 0.0])
            there = torch.isfinite(gap)
            part[0] += float(torch.where(there, gap, 0.0).double().square().sum())
            part[1] += _different(exact, used)
            part[2] += float((~there).sum())

    def _picked(self, site: str, exact: Tensor, used: Tensor, each: int) -> Tensor | None:
        """Which rows (batch, rows) the noise of ``site`` is limited to, ``each`` of a token; None where to all."""
        tokens = self.selected.at(site, exact.shape[0], exact.shape[1] // each, exact.device)
        if tokens is None:
            return None
        picked = tokens.repeat_interleave(each, 1)
        self.selected.book(site, int(picked.sum()), _different(used[~picked], exact[~picked]))
        return picked

    def _real(self, rows: Tensor) -> Tensor:
        """Which of ``rows`` (batch, tokens, features) are not padding, as far as the model was told."""
        batch, tokens = rows.shape[:2]
        if self._mask is None or self._mask.shape[0] != batch:
            return torch.ones(batch, tokens, dtype=torch.bool, device=rows.device)
        return self._mask[:, -tokens:].bool()


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) and output else output


def _scored(product: Tensor, factor: float, softcap: float | None, like: Tensor) -> Tensor:
    """What a softmax that was given scores ``like`` these (their shape and dtype) is given of the ``product`` QK."""
    scores = product.reshape(like.shape) * factor
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    return scores.to(like.dtype)


def _different(first: Tensor, second: Tensor) -> int:
    """Elements that differ; NaN is NaN."""
    return int(((first != second) & ~(first.isnan() & second.isnan())).sum())


def _distance(first: Tensor, second: Tensor) -> float:
    return float((first.float() - second.float()).square().sum())
