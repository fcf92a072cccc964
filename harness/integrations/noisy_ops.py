"""The interface of the ancestor's ``verl.utils.noisy_ops``, for its scripts, over :mod:`harness.noise`.

Change the import and the script goes on: ``from harness.integrations.noisy_ops import enable_noisy_ops``. The switches
hold for the whole process and live in one object. New code is better served by :func:`harness.noise.noisy`.

Environment variables act only through :func:`enable_from_environment`: nothing here is read on import. Call it once in
every process that runs a model, where the ancestor acted by ``import verl``: at the top of the module that a worker
imports first. (``HARNESS_NOISE`` needs no call; :mod:`harness.noise.environment`.)

What differs from the ancestor:

Draws
    - They have keys of their own (the seed, the number of the call or of the forward, the site); the global random
      number generator is never touched. Equal calls in equal order give equal noise in every process; every change of
      the settings while the noise is on, and every enable, has fresh draws. ``seed=`` chooses others.
    - Noise is computed in float32 and rounded once, also for bfloat16 and float16.
    - Every error type of the harness with a strength is known, not two; unknown ones are refused by the call itself.
    - The scale must be finite and not negative. Its default is 1e-5 here; the variables must name one (the ancestor
      took 1e-4 there). Where it is too small to change a value of the dtype, disabling warns that nothing changed.

Operators
    - Every spelling is reached: ``@``, ``Tensor.matmul``, ``mm``, ``mv``, ``dot``, ``addmm``, ``torch.softmax``, named
      arguments, matrix times vector; ``out=`` is written. Still left alone, as they have no name here: einsum,
      scaled_dot_product_attention, RMSNorm, embedding. :func:`harness.noise.noisy` reaches them.
    - The noise of a linear is relative to its result with the bias, not to the product before it.
    - ``linear`` and ``matmul`` are chosen apart, and ``linear`` alone has its backward noise.
    - Gradients are the exact ones with noise on top: gelu's is not the tanh form's, ``approximate=`` and ``inplace=``
      are kept, and layer_norm needs no weight.
    - Softmax is renormalised as there, over the last dimension; over another one it is refused.
    - An operator outside ``all_ops_mode``, an empty list of layers or operators, and both directions off are refused:
      there they switched the noise off without a word.

Layers
    - ``register_layer_hooks(model)`` puts the noise into that model: only what runs inside its forward is perturbed
      then. Layers are right in the backward pass too, ``lm_head`` belongs to none, and recomputations of gradient
      checkpointing repeat the noise of their forward. The model must compute every operator that is selected by name,
      and fused attention, which hides two products, is refused.
    - Layers cannot be selected without a registered model.

Scope
    - Without a model the noise is on in the thread that enabled it (and in the backward passes of what it ran), and
      must be changed and disabled there. Checkpointed computations are refused then: they would be recomputed clean.
    - Backward noise is that of the sessions of the forward: once they are closed, by disabling or by a change of
      anything but the phase, a backward pass of what was computed before is refused.
    - A context ends in what was on before it.
    - ``set_phase`` holds for the counters of the process, and declares the phase to the engine for the calling thread.
      It gates noise only with VERL_NOISY_OPS_TRAINING_ONLY: noise then acts in the actor's phases, all other variables
      hold too, and a forward without a declared phase is refused. (There the variable left enabling to the trainer.)
    - FORWARD_ONLY with BACKWARD_ONLY is an error, as are unknown variables of that prefix, values that are no yes or
      no, and variables without VERL_NOISY_OPS_ENABLED. VERL_NOISY_OPS_SKIP_VLLM, which was never implemented, is
      refused.

Counters
    - A backward count is one perturbed gradient: a product has two. A recomputation counts as forward.
    - ``counts`` always has all four phases, named as :func:`set_phase` names them; ``elements`` and ``changed`` say how
      many values were seen and changed. Nothing is printed: messages go to the log of this module.
    - ``set_current_layer``, ``should_inject_for_*`` and the autograd functions are not offered.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace

from harness.exceptions import NoiseSpecError
from harness.integrations.noisy_state import NoisyOps
from harness.text import nearest

__all__ = [
    "disable_noisy_ops",
    "enable_from_environment",
    "enable_noisy_ops",
    "get_injection_stats",
    "get_layer_injection_stats",
    "get_noise_phases",
    "get_phase",
    "get_selective_layers",
    "get_selective_operators",
    "noisy_ops_context",
    "print_injection_summary",
    "register_layer_hooks",
    "reset_injection_stats",
    "reset_layer_injection_stats",
    "set_noise_phases",
    "set_phase",
    "set_selective_layers",
    "set_selective_operators",
]

log = logging.getLogger(__name__)

PREFIX = "VERL_NOISY_OPS_"
VARIABLES = ("ENABLED", "SCALE", "TYPE", "ALL_OPS", "TRAINING_ONLY", "FORWARD_ONLY", "BACKWARD_ONLY", "SKIP_VLLM")
_YES, _NO = ("1", "true", "yes"), ("", "0", "false", "no")

NOISY_OPS = NoisyOps()
enable_noisy_ops = NOISY_OPS.enable
disable_noisy_ops = NOISY_OPS.disable
noisy_ops_context = NOISY_OPS.context
set_noise_phases = NOISY_OPS.set_noise_phases
get_noise_phases = NOISY_OPS.get_noise_phases
set_phase = NOISY_OPS.set_phase
get_phase = NOISY_OPS.get_phase
set_selective_layers = NOISY_OPS.set_selective_layers
get_selective_layers = NOISY_OPS.get_selective_layers
set_selective_operators = NOISY_OPS.set_selective_operators
get_selective_operators = NOISY_OPS.get_selective_operators
register_layer_hooks = NOISY_OPS.register_layer_hooks
get_injection_stats = NOISY_OPS.get_injection_stats
reset_injection_stats = NOISY_OPS.reset_injection_stats
get_layer_injection_stats = NOISY_OPS.get_layer_injection_stats
reset_layer_injection_stats = NOISY_OPS.reset_layer_injection_stats
print_injection_summary = NOISY_OPS.summary


def enable_from_environment(environment: Mapping[str, str] = os.environ, noisy_ops: NoisyOps = NOISY_OPS) -> bool:
    """Enable the noise that the variables VERL_NOISY_OPS_* ask for; False where they ask for none.

    What was read is logged, with the process id. Raises :class:`NoiseSpecError` for what the module's text lists.
    """
    given = {name.removeprefix(PREFIX): text for name, text in environment.items() if name.startswith(PREFIX)}
    for name in given:
        if name not in VARIABLES:
            rule = f"{PREFIX} is followed by one of {len(VARIABLES)} names"
            raise NoiseSpecError(f"unknown variable {PREFIX}{name}", rule, nearest(name, VARIABLES))
    if not given:
        return False
    if "ENABLED" not in given:
        raise NoiseSpecError(
            f"{PREFIX}{next(iter(given))} without {PREFIX}ENABLED", "it enables nothing", f"set {PREFIX}ENABLED=1"
        )
    flags = {name: _flag(name, given.get(name, "")) for name in VARIABLES if name not in ("SCALE", "TYPE")}
    if not flags["ENABLED"]:
        return False
    if flags["SKIP_VLLM"]:
        raise NoiseSpecError(
            f"{PREFIX}SKIP_VLLM", "no process knows whether it is one of vLLM", f"set {PREFIX}TRAINING_ONLY=1"
        )
    if flags["FORWARD_ONLY"] and flags["BACKWARD_ONLY"]:
        raise NoiseSpecError(f"{PREFIX}FORWARD_ONLY and {PREFIX}BACKWARD_ONLY", "they exclude each other", "drop one")
    settings = replace(
        noisy_ops.settings,
        scale=_scale(given),
        error_type=given.get("TYPE", "relative_gaussian"),
        all_ops=flags["ALL_OPS"],
        forward=not flags["BACKWARD_ONLY"],
        backward=not flags["FORWARD_ONLY"],
        training_only=flags["TRAINING_ONLY"],
    )
    noisy_ops.enable_with(settings)
    log.info("noisy ops of process %d from the environment: %s", os.getpid(), given)
    return True


def _flag(name: str, text: str) -> bool:
    if text.lower() not in _YES + _NO:
        raise NoiseSpecError(f"{PREFIX}{name} {text!r}", f"it is one of {', '.join(_YES + _NO[1:])}", "write 1 or 0")
    return text.lower() in _YES


def _scale(given: Mapping[str, str]) -> float:
    try:
        return float(given["SCALE"])
    except (KeyError, ValueError):
        raise NoiseSpecError(
            f"{PREFIX}SCALE {given.get('SCALE', 'unset')!r}", "it is a number", f"set {PREFIX}SCALE=0.05"
        ) from None
