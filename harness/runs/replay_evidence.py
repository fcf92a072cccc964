"""The part of a certificate that the replays are: re-derived whenever a run is loaded (no torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.record import (
    CERTIFIED,
    INVALID_EVIDENCE,
    NOT_REPLAYED,
    Certificate,
    ItemResult,
    LevelCertificate,
    LevelReplay,
    Repetition,
)
from harness.runs.manifest import EvaluationManifest
from harness.runs.replayed import (
    IMPLEMENTATION,
    REPEATED,
    REPLAYED,
    VERSION,
    Bounds,
    Name,
    Replay,
    bounds_of,
    chosen,
    chosen_twice,
    level_replay,
    unknown,
)
from harness.runs.store import Store
from harness.spec import ErrorModel, parse_noise
from harness.spec.tokens import Span

NO_ANSWER = "it has no answer of an engine"


@dataclass(frozen=True)
class _Asked:
    """What a manifest says of the noise and of the quantization."""

    dtype: str
    error: ErrorModel
    unknown: str
    rough_inputs: bool
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, manifest: EvaluationManifest) -> _Asked:
        noise = parse_noise(manifest.plan.noise)
        error = noise.error
        sites = [site.name for site in manifest.plan.sites]
        rough = any(part.point == "input" for part in manifest.quantization)
        dtype = manifest.measurement_key.get("dtype", "")
        return cls(dtype, error, unknown(error, sites), rough, noise.spans)

    def bounds(self, level: float) -> Bounds:
        """How far an honest replay may lie apart at ``level``."""
        rough = self.rough_inputs or (level != 0 and self.error.rough)
        return bounds_of(self.dtype, rough, self.error.grid_step if level else 0.0)


def with_replays(
    certificate: Certificate, manifest: EvaluationManifest, store: Store, results: Sequence[ItemResult]
) -> Certificate:
    """Return ``certificate`` with what was replayed, and with every replay that is missing or differs as a problem."""
    if manifest.replay != VERSION:
        return replace(
            certificate,
            status=INVALID_EVIDENCE,
            problems=(*certificate.problems, NOT_REPLAYED),
            notes=(*certificate.notes, f"not replayed: {NOT_REPLAYED}"),
        )
    asked = _Asked.of(manifest)
    records = {(result.item, result.level, result.seed): result for result in results}
    stored, found = store.stored(), store.replays(REPLAYED)
    entries = []
    for level in (entry.level for entry in certificate.levels):
        if level and asked.unknown:
            entries.append(LevelReplay(level, IMPLEMENTATION, of=_count(results, level), reason=asked.unknown))
            continue
        wanted = chosen(results, stored, level, asked.spans)
        entry = level_replay(level, wanted, records, found, asked.bounds(level))
        entries.append(entry if wanted else replace(entry, reason=NO_ANSWER))
    repetition = _repetition(chosen_twice(results, stored), store.replays(REPEATED))
    problems = certificate.problems
    if repetition.items < repetition.wanted:
        words = f"{repetition.wanted} clean items were to be generated twice, {repetition.items} were"
        problems = (*problems, words)
    levels = tuple(_with_problems(entry, own) for entry, own in zip(certificate.levels, entries, strict=True))
    notes = (*certificate.notes, *replay_notes(entries, repetition))
    valid = certificate.status == CERTIFIED and not problems and all(entry.valid for entry in levels)
    return replace(
        certificate,
        status=CERTIFIED if valid else INVALID_EVIDENCE,
        levels=levels,
        problems=problems,
        notes=notes,
        replays=tuple(entries),
        repetition=repetition,
    )


def replay_notes(replays: Sequence[LevelReplay], repetition: Repetition) -> tuple[str, ...]:
    """Return what every report says first: levels that were not replayed, replays on the model in memory, an engine
    that does not repeat itself."""
    notes = [
        f"not replayed at level {_levels(own)}, so that noise was on is shown by ledger and audits alone: {reason}"
        for reason, own in _grouped(replays).items()
    ]
    short = [entry for entry in replays if entry.records < entry.wanted]
    if short:
        counts = ", ".join(f"{entry.records} of {entry.wanted}" for entry in short)
        notes.append(f"not replayed in full at level {_levels(short)}: {counts} records that the rule chose were")
    shared = [entry for entry in replays if entry.in_memory]
    if shared:
        notes.append(
            f"replayed at level {_levels(shared)} on the model in memory, with its code as it was (no memory for a"
            " second copy): a change of weights or model code in memory is on both sides and does not show"
        )
    if repetition.difference:
        notes.append(f"nondeterministic engine, to which discordance is attributed: {repetition.difference}")
    return tuple(notes)


def _grouped(replays: Sequence[LevelReplay]) -> dict[str, list[LevelReplay]]:
    groups: dict[str, list[LevelReplay]] = {}
    for entry in replays:
        if entry.reason:
            groups.setdefault(entry.reason, []).append(entry)
    return groups


def _levels(replays: Sequence[LevelReplay]) -> str:
    return " and ".join(f"{100 * entry.level:g} %" for entry in replays)


def _with_problems(entry: LevelCertificate, own: LevelReplay) -> LevelCertificate:
    return replace(entry, problems=(*entry.problems, *own.problems))


def _count(results: Sequence[ItemResult], level: float) -> int:
    return sum(result.level == level for result in results)


def _repetition(wanted: Sequence[Name], found: Mapping[Name, Replay]) -> Repetition:
    """Whether the clean answers that the engine gave twice are the same."""
    there = [name for name in wanted if name in found]
    different = [name for name in there if found[name].others]
    words = ""
    if different:
        at = found[different[0]].others[0]
        words = (
            f"{len(different)} of {len(there)} clean items gave other tokens when generated again in the same batch "
            f"(item {different[0][0][:12]}: token {at.step} is {at.stored}, then {at.found})"
        )
    return Repetition(len(there), len(wanted), words)
