"""What the evaluating process tells the engine's processes: which sites to perturb and what to quantize.

Travels as JSON in vLLM's ``additional_config``, so that it is part of the key of vLLM's compile cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from harness.exceptions import EvidenceError
from harness.noise.plan import InjectionPlan
from harness.noise.sites import SDPA, Site, find_sites
from harness.numerics.keyed_random import derive_key
from harness.revision import INJECTING
from harness.revision import revision as source_revision
from harness.spec import NoiseSpec, parse_noise

KEY = "robustness_harness"
"""Where the payload lies in ``additional_config``, and the key of ``SamplingParams.extra_args``."""

METHOD = "robustness_harness"
"""The name under which the quantization configuration is registered."""

NORM, ACTIVATION = "rms_norm", "silu"
NAMELESS = (NORM, ACTIVATION)
"""Operators whose layers vLLM does not tell their names."""

_SITE = ("name", "module", "op", "columns", "last_token_only", "way", "point", "occurrence", "arranged")


@dataclass(frozen=True)
class Payload:
    """The noise and the quantizations with their sites, by the names that transformers gives modules.

    ``run`` tells runs apart: engines of one process with equal payloads would share their operators. ``order`` lists,
    for operators whose layers vLLM gives no names, all modules of the model that compute them.
    """

    noise: NoiseSpec
    sites: tuple[Site, ...]
    quantizers: tuple[tuple[NoiseSpec, tuple[Site, ...]], ...] = ()
    run: str = ""
    order: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, plan: InjectionPlan, quantizers: Sequence[InjectionPlan], run: str = "") -> Payload:
        """Return the payload of plans made outside, on ``model``, which need not have weights."""
        order: dict[str, list[str]] = {op: [] for op in NAMELESS}
        for site in find_sites(model):
            if site.op in order:
                order[site.op].append(site.module)
        names = {op: tuple(modules) for op, modules in order.items()}
        return cls(plan.spec, plan.sites, tuple((each.spec, each.sites) for each in quantizers), run, names)

    def to_json(self) -> dict[str, Any]:
        """Return the text for ``additional_config``. It holds a digest of the code that perturbs, so that compiled code
        of another revision is never reused."""
        return {
            "revision": revision(),
            "run": self.run,
            "order": {op: list(names) for op, names in self.order.items()},
            "noise": str(self.noise),
            "sites": [_site_json(site) for site in self.sites],
            "quantizers": [
                {"spec": str(spec), "sites": [_site_json(site) for site in sites]} for spec, sites in self.quantizers
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Payload:
        """Return the inverse of :meth:`to_json`."""
        return cls(
            parse_noise(data["noise"]),
            tuple(Site(**site) for site in data["sites"]),
            tuple(
                (parse_noise(each["spec"]), tuple(Site(**site) for site in each["sites"]))
                for each in data["quantizers"]
            ),
            data["run"],
            {op: tuple(names) for op, names in data["order"].items()},
        )

    @property
    def handle(self) -> int:
        """Names the session in the operators' arguments, which compiled code keeps: the same in every process."""
        return derive_key("engine", str(sorted(self.to_json().items())))


def check_whole(devices: int) -> None:
    """Raise :class:`EvidenceError` for a model that is split over several ``devices``."""
    if devices > 1:
        raise EvidenceError(
            f"a model split over {devices} devices",
            "noise on the partial sums of a split product is another error model",
            "give each worker a whole model (--workers)",
        )


def site_number(name: str) -> int:
    """Return what names a site in the operators' arguments: a hash of its name, the same in every process and run."""
    return derive_key("engine site", name)


def module_of_attention(site: Site) -> str | None:
    """Return the attention block whose output ``site`` perturbs, None for other sites."""
    return site.module if site.op == SDPA else None


def revision() -> str:
    """Return 16 hex digits over the sources that decide what is injected."""
    return source_revision(INJECTING)


def _site_json(site: Site) -> dict[str, Any]:
    return {name: getattr(site, name) for name in _SITE}
