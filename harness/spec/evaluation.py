"""The specification of an evaluation: task, items, noise, levels and seeds (standard library only)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from harness import extensions
from harness.exceptions import HarnessError, NoiseSpecError
from harness.spec.errors import ErrorModel
from harness.spec.noise import NoiseSpec
from harness.spec.oneline import parse_noise
from harness.spec.quantization import check_quantization
from harness.spec.sampling import GREEDY, Sampling, sampling_of
from harness.text import nearest

SCORERS = ("strict", "flexible", "choice", "choice_norm", "pair", "greedy", "perplexity", "unscored")
"""Names of the scorers in the package: the rows of ``harness.scorers``."""
LM_EVAL = "lm_eval:"
"""What the names of lm-evaluation-harness's tasks and metrics begin with here."""
SCORER_GROUP = "robustness_harness.scorers"
"""The group of entry points by which other distributions add scorers."""
ATTENTIONS = ("auto", "eager", "sdpa")
DTYPES = ("float32", "bfloat16", "float16")
ENGINES = ("transformers", "vllm", "vllm-compiled")
"""Names of what runs the model, in the package: the rows of ``harness.engines.registry``, which imports torch."""
ENGINE_GROUP = "robustness_harness.engines"
"""The group of entry points by which other distributions add engines."""

DEFAULT_BATCH = 64
"""Sequences decoded together; no result depends on it."""

DEFAULT_LEVELS = (0.0, 0.05, 0.10)
TEMPLATE_DATE = "2024-07-26"
"""The day that a chat template is told it is, unless another is given: the one that Llama 3's own falls back to."""

ON_OFF = (0.0, 1.0)
"""The levels of an error model without a strength."""


@dataclass(frozen=True)
class EvalSpec:
    """Everything an evaluation does, apart from the checkpoint and where its records go.

    ``items`` counts items (None: all); ``noise_seeds`` counts seeds 0..n-1 per noisy level; ``levels`` are sorted,
    level 0 is the clean one, the others are strengths of the noise's error model: see :func:`check_levels`.
    ``data`` is the text of a path, or None. ``quantization`` holds at every level, the clean one
    included. The noise leaves its strength to the levels and acts in the forward pass at all times. ``template_date``
    (YYYY-MM-DD) is what a chat template that asks for the date is told. ``fewshot`` examples stand before each
    question, from the task's own items (never one that is evaluated), or from the file ``fewshot_data``; ``system`` is
    a system message before them; ``apply_chat_template`` None means as the task says. ``prefix_token`` is the
    token (its text, or its number) on which a continuation without context is conditioned where log-likelihoods are
    scored; None: as lm-evaluation-harness, the beginning of a sequence, or else its end. With a ``temperature`` above 0
    answers are sampled (``top_p``: :class:`harness.spec.sampling.Sampling`), and ``noise_seeds`` counts the draws of
    every level, the clean one included: draw d has noise seed d and sampling seed d.

    Raises :class:`HarnessError` for settings out of range.
    """

    task: str
    data: str | None = None
    items: int | None = 200
    item_seed: int = 0
    levels: tuple[float, ...] = DEFAULT_LEVELS
    noise_seeds: int = 5
    noise: NoiseSpec = field(default_factory=NoiseSpec)
    scorer: str | None = None
    max_new_tokens: int | None = None
    attention: str = "auto"
    dtype: str = "float32"
    engine: str = ENGINES[0]
    positive_control: bool = True
    quantization: tuple[NoiseSpec, ...] = ()
    template_date: str = TEMPLATE_DATE
    fewshot: int = 0
    fewshot_data: str | None = None
    system: str | None = None
    apply_chat_template: bool | None = None
    prefix_token: str | None = None
    temperature: float = 0.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.items is not None and self.items < 1:
            raise HarnessError(f"--items {self.items}", "at least one item is needed", "give a positive number")
        if self.noise_seeds < 1:
            raise HarnessError(f"--noise-seeds {self.noise_seeds}", "at least one seed is needed", "give 1 or more")
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise HarnessError(f"--max-new-tokens {self.max_new_tokens}", "at least one token must be generated")
        for option, value, known in (
            ("--scorer", self.scorer, scorers_like(self.scorer)),
            ("--attention", self.attention, ATTENTIONS),
            ("--dtype", self.dtype, DTYPES),
            ("--engine", self.engine, ENGINES if self.engine in ENGINES else engine_names()),
        ):
            if value is not None and value not in known:
                raise HarnessError(f"{option} {value}", nearest(value, known))
        self._check_noise()
        self._check_date()
        self._check_prompting()
        sampling_of(self.temperature, self.top_p)
        object.__setattr__(self, "quantization", check_quantization(self.quantization))
        object.__setattr__(self, "levels", check_levels(self.levels, self.noise.error))

    def _check_noise(self) -> None:
        strength = self.noise.error.strength
        if strength is not None and self.noise.level is not None:
            raise NoiseSpecError(
                f"the noise {self.noise} has a {strength} and --noise-levels gives another",
                f"the {strength} may come from one place only",
                f"write {self.noise.without_level} or drop --noise-levels",
            )
        if self.noise.backward:
            raise NoiseSpecError(
                f"when:{self.noise.when} in an evaluation", "an evaluation has no backward pass", "drop when:"
            )
        if self.noise.seed:
            raise NoiseSpecError(
                f"seed:{self.noise.seed} in an evaluation", "every item has noise seeds of its own", "use --noise-seeds"
            )
        if self.noise.phases:
            raise NoiseSpecError(
                f"phase:{','.join(self.noise.phases)} in an evaluation", "an evaluation has no phases", "drop phase:"
            )

    def _check_prompting(self) -> None:
        if isinstance(self.fewshot, bool) or not isinstance(self.fewshot, int) or self.fewshot < 0:
            raise HarnessError(f"--fewshot {self.fewshot!r}", "it counts examples", "give 0 or more")
        if self.fewshot_data is not None and not self.fewshot:
            rule, way_out = "nothing would read it", "give --fewshot N, or leave it out"
            raise HarnessError(f"--fewshot-data {self.fewshot_data} without --fewshot", rule, way_out)
        if self.system is not None and not self.system.strip():
            raise HarnessError(f"--system {self.system!r}", "it is a message", "give a text, or leave it out")

    def _check_date(self) -> None:
        try:
            sound = date.fromisoformat(self.template_date).isoformat() == self.template_date
        except (TypeError, ValueError):
            sound = False
        if not sound:
            raise HarnessError(
                f"--template-date {self.template_date}",
                "a day is written YYYY-MM-DD",
                f"give for example {TEMPLATE_DATE}",
            )

    @property
    def sampling(self) -> Sampling | None:
        """How tokens are drawn, None where the largest logit decides."""
        return sampling_of(self.temperature, self.top_p)

    @property
    def decoding(self) -> str:
        """What the measurement key says of how tokens are chosen."""
        return str(self.sampling or GREEDY)

    def seeds_at(self, level: float) -> tuple[int, ...]:
        """Return the noise seeds run at ``level``: one where there is neither noise nor sampling, else
        0..noise_seeds-1."""
        return (0,) if level == 0 and self.sampling is None else tuple(range(self.noise_seeds))

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary, the noise as its one line."""
        quantization = [str(spec) for spec in self.quantization]
        plain = asdict(self) | {"noise": str(self.noise), "levels": list(self.levels), "quantization": quantization}
        if self.sampling is None:  # as in the runs that were made before there was any
            del plain["temperature"], plain["top_p"]
        return plain

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EvalSpec:
        """Return the inverse of :meth:`to_json`."""
        quantization = tuple(parse_noise(line) for line in data.get("quantization", ()))
        read = {"noise": parse_noise(data["noise"]), "levels": tuple(data["levels"]), "quantization": quantization}
        return cls(**{**data, **read})


def scorer_names() -> tuple[str, ...]:
    """Return the names of all scorers: the package's own first, then those of other distributions."""
    return tuple(dict.fromkeys((*SCORERS, *extensions.names(SCORER_GROUP))))


