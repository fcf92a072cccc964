"""The noise specification: which error, where, when, and how its draws are keyed (standard library only)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from harness.exceptions import NoiseSpecError
from harness.spec.errors import ErrorModel, RelativeGaussian
from harness.spec.operators import OPS, PROFILES, SCOPES, selected
from harness.spec.selectors import LISTS, PLACES, SELECTORS, print_noise
from harness.spec.tokens import Span, canonical, spans_of
from harness.text import nearest

KEY_MODES = ("item", "shared")
POINTS = ("output", "input", "weight")
DIRECTIONS = ("forward", "backward", "both")
PHASES = ("rollout", "training", "validation")
SOFTMAXES = ("as_drawn", "renormalised")
_PATTERN = re.compile(r"[A-Za-z0-9_*?\[\]!.-]+")
_BOUND = 2**63


@dataclass(frozen=True)
class NoiseSpec:
    """An error model, the places it acts on, the times it acts and the way its draws are keyed.

    Where: exactly one of ``ops`` (canonical operators), ``profile``, ``scope`` (a group of modules), ``modules``
    (globs of module paths, matching to the end of the path) and ``classes`` (globs of class names); none of them
    means ``ops=("linear",)``. ``layers`` restricts to inclusive ranges of layer numbers, ``include`` and ``exclude``
    to paths in which a glob matches whole components. ``at`` is the point of a module: its output, its input or its
    weight.

    When: ``when`` is forward, backward (the gradient of each input operand) or both; ``phases`` restricts to
    declared phases of a run, empty means always. ``tokens`` restricts to rows of some tokens of each sequence
    (:mod:`harness.spec.tokens`): ``prefill``, ``first``, ``decode``, ``decode:3-``, ``decode:3-7``, ``once:N``; empty
    means all of them. Where an engine is told no lengths of prompts it is refused.

    ``softmax`` is ``as_drawn`` or ``renormalised``: perturbed probabilities are then clamped at 0 and divided by their
    sum, as the ancestor did; the ledger measures the error before that.

    ``key`` is ``item`` (draws differ between items and are independent) or ``shared`` (one "chip": every item
    at a token position sees the same draws, so that noise seeds are crossed with items). ``seed`` keys the draws of
    forwards whose items were not given seeds of their own.

    Equal measurements are equal specifications: lists are put into one order, without duplicates. Raises
    :class:`NoiseSpecError` for unknown names, contradictions and values of another type.
    """

    error: ErrorModel = field(default_factory=RelativeGaussian)
    ops: tuple[str, ...] = ()
    key: str = "item"
    profile: str | None = None
    scope: str | None = None
    modules: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    at: str = "output"
    layers: tuple[tuple[int, int], ...] = ()
    tokens: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    when: str = "forward"
    phases: tuple[str, ...] = ()
    softmax: str = "as_drawn"
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_types()
        self._normalise_places()
        for name, value, known in (
            ("key", self.key, KEY_MODES),
            ("at", self.at, POINTS),
            ("when", self.when, DIRECTIONS),
            ("softmax", self.softmax, SOFTMAXES),
        ):
            if value not in known:
                rule = f"{name}:{f' or {name}:'.join(known)}"
                raise NoiseSpecError(f"unknown {_WORDS[name]} {value!r}", rule, nearest(str(value), known))
        for phase in self.phases:
            if phase not in PHASES:
                raise NoiseSpecError(f"unknown phase {phase!r}", nearest(phase, PHASES))
        object.__setattr__(self, "phases", tuple(phase for phase in PHASES if phase in self.phases))
        object.__setattr__(self, "layers", _merged(self.layers))
        self._check_tokens()
        for selector in ("module", "class", "include", "exclude"):
            self._check_patterns(selector)
        if not _is_count(self.seed):
            raise NoiseSpecError(f"noise seed {self.seed!r}", "a seed is an integer >= 0, below 2**63", "write seed:0")
        if self.at == "weight" and self.when != "forward":
            raise NoiseSpecError(
                f"at:weight when:{self.when}",
                "a perturbed weight acts in the forward pass, and through it in the gradient of the input",
                "drop when:, or drop at:weight to perturb gradients",
            )

    def _check_tokens(self) -> None:
        object.__setattr__(self, "tokens", canonical(self.tokens))
        if self.tokens and (self.at == "weight" or self.when != "forward"):
            clash = "at:weight" if self.at == "weight" else f"when:{self.when}"
            raise NoiseSpecError(
                f"tokens:{','.join(self.tokens)} {clash}",
                "weights and their gradients belong to no token, and gradients of a row come of rows after it",
                f"drop tokens: or {clash}",
            )

    def _check_types(self) -> None:
        if not isinstance(self.error, ErrorModel):
            raise NoiseSpecError(
                f"error {self.error!r}", "it is an error model", "give for example RelativeGaussian(0.05)"
            )
        for selector, name in SELECTORS.items():
            value = getattr(self, name)
            if selector in LISTS:
                # a lone string would be taken letter by letter
                if not isinstance(value, tuple | list) or (
                    selector != "layers" and not all(isinstance(entry, str) for entry in value)
                ):
                    raise NoiseSpecError(f"{name} {value!r}", "it is a list of names", f"give {name}=(...)")
                object.__setattr__(self, name, tuple(value))
            elif selector != "seed" and not isinstance(value, str) and not (selector in PLACES and value is None):
                raise NoiseSpecError(f"{name} {value!r}", "it is one name", f"write {selector}:NAME")

    def _normalise_places(self) -> None:
        given = [selector for selector in PLACES if getattr(self, SELECTORS[selector])]
        if len(given) > 1:
            raise NoiseSpecError(
                f"{' and '.join(given)} in one noise specification",
                "a place (op, profile, scope, module or class) may be given once",
                "keep one of them",
            )
        if self.profile is not None and self.profile not in PROFILES:
            raise NoiseSpecError(f"unknown profile {self.profile!r}", nearest(self.profile, PROFILES))
        if self.scope is not None and self.scope not in SCOPES:
            raise NoiseSpecError(f"unknown scope {self.scope!r}", nearest(self.scope, SCOPES))
        for op in self.ops:
            if op not in OPS:
                raise NoiseSpecError(f"unknown operator {op!r}", "an operator is one of the table", nearest(op, OPS))
        if not given or self.profile == "linear":
            object.__setattr__(self, "ops", PROFILES["linear"])
            object.__setattr__(self, "profile", None)
        # in the order of the table, without what another one includes: the same places are the same measurement
        covered = {inner for op in self.ops for inner in OPS[op].selects}
        object.__setattr__(self, "ops", tuple(op for op in OPS if op in self.ops and op not in covered))

    def _check_patterns(self, selector: str) -> None:
        patterns = getattr(self, SELECTORS[selector])
        for pattern in patterns:
            if not _PATTERN.fullmatch(pattern) or "" in pattern.split("."):
                raise NoiseSpecError(
                    f"pattern {pattern!r} in {selector}:",
                    "a pattern is a glob over the components of a module path",
                    "write for example model.layers.*.mlp",
                )
        object.__setattr__(self, SELECTORS[selector], tuple(dict.fromkeys(patterns)))

    @property
    def asked_ops(self) -> tuple[str, ...]:
        """The canonical operators asked for by ``ops`` or ``profile``; empty where modules are named instead."""
        return PROFILES[self.profile] if self.profile else self.ops

    @property
    def operators(self) -> frozenset[str]:
        """:attr:`asked_ops` and those they stand for (``linear`` selects ``conv1d``, ``matmul`` QK and PV)."""
        return selected(self.asked_ops)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The steps of the rows that are perturbed, as intervals; none where that is every row."""
        return spans_of(self.tokens)

    @property
    def forward(self) -> bool:
        """True where results of forward computations are perturbed."""
        return self.when != "backward"

    @property
    def backward(self) -> bool:
        """True where gradients are perturbed."""
        return self.when != "forward"

    @property
    def level(self) -> float | None:
        """The strength of the error model, None where it is left to the noise level."""
        return self.error.level

    @property
    def without_level(self) -> NoiseSpec:
        """The same specification with its strength left to the noise level."""
        return replace(self, error=self.error.without_level)

    def at_level(self, level: float) -> NoiseSpec:
        """Return the same specification with the error model's strength set (its unit; a fraction for relative
        models)."""
        return replace(self, error=self.error.at(level))

    def __str__(self) -> str:
        return print_noise(self)


_WORDS = {"key": "key mode", "at": "injection point", "when": "direction", "softmax": "softmax option"}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _BOUND


def _merged(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """The ranges sorted and joined where they touch: the same layers print the same."""
    found: list[tuple[int, int]] = []
    for entry in ranges:
        pair = isinstance(entry, tuple | list) and len(entry) == 2 and all(_is_count(number) for number in entry)
        if not pair or entry[1] < entry[0]:
            text = "-".join(map(str, entry)) if isinstance(entry, tuple | list) else repr(entry)
            raise NoiseSpecError(
                f"layers {text}", "a range is FIRST-LAST, from 0 upwards", "write for example layers:14-17"
            )
    for first, last in sorted(map(tuple, ranges)):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return tuple(found)
