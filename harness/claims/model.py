"""The registry as frozen dataclasses: experiments with their values, integrity facts, claims and what they rest on.

Units: accuracies, shares and their differences are percent and percentage points, as the sources print them; inference
noise is a fraction; other metrics have the unit of their source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OFF, UNSTATED = "off", "unstated"
"""A factor that a configuration does not name is off; one whose value no source tells is unstated."""

HEADS: Mapping[str, tuple[str, ...]] = {
    "noise": ("noise_sites", "noise_phases", "router_noise"),
    "quant": ("quant_bits", "quant_scope", "quant_blocks"),
    "aqn": ("aqn_sigma", "aqn_schedule", "aqn_layers"),
}
"""Factor -> the factors that mean nothing where it is off, and that a claim about it is about as well."""

TRAINING = (
    "algorithm",
    "adaptation",
    "epochs",
    "batch",
    "sampling",
    "filter_groups",
    "updates_per_step",
    *HEADS["aqn"],
)
"""Factors that have not acted yet at step 0."""

FACTORS = (
    *("model", "task", "data", "hardware", "ste", "hook", "checkpoint", "guidance", "probe_seed", "controls"),
    *("inference_noise", "step", "apply_during"),
    *HEADS,
    *(name for names in HEADS.values() for name in names if name not in TRAINING),
    *TRAINING,
)
MEASURED = ("engine", "noise", "scorer", "prompt", "base", "sampled")
"""What a value depends on besides its run: who generated, which noise was on, how answers were read."""

IN_TRAINING, NATIVE, VLLM, OFFLINE, EXTERNAL = "in-training", "native", "vllm", "offline", "external"
ENGINES = (IN_TRAINING, NATIVE, VLLM, OFFLINE, EXTERNAL)
NOISE_LETTERS: Mapping[str, tuple[str, ...]] = {
    "N": ("noise", *HEADS["noise"]),
    "Q": ("quant", *HEADS["quant"], "ste", "hook"),
    "A": ("aqn", *HEADS["aqn"]),
}
"""Letter of what was on at the evaluation -> the factors it follows from. ``C``, clean, is none of them."""

LETTER_WORDS: Mapping[str, str] = {"N": "injected noise", "Q": "fake quantization", "A": "AQN"}

ACCURACY = "accuracy"
PERCENT_METRICS = (ACCURACY, "train_score", "similarity", "identical_share", "problem_share", "deadzone", "clipped")
METRICS = (*PERCENT_METRICS, "difference", "loss", "speed", "entropy", "relative_error", "sqnr", "worst_layer", "hours")

STATUSES = ("done", "ended early", "aborted", "crashed", "no result", "planned", "external")
ABSENT, DUPLICATE, COPIED, NO_ARTEFACT, CAUTION = "absent", "duplicate", "copied", "no_artefact", "caution"
FACT_KINDS = (ABSENT, DUPLICATE, COPIED, NO_ARTEFACT, CAUTION)

Step = int | str


@dataclass(frozen=True)
class Value:
    """One published number. ``n`` items (None: not told), ``seeds`` runs or draws behind it, ``sd`` between them."""

    metric: str
    step: Step
    level: float
    value: float
    n: int | None
    seeds: int
    sd: float | None
    measured: Mapping[str, str]
    sources: tuple[str, ...]

    @property
    def engine(self) -> str:
        """Who generated the answers."""
        return self.measured.get("engine", IN_TRAINING)

    @property
    def place(self) -> tuple[str, Step, float, str]:
        """Values of one experiment at one place are the same number; where they differ, they contradict each other."""
        return self.metric, self.step, self.level, self.engine


@dataclass(frozen=True)
class Experiment:
    """One training or measurement as configured; ``label`` is the name in the sources, which several may share."""

    id: str
    label: str
    title: str
    section: str
    status: str
    config: Mapping[str, str]
    values: tuple[Value, ...] = ()


@dataclass(frozen=True)
class Fact:
    """What an inspection of code, logs or files found about experiments. ``failure`` is the entry it is described in.

    absent: ``factor`` was configured and really was ``effective`` (in values of ``engine``, where given);
    duplicate: the experiments repeat the record of ``of``; copied: their value at ``step`` is that of ``of``;
    no_artefact: no log, checkpoint or raw data is left; caution: worth knowing, changes no verdict.
    """

    id: str
    kind: str
    failure: str
    experiments: tuple[str, ...]
    text: str
    factor: str = ""
    effective: str = ""
    engine: str = ""
    of: str = ""
    step: Step | None = None


@dataclass(frozen=True)
class Place:
    """Where a value of an experiment stands: step, inference noise (fraction), engine, metric; ``n`` narrows it."""

    experiment: str
    step: Step
    level: float = 0.0
    engine: str = IN_TRAINING
    metric: str = ACCURACY
    n: int | None = None

    def __str__(self) -> str:
        words = [f"{self.experiment}@{self.step}"]
        words += [self.engine] if self.engine != IN_TRAINING else []
        words += [f"at {100 * self.level:g} % noise"] if self.level else []
        return " ".join(words)


DIFFERENCE, EQUIVALENCE, INTERACTION = "difference", "equivalence", "interaction"
PREDICTION, RATE, IDENTICAL, FORMULA = "prediction", "rate", "identical", "formula"
KINDS = (DIFFERENCE, EQUIVALENCE, INTERACTION, PREDICTION, RATE, IDENTICAL, FORMULA)
RESTS_ON, CHECK, CONTEXT = "rests_on", "check", "context"
ROLES = (RESTS_ON, CHECK, CONTEXT)
PLACES: Mapping[str, int] = {
    **{DIFFERENCE: 2, EQUIVALENCE: 2, INTERACTION: 4},
    **{PREDICTION: 1, RATE: 1, IDENTICAL: 1, FORMULA: 0},
}
"""Kind -> how many places it names: arm, reference, and for an interaction their own references."""


@dataclass(frozen=True)
class Comparison:
    """What a claim says of numbers. The places are (arm, reference), or (a, b, c, d) for (a - b) - (c - d).

    ``sign`` is the claimed direction (+1, -1), ``claimed`` the claimed size (low and high, equal for one number),
    ``margin`` the size of a difference that counts as none, ``gap`` two places between which the effect is to help.
    """

    kind: str
    role: str
    places: tuple[Place, ...]
    sign: int = 0
    claimed: tuple[float, float] | None = None
    margin: float | None = None
    gap: tuple[Place, Place] | None = None
    formula: str = ""
    inputs: Mapping[str, float | tuple[float, ...]] = field(default_factory=dict)

    @property
    def experiments(self) -> tuple[str, ...]:
        """The experiments named, each once."""
        return tuple(dict.fromkeys(place.experiment for place in self.places))


@dataclass(frozen=True)
class Claim:
    """A published sentence in short words, the factors it gives as the cause, and the comparisons it rests on."""

    id: str
    claim: str
    sources: tuple[str, ...]
    factors: tuple[str, ...]
    comparisons: tuple[Comparison, ...] = ()

    @property
    def about(self) -> frozenset[str]:
        """The claimed factors with those that belong to them."""
        return frozenset(self.factors).union(*(HEADS.get(factor, ()) for factor in self.factors))


@dataclass(frozen=True)
class TheoryArm:
    """An arm of the pre-registered theory and the published experiment, if any, that stands for it."""

    name: str
    experiment: str | None
    step: Step | None
    engine: str
    text: str


@dataclass(frozen=True)
class Registry:
    """Everything published: source code -> name, experiments by id, facts, claims in order, arms of the theory."""

    sources: Mapping[str, str]
    experiments: Mapping[str, Experiment]
    facts: tuple[Fact, ...]
    claims: tuple[Claim, ...]
    theory: tuple[TheoryArm, ...] = ()

    def facts_of(self, experiment: str, *kinds: str) -> tuple[Fact, ...]:
        """Return the facts about ``experiment``, of all kinds or of those given."""
        return tuple(f for f in self.facts if experiment in f.experiments and (not kinds or f.kind in kinds))

    def values_at(self, place: Place) -> tuple[Value, ...]:
        """Return what is published at ``place``; several values contradict each other."""
        wanted = place.metric, place.step, place.level, place.engine
        found = self.experiments[place.experiment].values
        return tuple(value for value in found if value.place == wanted and place.n in (None, value.n))