def scorers_like(name: str | None) -> tuple[str, ...]:
    """Return the names of scorers among which ``name`` must be; those of lm-eval's metrics are not listed."""
    if name is not None and (name in SCORERS or "," in name.removeprefix(LM_EVAL) != name):
        return (name,)
    return scorer_names()


def engine_names() -> tuple[str, ...]:
    """Return the names of all engines: the package's own first, then those of other distributions."""
    return tuple(dict.fromkeys((*ENGINES, *extensions.names(ENGINE_GROUP))))


def default_levels(error: ErrorModel) -> tuple[float, ...]:
    """Return the levels where none are given: 0, 5 and 10 %, or off and on for a model without a strength."""
    return ON_OFF if error.strength is None else DEFAULT_LEVELS


def check_levels(levels: Iterable[float], error: ErrorModel | None = None) -> tuple[float, ...]:
    """Return the levels, sorted; none twice, 0 among them (the clean reference).

    Each is a fraction in [0, 1); for an ``error`` whose strength is in the unit of the perturbed value any finite
    number >= 0; for one without a strength they are 0 and 1, off and on. Raises :class:`HarnessError`.
    """
    found = tuple(sorted(level + 0.0 for level in levels))  # -0.0 becomes 0.0
    if error is not None and error.strength is None:
        if found != ON_OFF:
            raise HarnessError(
                f"noise levels {_listed(found)}",
                f"{error.name} has no strength, it is off or on",
                "give the levels 0,1",
            )
        return found
    absolute = error is not None and error.unit == "value"
    rule, way_out = "a level is a fraction in [0, 1)", "5 % is written 0.05"
    if error is not None and absolute:
        rule, way_out = f"a level of {error.name} is a finite number >= 0", "give it in the unit of the perturbed value"
    for level in found:
        if not (math.isfinite(level) and level >= 0 and (absolute or level < 1)):
            raise HarnessError(f"noise level {level:g}", rule, way_out)
    if len(set(found)) != len(found):
        raise HarnessError(f"noise levels {_listed(found)}", "a level is given twice", "give each level once")
    if not found or found[0] != 0:
        raise HarnessError(f"noise levels {_listed(found)}", "level 0 is the clean reference of all others", "add 0")
    return found


def parse_levels(text: str, error: ErrorModel | None = None) -> tuple[float, ...]:
    """Return ``"0,0.05,0.10"`` -> the levels, by the rules of :func:`check_levels`. Raises :class:`HarnessError`."""
    try:
        return check_levels((float(part) for part in text.split(",")), error)
    except ValueError:
        raise HarnessError(f"noise levels {text!r}", "a comma-separated list of fractions", "0,0.05,0.10") from None


def _listed(levels: tuple[float, ...]) -> str:
    return ",".join(f"{level:g}" for level in levels) or "()"
