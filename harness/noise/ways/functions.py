"""Every spelling of an operator, by a function mode: for calls that no module and no interface offers.

Eager mode only; about 2 us for every torch function. With a model the mode is on while that runs, without one while
the session is open, on the thread that opened it. Modules are followed by hooks, which run in recomputations too,
and which switch the mode on where a recomputation runs without it.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from harness.exceptions import NoiseSpecError
from harness.noise.kinds import operator_of
from harness.noise.protocol import Session
from harness.noise.sites import FUNCTION, MATMUL, PV, QK, SOFTMAX, Site, attention_heads, is_attention
from harness.spec.operators import OPS, Operator

_BACKWARD = (Tensor.backward, torch.autograd.backward)


@functools.cache
def spellings() -> Mapping[Any, tuple[Operator, int]]:
    """Return every function of torch that computes an operator of the table -> that operator, and by how many positions
    its operands stand elsewhere."""
    found: dict[Any, tuple[Operator, int]] = {}
    for operator in OPS.values():
        shifts = dict(operator.shifted)
        for spelling in operator.functions:
            target: Any = torch
            for part in spelling.split("."):
                target = getattr(target, part, None)
            if target is not None:
                found[target] = operator, shifts.get(spelling, 0)
    return MappingProxyType(found)


class Where:
    """Which module is running on this thread, and how often it has called each operator so far."""

    def __init__(self) -> None:
        self.path: list[tuple[str, nn.Module | None, Counter[str]]] = [("", None, Counter())]

    def occurrence(self, op: str) -> int:
        """Return the number of this call of ``op`` within the running module, from 0."""
        calls = self.path[-1][2]
        calls[op] += 1
        return calls[op] - 1


class FunctionMode(TorchFunctionMode):
    """Hands every call of an operator to ``seen(operator, where, function, args, kwargs)``."""

    def __init__(self, seen: Callable[..., Any], local: threading.local) -> None:
        super().__init__()
        self._seen = seen
        self._local = local

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _BACKWARD:
            _check_recomputed(args[0] if args else None)
        found = spellings().get(func)
        if found is None:
            return func(*args, **(kwargs or {}))
        return self._seen(found[0], where_of(self._local), func, args, kwargs or {})


def where_of(local: threading.local) -> Where:
    """Return the :class:`Where` of this thread."""
    found: Where | None = getattr(local, "where", None)
    if found is None:
        found = local.where = Where()
    return found


@contextlib.contextmanager
def watched(model: nn.Module | None, seen: Callable[..., Any]) -> Iterator[None]:
    """Call ``seen`` for every operator that runs inside, with the module it runs in."""
    local = threading.local()
    with contextlib.ExitStack() as stack:
        if model is not None:
            for name, module in model.named_modules():
                stack.callback(module.register_forward_pre_hook(_entered(name, seen, local)).remove)
                left = module.register_forward_hook(_left(local), always_call=True)
                stack.callback(left.remove)
        else:
            stack.enter_context(_switched_on(FunctionMode(seen, local)))
        yield


@contextlib.contextmanager
def _switched_on(mode: FunctionMode) -> Iterator[None]:
    """Has ``mode`` on the stack of this thread; takes it off also from below modes that are still open."""
    mode.__enter__()
    try:
        yield
    finally:
        if not any(mode is held for held in torch.overrides._get_current_function_mode_stack()):
            raise NoiseSpecError(
                "noise on bare function calls, left where it is not on",
                "it is switched on for one thread, inside the modes that are open there",
                "leave it in the thread and in the with blocks in which it was entered",
            )
        above: list[TorchFunctionMode] = []
        while (top := torch.overrides._pop_mode()) is not mode:
            above.append(top)
        for held in reversed(above):
            torch.overrides._push_mode(held)


def _recomputed() -> NoiseSpecError:
    """No function mode is on in a backward pass, so what is recomputed there would be clean."""
    return NoiseSpecError(
        "a checkpointed computation under noise on bare function calls",
        "the backward pass repeats it without that noise",
        "give the model, or do not checkpoint",
    )


def _check_kept() -> None:
    """Refuses calls inside a non-reentrant checkpoint, by its hooks on saved tensors."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    if hooks is not None and hooks[0].__module__ == "torch.utils.checkpoint":
        raise _recomputed()


def _check_recomputed(outputs: Any) -> None:
    """Refuses a backward pass of ``outputs`` through a reentrant checkpoint."""
    roots = outputs if isinstance(outputs, list | tuple) else (outputs,)
    ahead = [tensor.grad_fn for tensor in roots if isinstance(tensor, Tensor)]
    seen = set()
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        if node.name() == "CheckpointFunctionBackward":
            raise _recomputed()
        seen.add(node)
        ahead += [node for node, _ in node.next_functions]


def _entered(name: str, seen: Callable[..., Any], local: threading.local) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling():
            raise NoiseSpecError(
                "an operator that is reached by function calls, under torch.compile",
                "a function mode is not traced",
                "choose operators that modules or the attention interface offer, or do not compile",
            )
        where = where_of(local)
        where.path.append((name, module, Counter()))
        stack = torch.overrides._get_current_function_mode_stack()
        if not any(isinstance(mode, FunctionMode) and mode._local is local for mode in stack):
            # a recomputation or another thread: the mode has to be switched on for this module
            mode = FunctionMode(seen, local)
            mode.__enter__()
            where.path[-1] = (*where.path[-1][:2], _Entered(mode))

    return hook


