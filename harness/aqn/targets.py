"""Which weights AQN perturbs: modules by the name of their class, across transformers and vLLM, and by path (no torch).

A class counts by the names of itself and of what it derives from: ``Qwen2RMSNorm``, vLLM's ``RMSNorm``, and what FSDP2
makes of either are one kind. Paths are compared by whole components, so that ``mlp.gate`` never means ``gate_up_proj``
and ``layers.2`` never means layer 20.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.exceptions import HarnessError
from harness.strict import Table, fill
from harness.text import nearest

RMSNORM, LAYERNORM, LINEAR = "rmsnorm", "layernorm", "linear"
NORMS = (RMSNORM, LAYERNORM)
KINDS = (*NORMS, LINEAR)
_NAMES = {
    RMSNORM: re.compile(r"RMSNorm"),
    LAYERNORM: re.compile(r"LayerNorm"),
    LINEAR: re.compile(r"(Linear|LinearBase|Conv1D|ParallelLMHead)$"),
}
ADAPTER = ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector")
ROUTERS = ("gate", "router", "shared_expert_gate")
EXPERTS = ("experts", "shared_expert", "shared_experts")
HEAD = "lm_head"
POST_ATTENTION = "post_attention_layernorm"
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer")


@dataclass(frozen=True)
class Targets:
    """Kinds of modules, and globs of path components that bring in or leave out.

    ``include`` empty means all of the kinds; ``lm_head`` only comes in where an include names it.
    """

    kinds: tuple[str, ...] = (RMSNORM,)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise HarnessError(f"layer type {kind!r}", f"it is one of {', '.join(KINDS)}", nearest(kind, KINDS))
        if not self.kinds:
            raise HarnessError("no layer type", "nothing would be perturbed", f"name one of {', '.join(KINDS)}")
        for pattern in (*self.include, *self.exclude):
            if not pattern or not all(pattern.split(".")):
                raise HarnessError(f"path {pattern!r}", "it has an empty component", "write it as mlp.down_proj")

    def takes(self, kind: str, name: str, experts: bool) -> bool:
        """Return whether the module ``name`` of ``kind`` is one; ``experts``: the model is a mixture of experts."""
        parts = name.split(".")
        if kind not in self.kinds or any(part in ADAPTER for part in parts):
            return False
        if experts and (any(part in ROUTERS for part in parts) or (kind in NORMS and POST_ATTENTION not in parts)):
            return False
        if parts[-1] == HEAD and not any(matches(pattern, name) for pattern in self.include):
            return False
        if any(matches(pattern, name) for pattern in self.exclude):
            return False
        return not self.include or any(matches(pattern, name) for pattern in self.include)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {"kinds": list(self.kinds), "include": list(self.include), "exclude": list(self.exclude)}

    @classmethod
    def from_json(cls, data: object) -> Targets:
        """Return the inverse of :meth:`to_json`. Raises :class:`HarnessError` for what it does not know."""
        return fill(cls, Table(data, "AQN settings", path="targets"))


def kind_of(cls: type) -> str | None:
    """Return the kind of a module's class, None where it is not one of :data:`KINDS`."""
    for base in cls.__mro__:
        for kind, pattern in _NAMES.items():
            if pattern.search(base.__name__):
                return kind
    return None


def matches(pattern: str, name: str) -> bool:
    """Return whether ``pattern``, globs of components joined by dots, stands anywhere in ``name``."""
    wanted, parts = pattern.split("."), name.split(".")
    return any(
        all(fnmatch.fnmatchcase(part, want) for part, want in zip(parts[start:], wanted, strict=False))
        for start in range(len(parts) - len(wanted) + 1)
    )


def canonical(name: str) -> str:
    """Return the name of a module as transformers has it: without what wrappers of peft, FSDP and compile add."""
    name = name.removeprefix("base_model.model.") if name.startswith("base_model.model.") else name
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def layer_of(name: str) -> int | None:
    """Return the number of the decoder layer that holds ``name``: its first component that is a number."""
    return next((int(part) for part in name.split(".") if part.isdecimal()), None)


def has_experts(names: Iterable[str]) -> bool:
    """Return whether modules of these ``names`` are a mixture of experts."""
    return any(part in EXPERTS or part.startswith("expert_") for name in names for part in name.split("."))


def nothing_matched(targets: Targets, there: Sequence[tuple[str, str]]) -> HarnessError:
    """Return the error of zero targets among modules ``there`` (kind, name)."""
    kinds = {kind: sum(each == kind for each, _ in there) for kind in KINDS}
    shown = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count) or "none of the kinds"
    return HarnessError(
        f"AQN targets {', '.join(targets.kinds)} (include {list(targets.include)}, exclude {list(targets.exclude)})",
        f"they match 0 layers; the model has {shown}",
        "name kinds and paths that it has",
    )
