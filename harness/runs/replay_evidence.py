"""The part of a certificate that the replays are: re-derived whenever a run is loaded (no torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

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
from harness.runs.replayed import (
    FIELD,
    IMPLEMENTATION,
    REPEATED,
    REPLAYED,
    VERSION,
    Name,
    Replay,
    bounds_of,
    chosen,
    chosen_twice,
    level_replay,
    unknown,
)
from harness.runs.store import Store
from harness.spec import parse_noise

ROUGH = ("systematic_bias", "truncation", "deadzone", "bit_flip", "fake_quant")
"""Error models that are no smooth function of a value: its last bit may move the result by a whole step."""


@dataclass(frozen=True)
class _Asked:
    """What a manifest says of the noise and of the quantization."""

    dtype: str
    error: str
    unknown: str
    rough_inputs: bool

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> _Asked:
        plan = manifest["plan"]
        error = parse_noise(plan["noise"]).error.name
        sites = [str(site["name"]) for site in plan["sites"]]
        rough = any(part["point"] == "input" for part in manifest.get("quantization", ()))
        dtype = str(manifest["measurement_key"].get("dtype", ""))
        return cls(dtype, error, unknown(error, sites), rough)

    def rough(self, level: float) -> bool:
        """True where values are rounded to a grid on the way."""
        return self.rough_inputs or (level != 0 and self.error in ROUGH)


def with_replays(
    certificate: Certificate, manifest: Mapping[str, Any], store: Store, results: Sequence[ItemResult]
) -> Certificate:
    """Return ``certificate`` with what was replayed, and with every replay that is missing or differs as a problem."""
    if manifest.get(FIELD) != VERSION:
        return replace(certificate, status=INVALID_EVIDENCE, problems=(*certificate.problems, NOT_REPLAYED))
    asked = _Asked.of(manifest)
    records = {(result.item, result.level, result.seed): result for result in results}
    stored, found = store.stored(), store.replays(REPLAYED)
    entries = []
    for level in (entry.level for entry in certificate.levels):
        if level and asked.unknown:
            entries.append(LevelReplay(level, IMPLEMENTATION, of=_count(results, level), reason=asked.unknown))
            continue
        wanted = chosen(results, stored, level)
        entries.append(level_replay(level, wanted, records, found, bounds_of(asked.dtype, asked.rough(level))))
    repetition = _repetition(chosen_twice(results, stored), store.replays(REPEATED))
    problems = certificate.problems
    if repetition.items < repetition.wanted:
        words = f"{repetition.wanted} clean items were to be generated twice, {repetition.items} were"
        problems = (*problems, words)
    levels = tuple(_with_problems(entry, own) for entry, own in zip(certificate.levels, entries, strict=True))
    valid = certificate.status == CERTIFIED and not problems and all(entry.valid for entry in levels)
    return replace(
        certificate,
        status=CERTIFIED if valid else INVALID_EVIDENCE,
        levels=levels,
        problems=problems,
        replays=tuple(entries),
        repetition=repetition,
    )


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
