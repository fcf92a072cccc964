"""Reads a stored run back as an :class:`harness.record.Arm` with its certificate. Imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.exceptions import NoiseSpecError, NotComparableError, StoreError
from harness.record import (
    EXTERNAL,
    NOISE,
    QUANTIZER,
    Arm,
    Certificate,
    ItemResult,
    Origin,
    Outcome,
    SiteCount,
    TextOutcome,
    answer_digest,
)
from harness.runs.audited import verified
from harness.runs.controlled import with_control
from harness.runs.evidence import ExpectedSite, certify
from harness.runs.folder import MANIFEST, read_manifest
from harness.runs.identity import not_recomputed, objected, with_identity
from harness.runs.lengths import with_lengths
from harness.runs.manifest import (
    AGAIN,
    EvaluationManifest,
    ExternalManifest,
    Identity,
    Manifest,
    QuantizedPart,
    RunManifest,
)
from harness.runs.quantized import with_quantization
from harness.runs.replay_evidence import with_replays
from harness.runs.rescoring import check_scores
from harness.runs.shares import with_shares
from harness.runs.store import Audit, Store
from harness.scorers.perplexity import NATS, TOKENS
from harness.scorers.until import until_of
from harness.spec import ErrorModel, parse_noise
from harness.spec.experts import REASON as EXPERTS
from harness.spec.experts import unreached
from harness.spec.sampling import is_sampled
from harness.text import named
from harness.thresholds import LEAST_CHANGED
from harness.votes import votes_of

NEITHER = "answers made elsewhere, neither audited nor replayed by a second implementation"


@dataclass(frozen=True)
class Run:
    """A stored run, read in full."""

    path: Path
    manifest: RunManifest
    results: Sequence[ItemResult]
    counts: Sequence[SiteCount]
    arm: Arm
    references: Mapping[str, str] = field(default_factory=dict)

    @property
    def evaluation(self) -> EvaluationManifest:
        """The manifest of an evaluation. Raises :class:`NotComparableError` for answers made elsewhere."""
        if isinstance(self.manifest, EvaluationManifest):
            return self.manifest
        raise NotComparableError(
            f"run {self.path}", "its completions were produced elsewhere", "give the --out of harness eval"
        )

    @property
    def asked(self) -> Identity:
        """What was asked of the evaluation: items, levels, seeds."""
        return self.evaluation.identity

    @property
    def early_rule(self) -> dict[str, Any] | None:
        """The rule by which the evaluation was meant to stop early, None where it was not."""
        rule = self.asked.early_stop if isinstance(self.manifest, EvaluationManifest) else None
        return None if rule is None else dict(rule)

    @property
    def missing(self) -> int:
        """Records that the specification asks for and the store lacks."""
        if isinstance(self.manifest, ExternalManifest):
            return 0
        return len(_Asked.of(self.path, self.manifest).records) - len(self.results)

    @property
    def complete(self) -> bool:
        """Every record asked for is there, the positive control where one was asked for, and every replay."""
        if isinstance(self.manifest, ExternalManifest):
            return True
        controlled = self.arm.certificate.control is not None or not _Asked.of(self.path, self.manifest).control
        return not self.missing and controlled and self.arm.certificate.replayed


@dataclass(frozen=True)
class _Asked:
    """What the manifest of an evaluation asks for."""

    sites: tuple[ExpectedSite, ...]
    levels: tuple[float, ...]
    records: frozenset[tuple[str, float, int]]
    control: bool
    error: ErrorModel
    drawn_apart: bool
    quantized: tuple[QuantizedPart, ...]
    limit: int | None
    until: tuple[str, ...]
    items: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, manifest: EvaluationManifest) -> _Asked:
        identity, key = manifest.identity, manifest.measurement_key
        try:
            noise = parse_noise(manifest.plan.noise)
            limit = None if key.get("max_new_tokens") is None else int(key["max_new_tokens"])
            until = until_of(key)
        except (ValueError, NoiseSpecError) as problem:
            raise StoreError(f"run {path}", f"its {MANIFEST} is damaged ({problem!r})", AGAIN) from None
        draws = [(level, seed) for level in identity.levels for seed in range(identity.seeds_at(level))]
        least = LEAST_CHANGED.get(key.get("dtype", ""), 0.0)
        limits: dict[str, Any] = {"least_changed": least, "tokens": noise.tokens}
        return cls(
            sites=tuple(ExpectedSite(**vars(site), **limits) for site in manifest.plan.sites),
            levels=identity.levels,
            records=frozenset((item, level, seed) for item in identity.items for level, seed in draws),
            control=identity.positive_control,
            error=noise.error,
            # else items share their events, and a weight's are counted in every forward
            drawn_apart=noise.at == "output" and noise.key == "item",
            quantized=manifest.quantization,
            limit=limit,
            until=until,
            items=identity.items,
        )


def is_run(path: Path) -> bool:
    """Return True where ``path`` is a run folder (not a checkpoint)."""
    return (path / MANIFEST).is_file()


def load_run(path: Path) -> Run:
    """Return the run at ``path`` with its certificate. Raises :class:`harness.exceptions.StoreError` if it is
    unsound."""
    _of_run(path, read_manifest(path))  # a scan has no records: say so before they are looked for
    with Store.read(path) as store:
        manifest = _of_run(path, store.manifest)
        results, counts = store.results(), store.counts()
        references, questions = store.references(), store.questions()
        rescored: dict[str, str] = {}
        unknown: set[str] = set()
        if _imported(manifest) is None:  # else its scores are the writer's own
            rescored = check_scores(path, manifest.measurement_key.get("scorer", ""), results, references, questions)
            unknown = {result.item for result in results} - references.keys()
        certificate = with_identity(_certificate(manifest, store, results, counts), path, manifest, store.codes())
        certificate = objected(certificate, not_recomputed(manifest, len(unknown)))
        origin = Origin(code=store.codes())
        if isinstance(manifest, EvaluationManifest):
            identity = manifest.identity
            origin = Origin(identity.weights, identity.settings or "", store.codes(), answers(results))
    arm = Arm(
        label=str(path),
        key={**manifest.measurement_key, **rescored},
        outcomes=outcomes(results),
        certificate=certificate,
        questions=questions,
        origin=origin,
        clusters=dict(manifest.clusters or {}),
        groups=dict((manifest.groups if isinstance(manifest, EvaluationManifest) else None) or {}),
        votes=votes_of(results) if is_sampled(manifest.measurement_key) else {},
        floor=None if manifest.floor is None else float(manifest.floor),
    )
    return Run(path, manifest, results, counts, arm, references)


def _imported(manifest: RunManifest) -> Mapping[str, Any] | None:
    """What answers made elsewhere were imported from with their scores; None where the scores were made here."""
    return manifest.imported if isinstance(manifest, ExternalManifest) else None


def _of_run(path: Path, manifest: Manifest) -> RunManifest:
    if isinstance(manifest, EvaluationManifest | ExternalManifest):
        return manifest
    raise StoreError(
        f"{path} is the folder of a {manifest.kind}",
        "it holds no answers to items, so there is nothing to judge",
        f"give the --out of harness eval, not of harness {manifest.kind}",
    )


def complete_run(path: Path) -> Run:
    """Do as :func:`load_run`; an unfinished run may not be judged, so it raises :class:`NotComparableError`."""
    run = load_run(path)
    check_complete(run)
    return run


def check_complete(run: Run) -> None:
    """Raise :class:`NotComparableError` where ``run`` is unfinished, or was stopped early."""
    if run.complete:
        return
    rule = run.early_rule
    if rule is not None:
        everything, found = run.asked.items, {result.item for result in run.results}
        raise NotComparableError(
            f"run {run.path} was evaluated to stop early and holds {len(found)} of {len(everything)} items",
            "it is evidence for a gate by its own rule only",
            f"use harness gate --early-stop {rule['share']:g} with its baseline, or evaluate again into another --out",
        )
    asked = _Asked.of(run.path, run.evaluation).records if run.missing else frozenset()
    items = {item for item, _, _ in asked - {(result.item, result.level, result.seed) for result in run.results}}
    which = f" (of {len(items)} items: {named(items)})" if items else ""
    raise NotComparableError(
        f"run {run.path} lacks {run.missing} records{which}, its positive control or its replays",
        "an unfinished run is no evidence",
        "resume it with harness eval",
    )


def outcomes(results: Sequence[ItemResult]) -> dict[float, dict[str, dict[int, Outcome]]]:
    """Return level -> item -> seed -> outcome; equal outcomes are one object. Those of whole texts hold their
    log-likelihood."""
    found: dict[float, dict[str, dict[int, Outcome]]] = {}
    shared: dict[tuple[float | None, str], Outcome] = {}
    for result in results:
        known = result.score, result.reason
        outcome: Outcome
        if NATS in result.scores:
            outcome = TextOutcome(*known, result.scores[NATS], int(result.scores.get(TOKENS) or 0))
        else:
            outcome = shared.get(known) or shared.setdefault(known, result.outcome)
        found.setdefault(result.level, {}).setdefault(result.item, {})[result.seed] = outcome
    return found


def _audits(store: Store) -> list[Audit]:
    audits = store.audits()
    return verified(audits, store.trails([audit.choice.trail.records for audit in audits if audit.choice is not None]))


def answers(results: Sequence[ItemResult]) -> dict[float, dict[str, dict[int, str]]]:
    """Return level -> item -> seed -> digest of what was generated."""
    found: dict[float, dict[str, dict[int, str]]] = {}
    for result in results:
        digest = sys.intern(answer_digest(result))  # there are 4096 of them
        found.setdefault(result.level, {}).setdefault(result.item, {})[result.seed] = digest
    return found


def _certificate(
    manifest: RunManifest, store: Store, results: Sequence[ItemResult], counts: Sequence[SiteCount]
) -> Certificate:
    if isinstance(manifest, ExternalManifest):
        told = _imported(manifest)
        made = (
            "" if told is None else f"; its scores are {told['metric']} as {told['tool']} wrote it, not computed again"
        )
        return Certificate(EXTERNAL, notes=(f"{EXTERNAL}: {NEITHER}{made}",))
    asked = _Asked.of(store.path, manifest)
    strangers = sorted({(result.item, result.level, result.seed) for result in results} - asked.records)
    if strangers:
        raise StoreError(
            f"run {store.path}", f"it holds a record it was not asked for {strangers[0]}", "evaluate again elsewhere"
        )
    certificate = certify(
        asked.sites,
        results,
        [count for count in counts if count.kind == NOISE],
        _audits(store),
        store.control(),
        levels={level: asked.error.expected_relative_rms(level) for level in asked.levels},
        control_wanted=asked.control,
    )
    shares = {level: asked.error.expected_share(level) for level in asked.levels if asked.drawn_apart}
    certificate = with_shares(certificate, [count for count in counts if count.kind == NOISE], results, shares)
    clean = unreached(manifest.plan.uncovered, parse_noise(manifest.plan.noise))
    if clean and any(asked.levels):
        certificate = objected(certificate, (f"{clean[0]} ({len(clean)} in all): {EXPERTS}, nor left out by name",))
    certificate = with_control(certificate, asked.items, results, parse_noise(manifest.plan.noise).spans)
    if asked.limit is not None:
        certificate = with_lengths(certificate, results, asked.limit, asked.until)
    if asked.quantized:
        quantizing = [count for count in counts if count.kind == QUANTIZER]
        certificate = with_quantization(certificate, asked.quantized, results, store.forwards(), quantizing)
    return with_replays(certificate, manifest, store, results)
