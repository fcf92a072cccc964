"""The manifest of a run folder: what its numbers depend on, where they came from, what makes two runs the same run.

:meth:`Manifest.to_json` is the only writer and :func:`parse_manifest` the only reader of its content;
:mod:`harness.runs.folder` keeps it in a file. Fields that are None by default are left out of the file where they are
None: runs of older versions have none of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from harness.coverage import Coverage
from harness.exceptions import StoreError
from harness.record import CHECKED_SINCE, SCHEMA_VERSION
from harness.spec.sampling import is_sampled
from harness.strict import WRITTEN, Table, fill, to_plain

EVALUATION_KIND, EXTERNAL_KIND, SCAN_KIND = "evaluation", "external", "scan"
AGAIN = "evaluate again into another folder"
READABLE = (2, 3, SCHEMA_VERSION)
"""Schema versions of run folders that are read; only the last one is written."""


def digest(text: str) -> str:
    """Return 16 hex digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def checksum(data: Mapping[str, Any]) -> str:
    """Return SHA-256 (64 hex digits) of the content without its ``sha256`` field, as canonical JSON."""
    content = {name: value for name, value in data.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True)
class PlannedSite:
    """One site of the plan: ``columns`` output elements per row; ``last_token_only`` for the head; ``grows`` for QK,
    whose elements per row are ``columns`` (heads) times the keys a query sees; ``per_token`` the experts that a token
    chooses, each of which is a row (None: one row)."""

    name: str
    op: str
    columns: int
    last_token_only: bool
    grows: bool
    per_token: int | None = None


@dataclass(frozen=True)
class StoredPlan:
    """What an injection plan leaves in a manifest: the line of the noise, its sites, what it leaves alone with the
    reason, and ``uncompared``, the sites whose results no audit compares with their own products."""

    noise: str
    sites: tuple[PlannedSite, ...]
    excluded: Mapping[str, str] = field(default_factory=dict)
    uncovered: Mapping[str, str] = field(default_factory=dict)
    uncompared: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizedSite:
    """``columns`` is the width of an input, or all elements of a weight; a head is fed the last token
    only, stacked experts ``per_token`` rows (None: one) for each."""

    name: str
    columns: int
    last_token_only: bool = False
    per_token: int | None = None


@dataclass(frozen=True)
class QuantizedPart:
    """The sites of one specification of a quantizer; ``text`` is its line, ``excluded`` what it leaves alone."""

    text: str
    point: str
    sites: tuple[QuantizedSite, ...]
    excluded: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """What must agree for an evaluation to be resumed. ``early_stop`` is the rule by which it may stop before all
    items are evaluated (:meth:`harness.gates.early.EarlyPlan.to_json`). ``hub`` holds name and commit of what came from
    a hub, ``checkpoint`` and ``base`` (None: nothing did): of which checkpoint the numbers are. What was measured says
    the key, which a candidate shares with its baseline, whatever their commits."""

    weights: str
    measurement_key: Mapping[str, str]
    items: tuple[str, ...]
    levels: tuple[float, ...]
    noise_seeds: int
    positive_control: bool
    settings: str | None = None
    early_stop: Mapping[str, Any] | None = None
    hub: Mapping[str, Mapping[str, str]] | None = None

    def seeds_at(self, level: float) -> int:
        """Return how many noise seeds ``level`` has: with neither noise nor sampling there is one draw only."""
        return self.noise_seeds if level or is_sampled(self.measurement_key) else 1


@dataclass(frozen=True)
class ExternalIdentity:
    """What must agree for the same completions: SHA-256 of their file, and the measurement key."""

    completions: str
    measurement_key: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What the folders of every kind say. ``code`` identifies the code that makes the records (None: not known).

    ``sha256`` is that of the file it was read from, over the JSON without it.
    """

    kind: ClassVar[str]
    identity: Any
    measurement_key: Mapping[str, str]
    environment: Mapping[str, Any]
    code: Mapping[str, Any] | None = None
    schema_version: int = SCHEMA_VERSION
    sha256: str | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return JSON types with the checksum: of what was read, the very content that was read."""
        content = {**to_plain(self), "kind": self.kind}
        return {**content, "sha256": self.sha256 or checksum(content)}

    @property
    def digest(self) -> str:
        """The checksum by which records know their manifest (64 hex digits)."""
        return str(self.to_json()["sha256"])

    @property
    def current(self) -> bool:
        """True where the folder has checksums of its tables, coverage and code identity."""
        return self.schema_version >= CHECKED_SINCE


@dataclass(frozen=True, kw_only=True)
class EvaluationManifest(Manifest):
    """Of an evaluation. ``checkpoint`` is :meth:`harness.checkpoints.source.Source.to_json`, ``spec`` that of
    :class:`harness.spec.EvalSpec`, ``replay`` the version of the rule that chooses what is replayed, ``floor`` the
    accuracy (fraction) below which the task measures nothing, ``clusters`` item -> name of its cluster,
    ``groups`` item -> what its sub-scores are shown for, ``budget`` for how many ``seconds`` its items and noise seeds
    were planned (None: they were given), by which costs, and what that plan could tell."""

    kind: ClassVar[str] = EVALUATION_KIND
    identity: Identity
    checkpoint: Mapping[str, Any]
    spec: Mapping[str, Any]
    plan: StoredPlan
    device: str = ""
    training: Mapping[str, Any] | None = field(default=None, metadata=WRITTEN)
    quantization: tuple[QuantizedPart, ...] = ()
    replay: int | None = None
    coverage: Coverage | None = None
    floor: float | None = None
    clusters: Mapping[str, str] | None = None
    groups: Mapping[str, str] | None = None
    budget: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class ExternalManifest(Manifest):
    """Of answers made elsewhere, read from the file ``completions``. Where they came with scores, ``imported`` says
    from what: format, tool, metric, and the files and hashes of the writer. ``clusters`` are those of an evaluation."""

    kind: ClassVar[str] = EXTERNAL_KIND
    identity: ExternalIdentity
    completions: str
    floor: float | None = None
    imported: Mapping[str, Any] | None = None
    clusters: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class ScanManifest(Manifest):
    """Of a scan; ``identity`` is what must agree for it to be resumed."""

    kind: ClassVar[str] = SCAN_KIND
    identity: Mapping[str, Any]


RunManifest: TypeAlias = EvaluationManifest | ExternalManifest
_KINDS: Mapping[str, type[Manifest]] = {
    kind.kind: kind for kind in (EvaluationManifest, ExternalManifest, ScanManifest)
}


def parse_manifest(data: Mapping[str, Any], where: str = "manifest") -> Manifest:
    """Return the manifest that ``data`` (JSON types, of a readable schema version) holds.

    Raises :class:`StoreError` with ``where`` for what is unknown, missing, of another type, or edited.
    """
    table = Table(data, where, AGAIN, StoreError, stored=True)
    found = fill(_KINDS[table.choice("kind", _KINDS)], table)
    if found.sha256 != checksum(data):
        raise table.fail(f"sha256 = {found.sha256!r}", "it does not fit the content: edited, or copied in part")
    return found
