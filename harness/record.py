"""What an evaluation leaves behind, as frozen dataclasses (standard library only).

Units: accuracies, levels, margins and differences are fractions (0.05 is 5 %, or 5 percentage points
where it is a difference); token counts are integers; energies are sums of squares, unitless.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from harness import likelihoods
from harness.coverage import Coverage

SCHEMA_VERSION = 4
"""Of run folders. Version 3 had the two scores of a number in columns of their own and told counts of quantizers by
their operator's name; version 2 had no checksums of its tables, no coverage and no code identity."""

CHECKED_SINCE = 3
"""The first schema version with checksums of tables, coverage and code identity."""

RIGHT, WRONG, UNPARSED, TRUNCATED, ERROR = "right", "wrong", "unparsed", "truncated", "error"
MEASURED = "measured"
REASONS = (RIGHT, WRONG, UNPARSED, TRUNCATED, ERROR, MEASURED)
"""Why an outcome has its score. ``unparsed``, ``truncated`` and ``error`` have none (``None``), nor has ``measured``:
its values are log-likelihoods, of which none is right or wrong."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The score of one (item, level, seed): 1.0 or 0.0, or ``None`` with the reason it has none.

    ``unparsed`` and ``truncated`` are the model's doing: it was measured and gave no answer, so it counts
    as not right on either side of a comparison. ``error`` is a failure of the measurement and is
    worst-cased, as a missing item is.
    """

    score: float | None
    reason: str

    @property
    def measured(self) -> bool:
        """False where the engine failed, so that nothing is known about the model."""
        return self.reason != ERROR

    @property
    def right(self) -> float:
        """1.0 for a right answer, else 0.0 (also for outcomes without a score)."""
        return self.score or 0.0


@dataclass(frozen=True, slots=True)
class TextOutcome(Outcome):
    """The log-likelihood of one (document, level, seed): ``nats`` (natural logarithm), None where it is not finite, of
    so many ``tokens``. It has no score."""

    nats: float | None = None
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class ItemResult:
    """One row of a run: a single generation for one item at one noise level and noise seed.

    ``scores`` holds every value that the run's scorer gave the text, by name (None where it could read nothing), and
    ``score`` the primary one, which comparisons go by: None where ``reason`` says why there is none.
    """

    item: str
    level: float
    seed: int
    score: float | None
    reason: str
    answer: str | None
    scores: Mapping[str, float | None]
    prompt_tokens: int
    tokens: tuple[int, ...]
    text: str
    truncated: bool
    logits: tuple[float, ...] = field(default=(), compare=False, repr=False)
    """The logit of every token generated, the end of sequence included, as the engine computed it: evidence that a
    replay is held against. Stored apart from the record, and read apart."""

    @property
    def outcome(self) -> Outcome:
        """The part of the row that comparisons use."""
        return Outcome(self.score, self.reason)

    @property
    def steps(self) -> int:
        """Tokens generated, the end-of-sequence token included."""
        return len(self.tokens) + (0 if self.truncated else 1)

    @property
    def fed(self) -> int:
        """Tokens fed through the model: the last one generated never is."""
        return self.prompt_tokens + self.steps - 1

    @property
    def head_rows(self) -> int:
        """Tokens whose logits were computed: one for each token generated."""
        return self.steps

    @property
    def seen(self) -> int:
        """(token, key) pairs of causal attention: a token sees itself and all before it."""
        return self.fed * (self.fed + 1) // 2

    @property
    def sequences(self) -> tuple[tuple[int, int, int], ...]:
        """What was fed, sequence by sequence: tokens of the prompt, tokens generated (or scored), and the first step
        (:mod:`harness.spec.tokens`) whose logits were computed."""
        return ((self.prompt_tokens, self.steps, 0),)

    @property
    def decoded(self) -> bool:
        """True where a forward followed the prefill."""
        return self.steps > 1

    def same_answer(self, other: ItemResult) -> bool:
        """Return whether ``other`` is the same answer, token by token."""
        return self.tokens == other.tokens

    @property
    def told(self) -> str:
        """What tells this answer from others, but not from one that differs in the last bits of products alone."""
        return repr((self.tokens, self.truncated))


CHANGED_NATS = 1e-3
"""From this distance on two log-likelihoods (nats) are not the same answer: the last bits of products move one in
float32 by 1e-5, noise by more than 0.1."""


