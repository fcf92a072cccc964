"""What a certificate says of the whole run: how much of the model was perturbed, and which code made the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.coverage import Coverage, coverage_digest
from harness.exceptions import StoreError
from harness.record import INVALID_EVIDENCE, Certificate
from harness.runs.dequantized import dequantized_sentence
from harness.runs.folder import MANIFEST
from harness.runs.manifest import AGAIN, EvaluationManifest, RunManifest
from harness.thresholds import LEAST_SHARE


def with_identity(
    certificate: Certificate, path: Path, manifest: RunManifest, codes: Sequence[Mapping[str, Any]]
) -> Certificate:
    """Return ``certificate`` with the coverage of its run, and what older versions, mixed code and a small share say.

    Raises :class:`StoreError` where the manifest's coverage is not that of its plan.
    """
    notes = (*certificate.notes, *mixed_code_notes(codes), *_weights_notes(manifest), *_budget_notes(manifest))
    if not manifest.current:
        words = f"the run is of schema version {manifest.schema_version}: without checksums of its tables, coverage"
        certificate = objected(certificate, (f"{words} and code identity; {AGAIN}",))
    elif isinstance(manifest, EvaluationManifest):
        coverage = _coverage(path, manifest)
        if coverage is None:
            certificate = objected(certificate, ("the run does not say how much of the model it perturbed",))
        else:
            certificate = objected(replace(certificate, coverage=coverage), coverage_problems(coverage))
    return replace(certificate, notes=tuple(dict.fromkeys(notes)))


def objected(certificate: Certificate, problems: Sequence[str]) -> Certificate:
    """Return ``certificate`` with ``problems`` of the whole run: with any, it is invalid."""
    if not problems:
        return certificate
    return replace(certificate, status=INVALID_EVIDENCE, problems=(*certificate.problems, *problems))


def not_recomputed(manifest: RunManifest, unknown: int) -> tuple[str, ...]:
    """Return what speaks against a run of which the scores of ``unknown`` items cannot be recomputed."""
    if not unknown or not manifest.current:  # older ones are objected to as a whole
        return ()
    return (f"the scores of {unknown} items cannot be recomputed: their right answers are not stored; {AGAIN}",)


def coverage_problems(coverage: Coverage) -> tuple[str, ...]:
    """Return what speaks against a share that is small although the specification leaves nothing out by name."""
    if coverage.named or coverage.share >= LEAST_SHARE:
        return ()
    return (
        f"only {100 * coverage.share:.1f} % of the floating-point operations of all matrix products are perturbed"
        f" ({100 * LEAST_SHARE:g} % are needed unless the noise names what it leaves out): reach more (profile:matmul),"
        " or say what is left out (exclude:, layers:, module:)",
    )


def mixed_code_notes(codes: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return what every report says first of records that several versions of the code made."""
    if len(codes) < 2:
        return ()
    names = sorted({name for code in codes for name in code if len({str(each.get(name)) for each in codes}) > 1})
    shown = ", ".join(f"{name} ({' and '.join(str(code.get(name)) for code in codes)})" for name in names)
    return (f"mixed code: {len(codes)} versions of the code made these records, which differ in {shown}",)


def _weights_notes(manifest: RunManifest) -> tuple[str, ...]:
    checkpoint = manifest.checkpoint if isinstance(manifest, EvaluationManifest) else {}
    said = dequantized_sentence(checkpoint)
    return () if said is None else (f"{checkpoint['path']}: {said}",)


def _budget_notes(manifest: RunManifest) -> tuple[str, ...]:
    kept = manifest.budget if isinstance(manifest, EvaluationManifest) else None
    if kept is None:
        return ()
    plan = kept["plan"]
    return (
        f"planned for a budget of {kept['seconds']:g} s before any outcome was known: {plan['items']} of"
        f" {plan['items_of']} items, {plan['noise_seeds']} noise seeds (forecast {plan['forecast']:.0f} s)",
    )


def _coverage(path: Path, manifest: EvaluationManifest) -> Coverage | None:
    coverage = manifest.coverage
    if coverage is None:
        return None
    sites = [site.name for site in manifest.plan.sites]
    if coverage.digest != coverage_digest(sites, coverage.left_out) or coverage.sites != len(sites):
        raise StoreError(f"run {path}", f"the coverage in its {MANIFEST} is not that of its plan", AGAIN)
    if manifest.measurement_key.get("coverage") != coverage.text:
        raise StoreError(f"run {path}", f"the coverage in its {MANIFEST} is not that of its measurement key", AGAIN)
    return coverage
