"""The evidence that an evaluation's quantization was on: exact counts, an effect, one line to show for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from harness.ledger import merge
from harness.quant_error import sqnr_db
from harness.record import CERTIFIED, INVALID_EVIDENCE, Certificate, ItemResult, LevelCertificate, SiteCount
from harness.runs.evidence import Fed
from harness.runs.manifest import QuantizedPart, QuantizedSite

WEIGHT, INPUT = "weight", "input"


def quantized_op(op: str, point: str) -> str:
    """Return what a count of a quantizer is booked under: ``linear:weight``."""
    return f"{op}:{point}"


def elements_wanted(part: QuantizedPart, site: QuantizedSite, fed: Fed, forwards: int) -> int:
    """Return the elements that ``site`` must have quantized: its weight in every forward, or every row that was fed."""
    if part.point == WEIGHT:
        return forwards * site.columns
    return (fed.steps if site.last_token_only else fed.tokens) * (site.per_token or 1) * site.columns


def with_quantization(
    certificate: Certificate,
    parts: Sequence[QuantizedPart],
    results: Sequence[ItemResult],
    forwards: Mapping[float, int],
    counts: Iterable[SiteCount],
) -> Certificate:
    """Return ``certificate`` with what the ledger says of the quantization at each of its levels.

    ``counts`` are those of the quantizers; ``forwards`` how many forward passes the stored batches of each level took,
    known from the lengths of their records. A site that changed nothing is not an error: its values may lie on the grid
    already; a part that changed nothing at all is.
    """
    if not parts:
        return certificate
    merged = merge(counts, across_processes=True)
    levels = []
    for entry in certificate.levels:
        seen = {count.site: count for count in merged if count.level == entry.level}
        own = Fed.of(result for result in results if result.level == entry.level)
        levels.append(_level(entry, parts, own, forwards.get(entry.level, 0), seen))
    valid = certificate.status == CERTIFIED and all(entry.valid for entry in levels)
    return replace(certificate, status=CERTIFIED if valid else INVALID_EVIDENCE, levels=tuple(levels))


def _level(
    entry: LevelCertificate,
    parts: Sequence[QuantizedPart],
    fed: Fed,
    forwards: int,
    seen: Mapping[str, SiteCount],
) -> LevelCertificate:
    problems, shown = list(entry.problems), []
    for part in parts:
        counts = [seen[site.name] for site in part.sites if site.name in seen]
        problems += _wrong_counts(part, fed, forwards, seen)
        changed, elements = sum(count.changed for count in counts), sum(count.elements for count in counts)
        broken = sum(count.nonfinite for count in counts)
        if broken:
            problems.append(f"quantization {part.text} gave {broken} non-finite elements")
        if counts and not changed:
            problems.append(f"quantization {part.text} changed none of {elements} elements: they lie on its grid")
        ratio = sqnr_db(sum(count.signal for count in counts), sum(count.error for count in counts))
        shown.append(
            f"{part.text}: {len(counts)} sites, {changed} of {elements} elements changed, SQNR {ratio:z.2f} dB"
        )
    return replace(entry, problems=tuple(problems), quantization=tuple(shown))


def _wrong_counts(part: QuantizedPart, fed: Fed, forwards: int, seen: Mapping[str, SiteCount]) -> list[str]:
    wrong = []
    for site in part.sites:
        found = seen[site.name].elements if site.name in seen else 0
        wanted = elements_wanted(part, site, fed, forwards)
        if found != wanted:
            wrong.append(f"{site.name} quantized {found} elements, expected {wanted}")
    more = f", and {len(wrong) - 1} more sites" if len(wrong) > 1 else ""
    return [f"wrong quantization count: {wrong[0]}{more}"] if wrong else []
