"""The engines by name: those of the package, and those of other distributions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from harness import extensions
from harness.engines import transformers
from harness.engines.protocol import EngineKind
from harness.engines.vllm import kind as vllm
from harness.exceptions import HarnessError
from harness.spec import ENGINE_GROUP, engine_names
from harness.text import nearest

ENGINES: Mapping[str, EngineKind] = MappingProxyType(
    {kind.name: kind for kind in (transformers.KIND, vllm.EAGER, vllm.COMPILED)}
)
"""Name -> row. A new one is a file beside this one, a row here and its name in ``harness.spec.evaluation``."""


def engine_kind(name: str) -> EngineKind:
    """Return the row of the engine called ``name``.

    Raises :class:`HarnessError` for an unknown name, and, naming the distribution, for an engine of another
    distribution that cannot be loaded, has a name that is taken, or is no :class:`EngineKind` of that name.
    """
    outside: EngineKind | None = extensions.load_checked(
        ENGINE_GROUP, "engine", name, ENGINES, lambda found: _fault(name, found)
    )
    if name in ENGINES:
        return ENGINES[name]
    if outside is None:
        raise HarnessError(f"unknown engine {name!r}", nearest(name, engine_names()))
    return outside


def _fault(name: str, outside: object) -> str:
    """What keeps ``outside`` from being an engine of that name, empty where nothing does."""
    if not isinstance(outside, EngineKind):
        return f"it is a {type(outside).__name__}, not an EngineKind"
    return "" if outside.name == name else f"it calls itself {outside.name!r}"
