"""The noise of a whole process: every outermost model gets its sessions when it is first called.

A global hook sees every call of a module. Hooks that are registered while a call is on its way are not part of that
call, so the first call of a model is handed to the new ones by a second global hook, which follows the first.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import os
import sys
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import util
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from harness.exceptions import HarnessError, NoiseSpecError
from harness.noise.environment import VARIABLE, say
from harness.record import SiteCount
from harness.spec.noise import NoiseSpec

if TYPE_CHECKING:
    from harness.noise.ledger import Ledger
    from harness.noise.session import NoiseSession

_TOKEN_ARGUMENTS = ("input_ids", "inputs_embeds")


class ProcessNoise:
    """The noise of this process. Safe in several threads; models are held weakly, their ledgers are kept."""

    def __init__(self) -> None:
        self.specs: tuple[NoiseSpec, ...] = ()
        self._lock = threading.RLock()
        self._local = threading.local()
        self._roots: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._covered: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._attaching: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._sessions: list[weakref.ref[NoiseSession]] = []
        self._perturbed: list[_Perturbed] = []
        self._called = self._forked = self._reported = False
        self._first_hook = 0

    def switch_on(self, specs: tuple[NoiseSpec, ...]) -> None:
        """Perturb by ``specs`` from now on, say so, and report at exit. Once per process."""
        if self.specs:
            return
        self._echo(specs)
        self.watch(specs)
        nn.Module.compile = _compile_after(self._compiled, nn.Module.compile)  # type: ignore[method-assign]
        atexit.register(self._report)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)
        # a forked child of multiprocessing ends without atexit
        util.register_after_fork(self, ProcessNoise._report_of_child)

    def watch(self, specs: tuple[NoiseSpec, ...]) -> tuple[RemovableHandle, RemovableHandle]:
        """See every call of a module from now on, until the handles are removed."""
        self.specs = specs
        found = register_module_forward_pre_hook(self._found)
        first = register_module_forward_pre_hook(self._first_call)
        self._first_hook = first.id
        return found, first

    def sessions(self) -> tuple[NoiseSession, ...]:
        """Return the sessions of the models that are still there."""
        found = (reference() for reference in list(self._sessions))
        return tuple(session for session in found if session is not None)

    def counts(self) -> tuple[SiteCount, ...]:
        """Return everything counted so far."""
        return tuple(count for model in list(self._perturbed) for count in model.counts())

    def _found(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Before every call of a module."""
        if torch.compiler.is_compiling():
            return
        root = getattr(module, "_orig_mod", module)  # what torch.compile wraps
        if root in self._roots:
            self._check_alone(root)
            self._called = True
        elif root not in self._covered and _takes_tokens(root, args) and not _is_probing():
            before = frozenset(root._forward_pre_hooks)
            root._forward_pre_hooks_with_kwargs[self._first_hook] = True
            self._attach(root)
            self._called = True
            if root is module:
                self._local.waiting = module, before

    def _first_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Any = None) -> Any:
        """Hands a call that began before the model had its sessions to their hooks."""
        if torch.compiler.is_compiling():
            return None
        waiting, before = getattr(self._local, "waiting", (None, frozenset()))
        if waiting is not module:
            return None
        self._local.waiting = None, frozenset()
        if kwargs is None:
            raise NoiseSpecError(
                f"{VARIABLE} with torch {torch.__version__}", "its hooks get no named arguments", "use another torch"
            )
        for number, hook in list(module._forward_pre_hooks.items()):
            if number in before:
                continue
            if number in module._forward_pre_hooks_with_kwargs:
                args, kwargs = hook(module, args, kwargs) or (args, kwargs)
            else:
                changed = hook(module, args)
                args = args if changed is None else changed if isinstance(changed, tuple) else (changed,)
        return args, kwargs

    def _compiled(self, module: nn.Module) -> None:
        """Before ``module.compile()``: no global hook sees the calls of what that makes."""
        if module not in self._covered and _takes_tokens(module, ()):
            self._attach(module)

    def _attach(self, model: nn.Module) -> None:
        if model in self._attaching:  # the probe's hooks are part of this call, and gone when their turn comes
            raise NoiseSpecError(
                f"{VARIABLE}: {type(model).__name__} is called by two threads for the first time",
                "its first call prepares the noise",
                "call it once before the threads start",
            )
        with self._lock:
            if model in self._covered:  # another thread was first, but began after this call
                return
            self._attaching.add(model)
            try:
                self._attach_alone(model)
            finally:
                self._attaching.discard(model)

    def _attach_alone(self, model: nn.Module) -> None:
        from harness.noise.inject import sessions_of

        self._check_alone(model)
        inside = next((path for path, inner in model.named_modules() if inner in self._covered), None)
        name = type(model).__name__
        if inside is not None:
            raise NoiseSpecError(
                f"{VARIABLE}: {name} is called after {inside} inside it",
                "that was perturbed as a model of its own",
                "call the whole model first",
            )
        try:
            sessions = sessions_of(model, self.specs)
        except HarnessError as error:
            raise NoiseSpecError(f"{VARIABLE} on {name}: {error}") from None
        except Exception as error:
            raise NoiseSpecError(
                f"{VARIABLE} on {name}: {type(error).__name__} in a probe forward: {error}",
                "a model must run on three token ids",
                f"unset {VARIABLE}, or perturb it with harness.noise.noisy",
            ) from error
        with contextlib.ExitStack() as stack:
            for session in sessions:
                stack.enter_context(session)
            stack.pop_all()  # they stay open; the model's hooks hold them
        self._sessions += [weakref.ref(session) for session in sessions]
        self._perturbed.append(_Perturbed(name, tuple((s.plan.spec, s.ledger) for s in sessions)))
        self._roots.add(model)
        self._covered.update(model.modules())

    def _check_alone(self, model: nn.Module) -> None:
        """Refuses a model that is perturbed by a session of somebody else too."""
        from harness.noise.custom_ops import SESSIONS

        own = {id(session) for session in self.sessions()}
        others = [session for session in SESSIONS.open() if id(session) not in own]
        for session in others:
            if session.model is None or _overlap(session.model, model):
                raise NoiseSpecError(
                    f"{type(model).__name__} is inside a noise session ({session.plan.spec})",
                    f"{VARIABLE} would perturb it a second time",
                    f"unset {VARIABLE}, or leave the session",
                )

    @staticmethod
    def _echo(specs: tuple[NoiseSpec, ...]) -> None:
        say(f"{VARIABLE} is on in process {os.getpid()}: {'; '.join(map(str, specs))}")

    def _forget(self) -> None:
        """In the child of a fork: what was counted so far belongs to the parent."""
        self._forked = True
        self._lock = threading.RLock()
        self._called = self._reported = False
        for model in self._perturbed:
            for _, ledger in model.ledgers:
                ledger.forget()
        self._echo(self.specs)

    def _report_of_child(self) -> None:
        util.Finalize(None, self._report, exitpriority=0)

    def _report(self) -> None:
        """The line at exit. A forked child that called no model leaves it to its parent."""
        where = f"{VARIABLE} in process {os.getpid()}"
        try:
            if self._reported or (self._forked and not self._was_called()):
                return
            self._reported = True
            say(f"{where} {self.summary()}")
        except Exception as error:  # a device may be gone by now; that must not be silent either
            say(f"{where}: the counts cannot be read ({type(error).__name__}: {error})")

    def _was_called(self) -> bool:
        return self._called or any(count.calls for count in self.counts())

    def summary(self) -> str:
        """Return what was injected so far, for people."""
        if not self._was_called():
            return "injected NOTHING: no model was called"
        counts = self.counts()
        names = [model.name for model in self._perturbed if any(count.calls for count in model.counts())]
        plural = "" if len(names) == 1 else "s"
        where = f"{len({count.site for count in counts})} sites of {len(names)} model{plural}"
        where += f" ({', '.join(dict.fromkeys(names))})" if names else ""
        changed, elements = sum(count.changed for count in counts), sum(count.elements for count in counts)
        if not changed:
            return f"injected NOTHING: changed 0 of {elements} elements at {where}"
        silent = [str(spec) for spec in self.specs if spec.level and not self._changed_by(spec)]
        empty = "".join(f"; NOTHING by {text}" for text in silent)
        return f"changed {changed} of {elements} elements at {where}{empty}"

    def _changed_by(self, spec: NoiseSpec) -> bool:
        return any(count.changed for model in self._perturbed for count in model.counts(spec))


