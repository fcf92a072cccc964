"""What a model really runs: one forward of three tokens, seen by the independent auditor and by the function mode.

Works on the meta device too, so that a plan needs a config and no weights.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness.noise.audit.auditor import Auditor
from harness.noise.custom_ops import SESSIONS
from harness.noise.frames import Rows
from harness.noise.layout import FLAT, arrangement
from harness.noise.plan import PROBE_TOKENS, Call, Probe
from harness.noise.sites import BY_HEADS, BY_SCORES
from harness.noise.stacked import experts_on_meta, routed, stacked_modules
from harness.noise.ways.functions import Where, site_of, watched
from harness.spec.operators import Operator

_PROBING: contextvars.ContextVar[bool] = contextvars.ContextVar("robustness_harness_probing", default=False)


def run_probe(model: nn.Module) -> Probe:
    """Run ``model`` once on token ids 0, 1, 2, in evaluation mode: dropout would draw from the global generator.

    Nothing is perturbed, and nothing of the model is changed.
    """
    calls: list[Call] = []

    def seen(operator: Operator, where: Where, func: Any, args: Any, kwargs: Any) -> Any:
        path = tuple(name for name, _, _ in where.path if name)
        site = site_of(operator, where)
        result = func(*args, **kwargs)
        first = result[0] if isinstance(result, tuple) else result
        if isinstance(first, Tensor) and (first.is_floating_point() or first.is_complex()):
            arranged = "" if site.grows else _arranged(first)
            width = first.shape[1] if arranged == BY_SCORES else site.columns or first.numel() // PROBE_TOKENS
            site = replace(site, columns=width, arranged=arranged)
            calls.append(Call(site, path, arrangement(site, first, rows) != FLAT))
        return result

    ids = torch.arange(PROBE_TOKENS, device=next(model.parameters()).device)[None]
    rows = Rows.of(torch.zeros(1, dtype=torch.int64), None, PROBE_TOKENS, 0)
    # torch counts every fused attention but the one of the CPU, and no grouped product of experts
    uncounted = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        torch.ops.aten._grouped_mm: _grouped_flops,
    }
    counter = FlopCounterMode(display=False, custom_mapping=uncounted)
    with contextlib.ExitStack() as stack:
        if ids.is_meta:
            stack.enter_context(experts_on_meta(model))
        chosen = stack.enter_context(_chosen(model))
        for context in (_aside(model), counter):
            stack.enter_context(context)
        auditor = stack.enter_context(Auditor(model))
        widths, callers = stack.enter_context(_widths(model, ids.shape)), stack.enter_context(_callers(model))
        stack.enter_context(watched(model, seen))
        # without a cache transformers reads the positions for packed sequences, and meta tensors hold none
        _run(model, ids, use_cache=ids.is_meta)
    attentions = {name: (call.heads, width) for name, (call, width) in auditor.attentions.items()}
    compared = None if ids.is_meta else frozenset(auditor.errors)
    flops = _by_module(counter, model, callers)
    windows = {name: call.window for name, (call, _) in auditor.attentions.items() if call.window is not None}
    found = Probe(auditor.products, tuple(calls), flops, widths, attentions, chosen=chosen, compared=compared)
    return replace(found, windows=windows)


@contextlib.contextmanager
def _widths(model: nn.Module, shape: torch.Size) -> Iterator[Mapping[str, int]]:
    """Filled while ``model`` runs on ids of ``shape`` (1, tokens); tokens may stand first, or after the heads."""
    found: dict[str, int] = {}

    def measure(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) and output else output
            if isinstance(first, Tensor) and (
                first.shape[:2] == shape or first.shape[:1] == shape[1:] or first.shape[2:3] == shape[1:]
            ):
                found[name] = first.numel() // shape.numel()

        return hook

    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_hook(measure(name)).remove)
        yield found


@contextlib.contextmanager
def _chosen(model: nn.Module) -> Iterator[Mapping[str, int]]:
    """Filled while ``model`` runs: stacked experts -> how many of them a token chose."""
    found: dict[str, int] = {}

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            found[name] = routed(module, args, kwargs)[1].shape[-1]

        return hook

    with contextlib.ExitStack() as stack:
        for name, module in stacked_modules(model).items():
            stack.callback(module.register_forward_pre_hook(enter(name), with_kwargs=True).remove)
        yield found


@contextlib.contextmanager
def _callers(model: nn.Module) -> Iterator[Mapping[str, str]]:
    """Filled while ``model`` runs: each module's name to that of the module that calls it. The path does not say it:
    an adapter that runs beside its linear is called by the module around both."""
    found: dict[str, str] = {}
    running: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            found[name] = running[-1] if running else ""
            running.append(name)

        return hook

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if running:  # nobody entered where another hook failed first
            running.pop()

    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(enter(name)).remove)
            stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        yield found


def _arranged(y: Tensor) -> str:
    """What the shape of a result says where it has heads; their number may be that of the tokens later on."""
    if y.ndim != 4 or y.shape[2] != PROBE_TOKENS or (y.shape[1] == PROBE_TOKENS and y.shape[3] != PROBE_TOKENS):
        return ""
    return BY_SCORES if y.shape[3] == PROBE_TOKENS else BY_HEADS


def _run(model: nn.Module, ids: Tensor, **more: Any) -> None:
    """Calls ``model`` on ``ids``, by name where it has that name, with those of ``more`` that it takes."""
    known = inspect.signature(model.forward).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    kept = {name: value for name, value in more.items() if anything or name in known}
    with _probing():
        if anything or "input_ids" in known:
            model(input_ids=ids, **kept)
        else:
            model(ids, **kept)


def is_probing() -> bool:
    """Return True inside the forward pass of a probe."""
    return _PROBING.get()


@contextlib.contextmanager
def _probing() -> Iterator[None]:
    token = _PROBING.set(True)
    try:
        yield
    finally:
        _PROBING.reset(token)


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *rest: Any, **named: Any) -> int:
    """FLOPs of QK and PV, from the shapes (batch, heads, tokens, dim)."""
    batch, heads, tokens, width = query
    return 2 * batch * heads * tokens * key[-2] * (width + value[-1])


def _grouped_flops(rows: Sequence[int], weights: Sequence[int], *rest: Any, **named: Any) -> int:
    """FLOPs of rows (rows, in), each times the (in, out) of its expert in ``weights`` (experts, in, out)."""
    return 2 * rows[0] * rows[1] * weights[-1]


@contextlib.contextmanager
def _aside(model: nn.Module) -> Iterator[None]:
    """``model`` in evaluation mode, and each module as it was afterwards; open sessions do not take part."""
    training = [module for module in model.modules() if module.training]
    with contextlib.ExitStack() as stack, torch.no_grad():
        for session in SESSIONS.open():
            stack.enter_context(session.paused())
        for module in training:
            module.training = False
            stack.callback(setattr, module, "training", True)
        yield


def _by_module(counter: FlopCounterMode, model: nn.Module, callers: Mapping[str, str]) -> Mapping[str, int]:
    """FLOPs of each module that runs products itself, without those of the modules that it calls."""
    root = type(model).__name__
    total: Counter[str] = Counter()
    for name, counts in counter.get_flop_counts().items():
        if name != "Global":
            total[name.removeprefix(root).removeprefix(".")] = sum(counts.values())
    own = Counter(total)
    for name, flops in total.items():
        if name:
            own[callers.get(name, name.rpartition(".")[0])] -= flops  # a shared module has a second name
    return {name: flops for name, flops in own.items() if flops > 0}