@dataclass(frozen=True, slots=True)
class LikelihoodResult(ItemResult):
    """One row of a run that scores continuations: the answers to the requests of one item, in its ``text``.

    ``tokens`` are the scored ones of all requests, one after the other, ``prompt_tokens`` counts those conditioned on,
    ``logits`` holds the log-probability (nats) of each scored token. Each request is one forward over all its tokens
    but the last one.
    """

    @property
    def requests(self) -> tuple[likelihoods.Scored, ...]:
        """The answers, in the order of the requests."""
        return likelihoods.read(self.text) if self.text else ()

    @property
    def steps(self) -> int:
        """Tokens scored."""
        return len(self.tokens)

    @property
    def fed(self) -> int:
        """Tokens fed through the model: all but the last one of each request."""
        return self.prompt_tokens + len(self.tokens) - len(self.requests)

    @property
    def head_rows(self) -> int:
        """Tokens whose logits were computed: all that were fed."""
        return self.fed

    @property
    def seen(self) -> int:
        """(token, key) pairs of causal attention, request by request."""
        return sum(each.fed * (each.fed + 1) // 2 for each in self.requests)

    @property
    def sequences(self) -> tuple[tuple[int, int, int], ...]:
        """One for each request: its context is the prompt, and the logits of all that is fed were computed."""
        return tuple((each.context, each.tokens, 1 - each.context) for each in self.requests)

    @property
    def decoded(self) -> bool:
        """False: one forward feeds everything."""
        return False

    def same_answer(self, other: ItemResult) -> bool:
        """Return whether every log-likelihood of ``other`` is the same within :data:`CHANGED_NATS`."""
        if not isinstance(other, LikelihoodResult):
            return False
        one, two = ([each.nats for each in result.requests] for result in (self, other))
        return len(one) == len(two) and all(
            a == b or (a is not None and b is not None and abs(a - b) <= CHANGED_NATS)
            for a, b in zip(one, two, strict=True)
        )

    @property
    def told(self) -> str:
        """What was chosen, and which continuations were greedy: tokens are given, and sums differ in the last bits."""
        return repr((self.answer, self.score, [each.greedy for each in self.requests]))


FORWARD, RECOMPUTE, BACKWARD = "forward", "recompute", "backward"
"""Directions of a ledger: a result, the same result recomputed for a backward pass, the gradient of an operand."""


NOISE, QUANTIZER = "noise", "quantizer"
"""Kinds of a ledger's counts: what acted at the site."""


@dataclass(frozen=True)
class SiteCount:
    """What the ledger saw at one site and level.

    ``layer`` is the decoder layer (None outside them), ``direction`` forward, recompute or backward, ``operand`` the
    operand whose gradient it was, ``phase`` the declared phase (empty: none), ``kind`` what acted (the noise or a
    quantizer), ``process`` machine and process id.
    ``calls`` counts operator calls, ``rows`` token rows (padding excluded), ``elements`` output elements,
    ``changed`` those whose value differs after the perturbation, ``nonzero`` those that were not 0 before;
    ``signal`` is sum y^2, ``error`` sum (y'-y)^2, ``relative`` sum ((y'-y)/y)^2 over non-zero elements.
    """

    site: str
    op: str
    level: float
    layer: int | None = None
    direction: str = FORWARD
    operand: str = ""
    phase: str = ""
    kind: str = NOISE
    process: str = ""
    calls: int = 0
    rows: int = 0
    elements: int = 0
    changed: int = 0
    nonzero: int = 0
    nonfinite: int = 0
    signal: float = 0.0
    error: float = 0.0
    relative: float = 0.0

    @property
    def identity(self) -> tuple[Any, ...]:
        """Everything that says what was counted, the process included; counts with equal identities may be added."""
        return tuple(getattr(self, f.name) for f in fields(self)[:IDENTITY_FIELDS])

    @property
    def label(self) -> str:
        """The site's name, with direction, operand and phase where they are not the plain forward ones."""
        words = [self.site]
        if self.direction != FORWARD:
            words.append(f"{self.direction}:{self.operand}" if self.operand else self.direction)
        return " ".join([*words, self.phase] if self.phase else words)

    def __add__(self, other: SiteCount) -> SiteCount:
        """Counts of the same site, level, direction, operand and phase, added (ledgers of several batches or
        processes merge so; counts of different processes add up to one of no process)."""
        process = self.process if self.process == other.process else ""
        first, second = replace(self, process=process), replace(other, process=process)
        if first.identity != second.identity:
            raise ValueError(
                f"cannot add the counts of {self.label} at {self.level} and {other.label} at {other.level}"
            )
        names = [f.name for f in fields(self)[IDENTITY_FIELDS:]]
        return replace(first, **{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def relative_rms(self) -> float:
        """Root mean square of dy/y over non-zero elements (fraction); 0 where there are none."""
        return (self.relative / self.nonzero) ** 0.5 if self.nonzero else 0.0


IDENTITY_FIELDS = 9
"""How many of the first fields of :class:`SiteCount` say what was counted; the rest are numbers that add up."""


def kind_of(op: str) -> str:
    """Return the kind of a count that was written without one: until schema 4 the operator's name told quantizers."""
    return QUANTIZER if op.endswith((":weight", ":input")) else NOISE


PREFILL, DECODE = "prefill", "decode"
"""Phases of an audit: forwards over prompts, and forwards over the tokens after them."""


@dataclass(frozen=True)
class LevelCertificate:
    """Proof, or lack of it, that one noise level was really injected as asked."""

    level: float
    sites: int
    expected_rows: int
    counted_rows: int
    elements: int
    changed: int
    rms_low: float
    rms_high: float
    audited: int
    problems: tuple[str, ...] = ()
    quantization: tuple[str, ...] = ()
    """What shows that the quantization was on, a line for each part; empty where nothing is quantized."""

    @property
    def valid(self) -> bool:
        """True where nothing speaks against the level."""
        return not self.problems


@dataclass(frozen=True)
class ControlResult:
    """The positive control: a known-lethal scale must hurt. Accuracies are fractions of ``items``."""

    scale: float
    items: int
    clean_right: int
    noisy_right: int
    outputs_changed: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class LevelReplay:
    """What a second implementation made of some records of one level, or why it made nothing of them.

    ``records`` of the ``wanted`` ones that the rule chose of ``of`` were replayed, ``tokens`` compared; at ``ties`` of
    them another token was best within the tie bound; ``drift`` is the largest distance of a logit computed twice.
    ``reason`` says why the level was not replayed. ``in_memory`` is True where a record was replayed on the model in
    memory, with its code as it was, for want of memory for a second one.
    """

    level: float
    implementation: str = ""
    records: int = 0
    wanted: int = 0
    of: int = 0
    tokens: int = 0
    ties: int = 0
    drift: float = 0.0
    reason: str = ""
    problems: tuple[str, ...] = ()
    in_memory: bool = False


@dataclass(frozen=True)
class Repetition:
    """Whether ``items`` clean answers (of ``wanted``), generated twice in the same batch, had equal tokens;
    ``difference`` says in words where not: the engine is then called nondeterministic."""

    items: int
    wanted: int
    difference: str = ""


NOT_REPLAYED = "it was not replayed by a second implementation: made before that was required; evaluate it again"

CERTIFIED, EXTERNAL, INVALID_EVIDENCE = "certified", "external, uncertified", "invalid"


@dataclass(frozen=True)
class Certificate:
    """The evidence a run carries. ``status`` is one of certified / external, uncertified / invalid.

    ``notes`` are what every report says in its first lines; they change no verdict. ``coverage`` is None for
    external runs and for those of older versions. ``replays`` is what a second implementation found, level by level.
    ``uncontrolled`` is True where a run asked for no positive control.
    """

    status: str
    levels: tuple[LevelCertificate, ...] = ()
    control: ControlResult | None = None
    problems: tuple[str, ...] = ()
    coverage: Coverage | None = None
    notes: tuple[str, ...] = ()
    replays: tuple[LevelReplay, ...] = ()
    repetition: Repetition | None = None
    uncontrolled: bool = field(default=False, compare=False)

    @property
    def nondeterministic(self) -> str:
        """In what the engine was seen not to repeat itself, in words; empty where it did. Differences between two
        runs of it are then its own doing, and no verdict on a checkpoint may rest on them."""
        return "" if self.repetition is None else self.repetition.difference

    @property
    def replayed(self) -> bool:
        """True where everything that was to be replayed or repeated was (or is said why not)."""
        repeated = self.repetition is None or self.repetition.items >= self.repetition.wanted
        return repeated and all(entry.records >= entry.wanted for entry in self.replays)

    def checked(self) -> Certificate:
        """Return this certificate, invalid where a level was not replayed: made before that was required, or cut."""
        lacking = {entry.level for entry in self.levels} - {entry.level for entry in self.replays}
        if self.status != CERTIFIED or not lacking:
            return self
        return replace(self, status=INVALID_EVIDENCE, problems=(*self.problems, NOT_REPLAYED))

    def problems_at(self, level: float) -> tuple[str, ...]:
        """Return everything that speaks against ``level``: problems of the whole run and of the level itself."""
        if self.status == EXTERNAL:
            if level == 0:
                return ()
            return (f"external, uncertified: nothing proves that noise was on at level {level:g}",)
        own = [entry for entry in self.levels if entry.level == level]
        found = list(self.problems) + [problem for entry in own for problem in entry.problems]
        if not own:
            found.append(f"no ledger for level {level:g}")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for JSON; levels at which nothing is quantized say nothing of it, nor do ordinary
        replays of the memory that they had."""
        found = asdict(self)
        del found["uncontrolled"]  # the missing control says it
        for name in ("coverage", "notes"):
            if not found[name]:
                del found[name]
        for level in found["levels"]:
            if not level["quantization"]:
                del level["quantization"]
        for replay in found["replays"]:
            if not replay["in_memory"]:
                del replay["in_memory"]
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Certificate:
        """Return the inverse of :meth:`to_json`."""
        control = data.get("control")
        levels = tuple(
            LevelCertificate(**{**entry, **{name: tuple(entry.get(name, ())) for name in ("problems", "quantization")}})
            for entry in data.get("levels", ())
        )
        replays = tuple(
            LevelReplay(**{**entry, "problems": tuple(entry["problems"])}) for entry in data.get("replays", ())
        )
        repetition = data.get("repetition")
        return cls(
            status=data["status"],
            levels=levels,
            control=ControlResult(**{**control, "problems": tuple(control["problems"])}) if control else None,
            problems=tuple(data.get("problems", ())),
            coverage=Coverage.from_json(data["coverage"]) if data.get("coverage") else None,
            notes=tuple(data.get("notes", ())),
            replays=replays,
            repetition=Repetition(**repetition) if repetition else None,
            uncontrolled=control is None and data["status"] == CERTIFIED,
        )


@dataclass(frozen=True)
class Origin:
    """What made the records of an arm, as far as it is known.

    ``weights`` and ``settings`` are the checkpoint's digests (empty: unknown), ``code`` every version of the code that
    wrote, ``answers[level][item][seed]`` the :func:`answer_digest` of what was generated.
    """

    weights: str = ""
    settings: str = ""
    code: tuple[Mapping[str, Any], ...] = ()
    answers: Mapping[float, Mapping[str, Mapping[int, str]]] = field(default_factory=dict)


def answer_digest(result: ItemResult) -> str:
    """Return 12 bits, as two characters, over the tokens of a record and how it ended (of scored continuations: over
    what was chosen): enough to count records that differ, small enough for a baseline file."""
    return _digest(result.told)


def digests_of(tokens: Sequence[int]) -> tuple[str, ...]:
    """Return what :func:`answer_digest` gave of the answer that is told as ``tokens``: the last of them may be what
    ended it, or the last before it was cut."""
    return tuple(_digest(repr(told)) for told in ((tuple(tokens), True), (tuple(tokens[:-1]), False)))


def _digest(told: str) -> str:
    digest = hashlib.sha256(told.encode()).digest()
    return base64.urlsafe_b64encode(digest[:3]).decode()[:2]


MeasurementKey = Mapping[str, str]
"""Field name -> value of everything a number depends on except checkpoint, level and seeds."""


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: the outcomes of one checkpoint under one measurement key.

    ``outcomes[level][item][seed]`` holds an :class:`Outcome`; ``item`` is the content hash. ``clusters`` holds
    item -> name of the cluster (template, document, prompt) whose items may move together; an item without one stands
    by itself.
    """

    label: str
    key: MeasurementKey
    outcomes: Mapping[float, Mapping[str, Mapping[int, Outcome]]]
    certificate: Certificate
    questions: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)
    clusters: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    """item -> what its sub-scores are shown for; no verdict depends on it (:mod:`harness.gates.subscores`)."""
    votes: Mapping[float, Mapping[str, Mapping[int, str]]] = field(default_factory=dict)
    """Of sampled answers, ``votes[level][item][seed]``: which of them are the same (:mod:`harness.votes`); empty where
    nothing was sampled, or that was not kept."""
    floor: float | None = None
    """The accuracy (fraction) below which its task measures nothing, as the task declares it; None: not known."""