class _Entered(Counter[str]):
    """Call numbers of a module that switched the mode on, and has to switch it off."""

    def __init__(self, mode: FunctionMode) -> None:
        super().__init__()
        self.mode = mode


def _left(local: threading.local) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        path = where_of(local).path
        if len(path) > 1 and path[-1][1] is module:
            calls = path.pop()[2]
            if isinstance(calls, _Entered):
                calls.mode.__exit__(None, None, None)

    return hook


def site_of(operator: Operator, where: Where, columns: int = 0) -> Site:
    """Return the site of the call of ``operator`` that is about to run; counts it."""
    path, module, _ = where.path[-1]
    number = where.occurrence(operator.name)
    if module is not None and operator.name == operator_of(module) and number == 0:
        return Site(path, path, operator.name, columns, way=FUNCTION)
    if module is not None and operator.name == MATMUL and is_attention(module) and number < 2:
        op = (QK, PV)[number]
        # a head of values may have another width than one of queries: the probe sees it
        return Site(f"{path}:{op}", path, op, attention_heads(module) if op == QK else columns, way=FUNCTION)
    if module is not None and operator.name == "softmax" and is_attention(module) and number == 0:
        return Site(f"{path}:softmax", path, "softmax", attention_heads(module), way=FUNCTION)
    number = 0 if module is None else number  # outside modules nothing ends the count
    again = f"#{number}" if number else ""
    return Site(f"{path}:{operator.name}{again}", path, operator.name, columns, way=FUNCTION, occurrence=number)


@contextlib.contextmanager
def perturbed(model: nn.Module | None, sites: Sequence[Site], session: Session) -> Iterator[None]:
    """Perturb every call of the operators of the plan that no other way has; ``sites`` are those found by a probe.

    Calls that the probe did not meet (experts that no token chose, say) are perturbed and counted like the others.
    """
    with watched(model, functools.partial(_perturb, session)):
        yield


def _perturb(session: Session, operator: Operator, where: Where, func: Any, args: Any, kwargs: Any) -> Any:
    if session.is_paused:
        return func(*args, **kwargs)
    chosen = session.plan.functions
    site = site_of(operator, where)
    if chosen is None or not chosen.takes(site, [name for name, _, _ in where.path if name]):
        return func(*args, **kwargs)
    if session.model is not None:
        known = session.site(session.number(site))  # as the probe found it
        return _perturb_call(session, known, func, args, kwargs)
    _check_kept()
    with session.call():
        return _perturb_call(session, site, func, args, kwargs)


def _perturb_call(session: Session, site: Site, func: Any, args: Any, kwargs: Any) -> Any:
    if site.op == SOFTMAX and session.plan.spec.softmax == "renormalised":
        _check_dimension(site, args, kwargs)
    target = kwargs.get("out", _written(func, args, kwargs))
    if session.plan.spec.backward:
        args, kwargs = _with_operands(session, site, func, args, kwargs)
    if target is not None and "out" not in kwargs and torch.is_grad_enabled():
        args, kwargs = _on_a_copy(args, kwargs)
    result = func(*args, **kwargs)
    if not isinstance(result, Tensor):
        if isinstance(result, tuple) and result and isinstance(result[0], Tensor):  # native_layer_norm
            return (session.result(site, result[0]), *result[1:])
        return result
    noisy = session.result(site, result)
    return noisy if target is None or noisy is target else target.copy_(noisy)


def _written(func: Any, args: Any, kwargs: Any) -> Tensor | None:
    """The tensor that an in-place spelling writes and returns, None for every other spelling."""
    name = func.__name__
    if kwargs.get("inplace") or (name.endswith("_") and not name.endswith("__")) or name.startswith("__i"):
        target: Tensor = args[0] if args else kwargs.get("input", kwargs.get("self"))
        return target
    return None


def _on_a_copy(args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments of an in-place spelling with a copy of what it writes: autograd may keep the clean result, and
    lets nobody write into the view of an operand."""
    if args:
        return (args[0].clone(), *args[1:]), kwargs
    name = "input" if "input" in kwargs else "self"
    return args, {**kwargs, name: kwargs[name].clone()}


def _check_dimension(site: Site, args: Any, kwargs: Any) -> None:
    dimension = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if dimension not in (-1, args[0].ndim - 1 if args else -1):
        raise NoiseSpecError(
            f"{site.name} over dimension {dimension}", "softmax:renormalised sums over the last one", "drop the option"
        )


def _with_operands(session: Session, site: Site, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    operator, shift = spellings()[func]
    args, kwargs = list(args), dict(kwargs)
    if operator.name == "einsum":
        return _einsum_operands(session, site, args), kwargs
    for operand in operator.operands:
        position = operand.position + shift
        if position < len(args):
            if isinstance(args[position], Tensor):
                args[position] = session.operand(site, args[position], operand.name)
            continue
        for name in (operand.name, *operand.keywords):
            if isinstance(kwargs.get(name), Tensor):
                kwargs[name] = session.operand(site, kwargs[name], operand.name)
    return tuple(args), kwargs


def _einsum_operands(session: Session, site: Site, args: list[Any]) -> tuple[Any, ...]:
    """``einsum(equation, a, b)`` and ``einsum(equation, [a, b])``."""
    if len(args) == 2 and isinstance(args[1], list | tuple):
        given = [session.operand(site, x, f"operand{n}") for n, x in enumerate(args[1])]
        return args[0], given
    return args[0], *(session.operand(site, x, f"operand{n}") for n, x in enumerate(args[1:]))