@dataclass(frozen=True)
class _Perturbed:
    """A model that got its sessions: its class, and what was counted for each specification."""

    name: str
    ledgers: tuple[tuple[NoiseSpec, Ledger], ...]

    def counts(self, only: NoiseSpec | None = None) -> list[SiteCount]:
        """Everything counted so far, or what ``only`` that specification did."""
        chosen = [(spec, ledger) for spec, ledger in self.ledgers if only in (None, spec)]
        return [count for spec, ledger in chosen for count in ledger.counts(spec.level or 0).values()]


PROCESS = ProcessNoise()


def _compile_after(attach: Callable[[nn.Module], None], original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def compiled(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        attach(module)
        return original(module, *args, **kwargs)

    return compiled


def _takes_tokens(module: nn.Module, args: tuple[Any, ...]) -> bool:
    """True for a model: one of transformers, one that has token arguments, or one that is given token ids."""
    transformers = sys.modules.get("transformers.modeling_utils")
    if transformers is not None and isinstance(module, transformers.PreTrainedModel):
        return True
    named, wrapper = _arguments(type(module).forward)
    if named:
        return True
    first = args[0] if args else None
    ids = isinstance(first, Tensor) and first.dtype == torch.int64 and first.ndim == 2
    # a wrapper hands the call on, and an embedding is no model
    return ids and not wrapper and next(module.children(), None) is not None


@functools.cache
def _arguments(forward: Callable[..., Any]) -> tuple[bool, bool]:
    """(has token arguments, has no named arguments at all) of the forward method of a module class."""
    try:
        parameters = list(inspect.signature(forward).parameters.values())[1:]
    except (TypeError, ValueError):
        return False, True
    named = any(parameter.name in _TOKEN_ARGUMENTS for parameter in parameters)
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return named, all(parameter.kind in kinds for parameter in parameters)


def _overlap(one: nn.Module, other: nn.Module) -> bool:
    return any(module is other for module in one.modules()) or any(module is one for module in other.modules())


def _is_probing() -> bool:
    from harness.noise.probe import is_probing

    return is_probing()
