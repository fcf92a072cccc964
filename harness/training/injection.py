"""What a recipe perturbs: operator noise, quantization, AQN; each with the passes that it acts in (no torch)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.aqn.config import AqnConfig
from harness.aqn.multipliers import parse_multipliers
from harness.aqn.schedule import Schedule
from harness.aqn.targets import Targets
from harness.exceptions import HarnessError
from harness.spec.noise import NoiseSpec
from harness.spec.oneline import parse_noise
from harness.spec.quantization import quantization
from harness.text import nearest

ROLLOUT, OLD_LOG_PROB, REFERENCE = "rollout", "old_log_prob", "reference"
TRAINING_FORWARD, BACKWARD, VALIDATION = "training_forward", "backward", "validation"
PASSES = (ROLLOUT, OLD_LOG_PROB, REFERENCE, TRAINING_FORWARD, BACKWARD, VALIDATION)
SAME, INDEPENDENT, ONE_SIDE = "same", "independent", "one_side"
DRAWS = (SAME, INDEPENDENT, ONE_SIDE)
ACTOR = "actor"
SIDES = (ROLLOUT, ACTOR)
OUTPUT, INPUT = "output", "input"
HEAD = "lm_head"
BY_ITSELF = (HEAD, "embed_tokens", "lora_A", "lora_B", "base_layer")
"""Excludes of the sources that need no pattern here: heads, embeddings and adapters stay unless they are named, and a
weight under its adapter is hooked once."""


@dataclass(frozen=True)
class NoisePart:
    """Operator noise: ``spec`` in one line without ``when:`` and ``phase:``, which ``passes`` say instead.

    ``draws`` is ``same`` (actor and rollout draw alike), ``independent`` (two chips) or ``one_side`` (only one of them
    is noisy). ``validation`` among the passes adds a noisy validation under its own metric name; the clean one stays.
    """

    spec: str
    passes: tuple[str, ...]
    draws: str = SAME

    def __post_init__(self) -> None:
        found = parse_noise(self.spec)
        if found.when != "forward" or found.phases:
            raise HarnessError(
                f"noise.spec {self.spec!r}", "when and in which pass is said by noise.passes", "drop when: and phase:"
            )
        if found.tokens:
            raise HarnessError(
                f"noise.spec {self.spec!r}",
                "the passes of a training run are not told where prompts end",
                f"drop tokens:{','.join(found.tokens)}",
            )
        if found.level is None:
            raise HarnessError(f"noise.spec {self.spec!r}", "a training run has one level", "write it in the brackets")
        if found.level == 0:
            raise HarnessError(f"noise.spec {self.spec!r}", "a level of 0 perturbs nothing", "take [noise] out")
        if self.draws not in DRAWS:
            raise HarnessError(f"noise.draws {self.draws!r}", "it is one of a list", nearest(self.draws, DRAWS))
        if not self.passes:
            raise HarnessError("no noise.passes", "nothing would be perturbed", f"name some of {', '.join(PASSES)}")
        for name in self.passes:
            if name not in PASSES:
                raise HarnessError(f"noise pass {name!r}", "there is no such pass", nearest(name, PASSES))
        object.__setattr__(self, "passes", tuple(name for name in PASSES if name in self.passes))
        object.__setattr__(self, "spec", str(found))
        both = self.in_rollout and self.in_actor
        if both == (self.draws == ONE_SIDE):
            rule = "both sides are noisy" if both else "only one side is noisy"
            raise HarnessError(
                f"noise.draws {self.draws!r}", rule, "write same or independent" if both else "write one_side"
            )

    @property
    def in_rollout(self) -> bool:
        """Return whether training rollouts are noisy."""
        return ROLLOUT in self.passes

    @property
    def in_actor(self) -> bool:
        """Return whether any pass of the actor or the reference is noisy."""
        return any(name in self.passes for name in (OLD_LOG_PROB, REFERENCE, TRAINING_FORWARD, BACKWARD))

    def spec_in(self, name: str) -> NoiseSpec | None:
        """Return what acts in the pass ``name`` (a training pass as ``training_forward``), None where nothing does.

        The training pass and its gradient are one specification: forward, backward or both.
        """
        found = parse_noise(self.spec)
        if name == TRAINING_FORWARD:
            there = tuple(each for each in (TRAINING_FORWARD, BACKWARD) if each in self.passes)
            when = {(TRAINING_FORWARD,): "forward", (BACKWARD,): "backward", (TRAINING_FORWARD, BACKWARD): "both"}
            return replace(found, when=when[there]) if there else None
        return found if name in self.passes else None

    def expected_error(self, name: str) -> float:
        """Return the relative RMS error to expect in the pass ``name``, 0 where there is none or data decide it."""
        spec = self.spec_in(name)
        if spec is None or not spec.level:
            return 0.0
        return spec.error.expected_relative_rms(spec.level) or 0.0


@dataclass(frozen=True)
class QuantizationPart:
    """Fake quantization: ``weights`` and ``activations`` name a format, empty is 16 bits. W4A16 has weights alone.

    ``exclude`` are globs over whole components of a module's path. ``head`` quantizes the output head too.
    ``straight_through`` off is the fault of the sources' first W4A4 arms: no gradient passes. ``point`` is where
    activations are taken: ``input`` or ``output``.
    """

    weights: str = ""
    activations: str = ""
    exclude: tuple[str, ...] = ()
    head: bool = False
    sides: tuple[str, ...] = SIDES
    straight_through: bool = True
    point: str = INPUT

    def __post_init__(self) -> None:
        if not (self.weights or self.activations):
            raise HarnessError("a [quantization] of nothing", "weights or activations name a format", "name one")
        if self.point not in (INPUT, OUTPUT):
            raise HarnessError(f"quantization.point {self.point!r}", "it is input or output", "write input")
        if not self.sides or any(side not in SIDES for side in self.sides):
            raise HarnessError(
                f"quantization.sides {list(self.sides)}", f"they are of {', '.join(SIDES)}", "correct them"
            )
        object.__setattr__(self, "sides", tuple(side for side in SIDES if side in self.sides))
        object.__setattr__(self, "exclude", tuple(dict.fromkeys(self.exclude)))
        if self.head and HEAD in self.exclude:
            raise HarnessError(f"quantization.head with exclude {HEAD}", "one of them says the contrary", "drop one")
        self.specs()

    @property
    def bits(self) -> str:
        """Return W4A16, W16A4 or W4A4 (8 for formats of 8 bits)."""
        weights, activations = (_bits(name) for name in (self.weights, self.activations))
        return f"W{weights}A{activations}"

    @property
    def alike(self) -> bool:
        """Return whether rollout and actor hold the same numbers: weights alone, on both sides.

        Activations are not the same: the two sides sum in another order, and a difference of 1e-7 between them can flip
        a rounding by a whole step of the format.
        """
        return not self.activations and self.sides == SIDES

    def specs(self) -> tuple[NoiseSpec, ...]:
        """Return the specifications that act in every forward of :attr:`sides`: weights, then activations.

        The output head comes as specifications of its own; what is in :data:`BY_ITSELF` is in no exclude.
        """
        found = []
        exclude = tuple(sorted(pattern for pattern in self.exclude if pattern not in BY_ITSELF))
        for part, fmt in (("weights", self.weights), ("activations", self.activations)):
            if fmt:
                spec = quantization(part, fmt)
                at = OUTPUT if part == "activations" and self.point == OUTPUT else spec.at
                # results are quantized everywhere, also at the head, which stays by itself elsewhere
                left = tuple(sorted((*exclude, HEAD))) if at == OUTPUT else exclude
                found.append(replace(spec, at=at, exclude=left))
                if self.head:
                    found.append(replace(spec, at=at, include=(HEAD,)))
        return tuple(found)


@dataclass(frozen=True)
class AqnPart:
    """AQN on the rollout copy. ``epoch_aware`` gives each epoch ``stages_per_epoch`` stages and a warm-up of its own.

    ``multipliers`` is the one line of ``harness aqn``: ``uniform``, ``targeted:14-17``, ``layers:0=1.5,...``.
    """

    sigma_start: float
    sigma_end: float
    num_stages: int = 10
    epoch_aware: bool = False
    stages_per_epoch: int = 5
    layer_types: tuple[str, ...] = ("rmsnorm",)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    multipliers: str = "uniform"
    mode: str = "absolute"
    norm_dtype: str = "weights"
    force: bool = False

    def config(self, steps: int, epochs: int, layers: int, seed: int) -> AqnConfig:
        """Return AQN's settings for a run of ``steps`` steps in ``epochs`` on a model of ``layers`` layers.

        Raises :class:`HarnessError` for a schedule or multipliers that cannot be met.
        """
        stages, parts = (self.stages_per_epoch, epochs) if self.epoch_aware else (self.num_stages, 1)
        schedule = Schedule(self.sigma_start, self.sigma_end, steps, stages, parts)
        targets = Targets(*(tuple(sorted(set(each))) for each in (self.layer_types, self.include, self.exclude)))
        factors = parse_multipliers(self.multipliers, layers)
        return AqnConfig(schedule, targets, factors, self.mode, seed, self.norm_dtype, self.force)


def _bits(fmt: str) -> int:
    if not fmt:
        return 16
    return 4 if "4" in fmt else 8
