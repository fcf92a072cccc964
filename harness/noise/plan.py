"""What a specification will perturb in a model, what it will not, and how often: the data of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.noise.paths import adapter_parts, matching
from harness.noise.selection import ROUTER_REASON, left_out
from harness.noise.sites import SDPA, Site
from harness.spec.noise import NoiseSpec

PROBE_TOKENS = 3
"""Tokens of the one forward that shows what a model runs."""

PRESENCE = "perturbed by a call of a function: counted in the ledger, what came of it is not compared with the product"
UNSCALED = "left alone, which is not compared, or not of all: what the block makes of it cannot be told from outside"
"""Why no audit compares what a site gave with its own product."""


@dataclass(frozen=True)
class Call:
    """One call of an operator of the table: its site, the path of modules it ran in, outermost first. ``told`` says
    whether the shape of its result says which rows belong to which item."""

    site: Site
    path: tuple[str, ...]
    told: bool = True


@dataclass(frozen=True)
class Probe:
    """``products[(module, dispatcher name)]`` counts matrix products; ``calls`` are the operators' calls in order;
    ``flops[module]`` the floating-point operations of its products in one forward of ``tokens`` tokens, and
    ``widths[module]`` the elements of one token in the tensor it gave (absent where that has no rows of tokens).
    ``attentions[module]`` holds, of each block that called transformers' attention interface, its query heads and the
    width of a token's heads together in what it got back. ``chosen[module]`` is how many of the stacked experts there a
    token chooses. ``compared`` are the names of the sites whose result an auditor compared with their own product in
    that forward; None where there were no values to compare. ``windows[module]`` are the keys that a query of an
    attention block sees at most, where they are limited."""

    products: Mapping[tuple[str, str], int]
    calls: tuple[Call, ...]
    flops: Mapping[str, int]
    widths: Mapping[str, int]
    attentions: Mapping[str, tuple[int, int]]
    tokens: int = PROBE_TOKENS
    chosen: Mapping[str, int] = field(default_factory=dict)
    compared: frozenset[str] | None = None
    windows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FunctionChoice:
    """Which function calls are perturbed: those of ``operators`` that no other way has.

    ``covered`` holds (module, operator) that other ways have, ``composites`` the modules whose inner calls belong to
    the module's own operator, ``routers`` the modules left out by default.
    """

    spec: NoiseSpec
    operators: frozenset[str]
    covered: frozenset[tuple[str, str]] = frozenset()
    composites: frozenset[str] = frozenset()
    routers: frozenset[str] = frozenset()

    def takes(self, site: Site, path: Sequence[str]) -> bool:
        """Return True where the call at ``site``, which runs inside the modules ``path``, is to be perturbed."""
        return (
            site.op in self.operators
            and (site.module, site.op) not in self.covered
            and self.composites.isdisjoint(path)
            and self.routers.isdisjoint(path)
            and left_out(site.module, self.spec) is None
            and not self._beside(site.module)
        )

    def _beside(self, module: str) -> bool:
        """True in a part of an adapter that no pattern names."""
        asking = matching(self.spec.include, module, whole=False)
        named = {component for pattern in asking for component in pattern.split(".")}
        return bool(parts := adapter_parts(module)) and named.isdisjoint(parts)


@dataclass(frozen=True)
class InjectionPlan:
    """The sites a specification perturbs and every product it leaves alone.

    ``excluded`` and ``uncovered`` map a product's name to the reason: excluded products could be asked for,
    uncovered ones cannot be reached in this model as it is loaded. ``functions`` chooses the calls that a function
    mode perturbs, None where there are none. ``probe`` is what a forward of the model showed. ``experts`` are the
    paths of the stacked experts that the specification asks for.
    """

    spec: NoiseSpec
    sites: tuple[Site, ...]
    excluded: Mapping[str, str]
    uncovered: Mapping[str, str]
    functions: FunctionChoice | None = None
    probe: Probe | None = field(default=None, compare=False, repr=False)
    experts: tuple[str, ...] = ()

    @property
    def uncompared(self) -> Mapping[str, str]:
        """Name -> reason, of the sites whose results no audit compares with their own products, and of the products of
        attention that are left alone without being compared; empty where the model had no weights."""
        compared = None if self.probe is None else self.probe.compared
        if compared is None:
            return {}
        perturbed = {site.name: PRESENCE for site in self.sites if site.point == "output"}
        alone = {
            name: UNSCALED
            for name, reason in (*self.excluded.items(), *self.uncovered.items())
            if reason != ROUTER_REASON and _is_of_block(name) and f"{name.partition(':')[0]}:{SDPA}" not in compared
        }
        return {name: reason for name, reason in (alone | perturbed).items() if name not in compared}


def _is_of_block(name: str) -> bool:
    """Whether ``name`` is that of a product in a block of others, the angle product aside."""
    return ":" in name and not name.endswith("angle")
