"""The state behind :mod:`harness.integrations.noisy_ops`: one object per process."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.exceptions import NoiseSpecError
from harness.integrations.noisy_counts import PHASES, UNKNOWN, Counts
from harness.integrations.noisy_settings import CORE, MORE, Settings
from harness.record import BACKWARD, FORWARD
from harness.text import nearest

if TYPE_CHECKING:
    from torch import nn

    from harness.noise.session import NoiseSession

log = logging.getLogger(__name__)


class NoisyOps:
    """Noise on operators with the ancestor's process-global switches. Safe in several threads.

    While it is on there is one session per registered model, or else one on the bare function calls of the thread
    that switched it on. Every opening of sessions has draws of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._settings = Settings()
        self._enabled = False
        self._phase = UNKNOWN
        self._models: list[weakref.ref[nn.Module]] = []
        self._sessions: tuple[NoiseSession, ...] = ()
        self._exit = contextlib.ExitStack()
        self._thread = 0
        self._openings = 0
        self._counts = Counts()

    def enable(
        self,
        error_scale: float = 1e-5,
        error_type: str = "relative_gaussian",
        all_ops_mode: bool = False,
        *,
        seed: int = 0,
    ) -> None:
        """Switch the noise on, or change it; the injection counters begin anew. ``seed`` chooses the draws."""
        with self._lock:
            now = self._settings
            self.enable_with(replace(now, scale=error_scale, error_type=error_type, all_ops=all_ops_mode, seed=seed))

    def enable_with(self, settings: Settings) -> None:
        """Switch the noise of ``settings`` on; the injection counters begin anew."""
        with self._lock:
            if self._enabled:
                log.warning("noisy ops are on already: the settings change")
            self._apply(settings, enabled=True)
            self.reset_injection_stats()
            log.info("noisy ops on: %s", "; ".join(str(session.plan.spec) for session in self._sessions))

    @property
    def settings(self) -> Settings:
        """What is asked for, also while the noise is off."""
        return self._settings

    def disable(self) -> dict[str, int]:
        """Switch the noise off and return the counts by phase and direction."""
        with self._lock:
            if not self._enabled:
                log.warning("noisy ops are not on")
                return self._counts.by_phase()
            self._apply(self._settings, enabled=False)
            if self._settings.scale and not self._counts.changed:
                log.warning("noisy ops were on and NOTHING was changed: %d elements were seen", self._counts.elements)
            log.info("noisy ops off: %s", self._counts.by_phase())
            return self._counts.by_phase()

    @contextlib.contextmanager
    def context(
        self,
        error_scale: float = 1e-5,
        error_type: str = "relative_gaussian",
        all_ops_mode: bool = False,
        *,
        seed: int = 0,
    ) -> Iterator[None]:
        """Have the noise on inside the block; afterwards what was on before."""
        before, enabled = self._settings, self._enabled
        self.enable(error_scale, error_type, all_ops_mode, seed=seed)
        try:
            yield
        finally:
            with self._lock:
                if not enabled:
                    self.disable()
                kept = replace(
                    self._settings,
                    scale=before.scale,
                    error_type=before.error_type,
                    all_ops=before.all_ops,
                    seed=before.seed,
                )
                self._apply(kept, enabled=enabled)

    def set_noise_phases(self, forward: bool = True, backward: bool = True) -> None:
        """Choose the directions; they survive disable and enable."""
        self._change(forward=forward, backward=backward)

    def get_noise_phases(self) -> dict[str, bool]:
        """Return the directions, as ``forward_enabled`` and ``backward_enabled``."""
        return {"forward_enabled": self._settings.forward, "backward_enabled": self._settings.backward}

    def set_phase(self, phase: str) -> None:
        """Count what follows under ``phase``, and declare it to the engine for the calling thread."""
        from harness.noise.phases import declare

        if phase not in PHASES:
            raise NoiseSpecError(f"unknown phase {phase!r}", "a phase is one of four", nearest(str(phase), PHASES))
        with self._lock:
            self._collect()
            self._phase = phase
        declare(PHASES[phase])

    def get_phase(self) -> str:
        """Return the phase that is counted under."""
        return self._phase

    def set_selective_layers(self, layer_ids: Iterable[int] | None = None) -> None:
        """Limit the noise to those layers; None: all, also what lies outside the layers."""
        self._change(layers=None if layer_ids is None else frozenset(_listed(layer_ids, "layer_ids", int)))

    def get_selective_layers(self) -> set[int] | None:
        """Return the layers, None for all."""
        return None if self._settings.layers is None else set(self._settings.layers)

    def set_selective_operators(self, op_types: Iterable[str] | None = None) -> None:
        """Limit the noise to those operators; None: all."""
        names = None if op_types is None else frozenset(_listed(op_types, "op_types", str))
        for name in sorted(names or ()):
            if name not in CORE + MORE:
                rule = "an operator is one of seven"
                raise NoiseSpecError(f"unknown operator {name!r}", rule, nearest(name, CORE + MORE))
        self._change(operators=names)

    def get_selective_operators(self) -> set[str] | None:
        """Return the operators, None for all."""
        return None if self._settings.operators is None else set(self._settings.operators)

    def register_layer_hooks(self, model: nn.Module) -> int:
        """Have the noise act on ``model``, whose layers are then known, instead of on bare function calls.

        Returns the number of its layers. Models are held weakly.
        """
        from harness.noise.paths import layer_of

        with self._lock:
            known = self._registered()
            inner = {id(module) for module in model.modules()}
            for other in known:
                if other is not model and (id(other) in inner or any(module is model for module in other.modules())):
                    raise NoiseSpecError(
                        f"{type(model).__name__} and {type(other).__name__}", "one holds the other", "register one"
                    )
            if all(other is not model for other in known):
                self._apply(self._settings, self._enabled, (*known, model))
                self._models = [weakref.ref(kept) for kept in (*known, model)]
        return len({layer for path, _ in model.named_modules() if (layer := layer_of(path)) is not None})

    def get_injection_stats(self) -> dict[str, Any]:
        """Return the settings, the counts by phase and direction, their totals, and the elements seen and changed."""
        with self._lock:
            self._collect()
            return {
                "enabled": self._enabled,
                "error_scale": self._settings.scale,
                "error_type": self._settings.error_type,
                "current_phase": self._phase,
                **self.get_noise_phases(),
                "counts": self._counts.by_phase(),
                "total_forward": self._counts.total(FORWARD),
                "total_backward": self._counts.total(BACKWARD),
                "elements": self._counts.elements,
                "changed": self._counts.changed,
            }

    def reset_injection_stats(self) -> None:
        """Have the counts by phase begin anew; those by layer stay."""
        with self._lock:
            self._collect()
            self._counts.clear_phases()

    def get_layer_injection_stats(self) -> dict[int | str, dict[str, int]]:
        """Return layer -> counts forward and backward; outside the layers, and without a model: ``"unknown"``."""
        with self._lock:
            self._collect()
            return self._counts.by_layer()

    def reset_layer_injection_stats(self) -> None:
        """Have the counts by layer begin anew; those by phase stay."""
        with self._lock:
            self._collect()
            self._counts.clear_layers()

    def summary(self) -> str:
        """Return the counts by phase as text, which is logged too."""
        with self._lock:
            self._collect()
            text = self._counts.text(self._settings.scale)
        log.info("%s", text)
        return text

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self._apply(replace(self._settings, **changes), enabled=self._enabled)

    def _apply(self, settings: Settings, enabled: bool, models: Sequence[nn.Module] | None = None) -> None:
        """Takes ``settings``, and opens sessions on ``models`` (None: those registered) anew where ``enabled``.

        Leaves all as it was where that is refused.
        """
        settings.check()
        if self._sessions and self._sessions[0].model is None and self._thread != threading.get_ident():
            raise NoiseSpecError(
                "noisy ops changed in another thread than the one that enabled them",
                "without a model they are on in that thread",
                "call it there, or register_layer_hooks(model) first",
            )
        known = tuple(self._registered())
        was_enabled = self._enabled
        self._close()
        try:
            if enabled:
                self._open(settings, known if models is None else models)
        except BaseException:
            if was_enabled:
                self._open(self._settings, known)
            raise
        self._settings = settings

    def _close(self) -> None:
        self._collect()
        self._sessions, self._enabled = (), False
        self._exit.close()

    def _open(self, settings: Settings, models: Sequence[nn.Module]) -> None:
        from harness.noise.planner import build_plan
        from harness.noise.session import NoiseSession

        if settings.layers is not None and not models:
            raise NoiseSpecError(
                f"layers {sorted(settings.layers)} without a model",
                "bare function calls have no layer",
                "call register_layer_hooks(model) first",
            )
        self._openings += 1
        made = []
        for model in models or (None,):
            spec = settings.spec(self._openings, None if model is None else _present(model))
            made.append(NoiseSession(model, build_plan(model, spec)))
        with contextlib.ExitStack() as stack:
            for session in made:
                stack.enter_context(session)
            self._exit = stack.pop_all()
        self._sessions, self._enabled, self._thread = tuple(made), True, threading.get_ident()

    def _registered(self) -> list[nn.Module]:
        return [model for reference in self._models if (model := reference()) is not None]

    def _collect(self) -> None:
        """Moves what the ledgers counted into the counters, under the phase that is set."""
        for session in self._sessions:
            self._counts.add(self._phase, session.ledger.drain(session.plan.spec.level or 0).values())


def _present(model: nn.Module) -> frozenset[str]:
    """The operators that ``model`` computes, by a module or by a call."""
    from harness.noise.probe import run_probe
    from harness.noise.sites import find_sites

    return frozenset(site.op for site in find_sites(model)) | {call.site.op for call in run_probe(model).calls}


def _listed(given: Any, name: str, kind: type) -> list[Any]:
    """``given`` as a list of ``kind``; an empty one would switch the noise off without a word."""
    entries = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else []
    if not entries or any(not isinstance(entry, kind) or isinstance(entry, bool) for entry in entries):
        rule = f"it lists {'layer numbers' if kind is int else 'operators'}, at least one"
        raise NoiseSpecError(f"{name} {given!r}", rule, "give None for all, or call disable_noisy_ops()")
    return entries
