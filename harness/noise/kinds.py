"""What a module computes, read from its class names: canonical operators, MLP blocks, MoE routers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from harness.noise.stacked import StackedLinear, stacked_fields
from harness.noise.text_only import beside_text
from harness.spec.operators import OPS, selected

MLP = "mlp"
"""The kind of a whole MLP block; every other kind is a canonical operator."""

_LINEARS = selected(("linear",))
_MLP_NAMES = ("*MLP", "*FeedForward")
_ROUTER_WORDS = ("Router", "TopKGating")
_ROUTER_NAMES = ("gate", "router")


def class_names(kind: type[nn.Module]) -> tuple[str, ...]:
    """Return the names of a class and of its bases below ``nn.Module``, nearest first."""
    bases = kind.__mro__
    return tuple(base.__name__ for base in bases[: bases.index(nn.Module)])


def operator_of(module: nn.Module) -> str | None:
    """Return the canonical operator that ``module`` computes, None for a container and for what the table does not
    name.

    The name decides, not the type, so that the classes of another engine count too; subclasses count as their base.
    """
    return _operator_of_class(type(module))


def _operator_of_class(kind: type[nn.Module]) -> str | None:
    for name in class_names(kind):
        for operator in OPS.values():
            if any(fnmatchcase(name, glob) for glob in operator.modules):
                return operator.name
    return None


def is_mlp_block(module: nn.Module) -> bool:
    """Return True for a block named ``*MLP`` or ``*FeedForward`` that holds linears (of either layout)."""
    named = any(fnmatchcase(type(module).__name__, glob) for glob in _MLP_NAMES)
    return named and any(operator_of(inner) in _LINEARS for inner in module.modules() if inner is not module)


def is_router(path: str, modules: Mapping[str, nn.Module]) -> bool:
    """Return True where the module at ``path`` chooses experts; ``modules`` maps every path of the model to its module.

    Either its class says so (``MixtralTopKRouter``, ``GraniteMoeTopKGating``), or it is named ``gate`` or ``router``,
    stands beside ``experts``, and is a linear or holds one (HunYuan's ``gate.wg``). A gate on the output of a shared
    expert chooses nothing and is no router.
    """
    module = modules[path]
    if names_router(type(module).__name__):
        return True
    above, _, name = path.rpartition(".")
    if name not in _ROUTER_NAMES or not hasattr(modules.get(above), "experts"):
        return False
    return any(operator_of(inner) in _LINEARS for inner in module.modules())


def names_router(text: str) -> bool:
    """Return True where a class name, or a glob of class names, speaks of routers."""
    return any(word in text for word in _ROUTER_WORDS)


def router_of(path: str, modules: Mapping[str, nn.Module]) -> str | None:
    """Return the path of the router that the module at ``path`` is or lies in (some hold a linear), None elsewhere."""
    parts = path.split(".")
    above = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return next((candidate for candidate in above if candidate in modules and is_router(candidate, modules)), None)


@dataclass(frozen=True)
class ModelView:
    """The modules of a model by path, without the model itself; a module reachable by two paths has two entries.

    ``kinds`` holds what a module computes: a canonical operator or ``mlp``, None for other containers. ``routers``
    maps the modules of a router to the path of that router; one that multiplies by a weight of its own (and holds no
    linear) is of the kind ``linear``. Each weight of stacked experts stands among the modules as a
    :class:`StackedLinear` by its own path, so that what chooses linears chooses it too. ``beside`` holds the paths of
    what no prompt of text runs.
    """

    name: str
    modules: Mapping[str, nn.Module]
    kinds: Mapping[str, str | None]
    routers: Mapping[str, str]
    beside: frozenset[str] = frozenset()

    @classmethod
    def of(cls, model: nn.Module) -> ModelView:
        """Read the names of ``model``; no weight is touched."""
        every: dict[str, nn.Module] = {}
        for path, module in model.named_modules(remove_duplicate=False):
            every[path] = module
            every |= {f"{path}.{field}": StackedLinear(module, field) for field in stacked_fields(module)}
        paths = [path for path in every if path]
        routers = {path: router for path in paths if (router := router_of(path, every)) is not None}
        by_class = {kind: _operator_of_class(kind) for kind in {type(every[path]) for path in paths}}
        kinds: dict[str, str | None] = {}
        for path in paths:
            module = every[path]
            kinds[path] = "linear" if isinstance(module, StackedLinear) else by_class[type(module)]
            if kinds[path] is None and routers.get(path) == path and any(True for _ in module.parameters(False)):
                kinds[path] = "linear"
            elif kinds[path] is None and is_mlp_block(module):
                kinds[path] = MLP
        return cls(type(model).__name__, {path: every[path] for path in paths}, kinds, routers, beside_text(model))

    @property
    def operators(self) -> tuple[str, ...]:
        """The canonical operators that modules of the model compute, in the order of the table."""
        present = set(self.kinds.values())
        return tuple(name for name in OPS if name in present)
