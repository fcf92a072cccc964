"""The report of a run: what was measured, of how many, with what interval, and was the noise on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.gates import GateResult
from harness.gates.evidence import floor_of, shares_draws
from harness.gates.pairing import pair
from harness.gates.perplexity import is_continuous, is_unscored, nats_apart, perplexity_of
from harness.gates.repeated import Answers, Repeated, repeated_scores
from harness.gates.requirements import accuracy, retention
from harness.gates.subscores import SubScores, subscores
from harness.ledger import merge
from harness.record import MEASURED, RIGHT, WRONG, ItemResult, SiteCount
from harness.reports.page import Page
from harness.reports.render.html import html
from harness.reports.render.markdown import markdown
from harness.reports.run_page import ledger_table, run_page, site_table
from harness.runs.folder import guarded, write_atomically, write_json
from harness.runs.loaded import Run, load_run
from harness.runs.manifest import EvaluationManifest
from harness.scorers.until import holds, until_of
from harness.stats import Interval
from harness.thresholds import ALPHA

JSON_FILE, MARKDOWN_FILE, HTML_FILE = "report.json", "report.md", "report.html"


def run_report(
    run: Run, gate: GateResult | None = None, attempts: str = "", groups: SubScores | None = None
) -> dict[str, Any]:
    """Return everything the renderings show, as JSON types. Intervals are one-sided 95 % bounds; fractions throughout.

    ``attempts`` says how often the run was gated; ``groups`` are the scores of groups beside the baseline's (default:
    those of the run alone).
    """
    evaluation = run.manifest if isinstance(run.manifest, EvaluationManifest) else None
    levels = sorted({result.level for result in run.results})
    return {
        "run": str(run.path),
        "kind": run.manifest.kind,
        "notes": [*(run.arm.certificate.notes if gate is None else gate.notes), *([attempts] if attempts else [])],
        "code": list(run.arm.origin.code),
        "checkpoint": None if evaluation is None else evaluation.checkpoint,
        "measurement_key": run.arm.key,
        "environment": run.manifest.environment,
        "levels": [_level(run, level) for level in levels],
        "subscores": (subscores(run.arm) if groups is None else groups).to_json(),
        "missing_records": run.missing,
        "certificate": run.arm.certificate.to_json(),
        "ledger": ledger_report(run.counts),
        "plan": {
            "excluded": {} if evaluation is None else evaluation.plan.excluded,
            "uncovered": {} if evaluation is None else evaluation.plan.uncovered,
            "uncompared": {} if evaluation is None else evaluation.plan.uncompared,
        },
        "quantization": [
            {"text": part.text, "sites": len(part.sites), "excluded": part.excluded}
            for part in (() if evaluation is None else evaluation.quantization)
        ],
        "gate": None if gate is None else gate.to_json(),
        "flips": [] if gate is None else _flips(run, gate),
    }


def stored_page(path: Path) -> Page:
    """Return the page of the run folder ``path``, computed again from its records."""
    return run_page(run_report(load_run(path)))


def ledger_page(path: Path) -> Page:
    """Return every entry of the ledger of the run folder ``path``, as each process counted it."""
    run = load_run(path)
    parts = ledger_table(ledger_report(run.counts)), site_table(run.counts)
    return Page.of(f"Ledger of {path}", *parts, notes=run.arm.certificate.notes)


def write_reports(out: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json``, ``report.md`` and ``report.html`` into the run folder, each atomically."""
    write_files(out, report, run_page(report))


def write_files(out: Path, report: Mapping[str, Any], page: Page) -> None:
    """Write ``report`` as JSON and its ``page`` as Markdown and HTML into the folder ``out``, each atomically."""
    with guarded(out):
        write_json(out / JSON_FILE, report)
        write_atomically(out / MARKDOWN_FILE, markdown(page))
        write_atomically(out / HTML_FILE, html(page))


def _flips(run: Run, gate: GateResult) -> list[dict[str, Any]]:
    """What changed against the baseline: question, right answer, the baseline's outcome, and what stands here."""
    found = {(result.item, result.level, result.seed): result for result in run.results}
    return [
        {
            "level": level.level,
            "item": flip.item,
            "seed": flip.seed,
            "seeds": len(level.seeds),
            "change": "gained" if flip.gained else "lost",
            "question": run.arm.questions.get(flip.item, ""),
            "reference": run.references.get(flip.item),
            "baseline": flip.before,
            "reason": own.reason,
            "answer": own.answer,
            "text": own.text,
        }
        for level in gate.levels
        for flip in level.flipped
        for own in [found[flip.item, level.level, flip.seed]]
    ]


def _level(run: Run, level: float) -> dict[str, Any]:
    results = [result for result in run.results if result.level == level]
    outcomes = run.arm.outcomes
    shared, clusters = shares_draws(run.arm, level), run.arm.clusters
    pairs = pair(outcomes[level], outcomes.get(0.0, outcomes[level]), shared, clusters=clusters)
    measured = pairs.n > 0
    kept = retention(pairs, ALPHA, floor_of((run.arm,))) if level and 0.0 in outcomes else None
    return {
        "level": level,
        "n": pairs.n,
        "seeds": sorted({result.seed for result in results}),
        "draws": len(results),
        "accuracy": _json(accuracy(pairs, pairs.means()[0], ALPHA)) if measured else None,
        "retention": _json(kept),
        "scores": {name: _mean(result.scores.get(name) or 0.0 for result in results) for name in _score_names(results)},
        "format_rate": _mean(bool(result.scores) and None not in result.scores.values() for result in results),
        "truncation_rate": _mean(_cut(result, until_of(run.arm.key)) for result in results),
        "unscored": _unscored(results),
        "repeated": [each.to_json() for each in _repeated(run, level)],
        **_texts(run, level, results),
    }


def _cut(result: ItemResult, until: Sequence[str]) -> bool:
    """Whether the token limit ended an answer, and no text that was to end it."""
    return result.truncated and not holds(result.text, until)


def _texts(run: Run, level: float, results: Sequence[ItemResult]) -> dict[str, Any]:
    """The perplexity of a level and what it loses against the clean one, in place of an accuracy, where texts are
    scored."""
    if is_unscored(run.arm.key):
        return {"accuracy": None, "retention": None, "scores": {}}
    if not is_continuous(run.arm.key):
        return {}
    clusters = run.arm.clusters
    found = perplexity_of(results, clusters)
    clean = [result for result in run.results if result.level == 0]
    return {
        "accuracy": None,
        "retention": None,
        "scores": {},
        "perplexity": {
            "documents": found.documents,
            "not_finite": found.broken,
            "nats_per_token": _json(found.nats),
            "by": {unit: _json(interval) for unit, interval in found.by.items()},
            "lost": _json(nats_apart(results, clean, clusters)[1]) if level and clean else None,
        },
    }


def _repeated(run: Run, level: float) -> tuple[Repeated, ...]:
    """Sampled answers, beside those of the clean level; empty where nothing was sampled."""
    own, clean = (run.arm.outcomes.get(each) for each in (level, 0.0))
    against = clean if level else None
    if own is None or (level and against is None):
        return ()
    given = _answers(run, level), _answers(run, 0.0)
    return repeated_scores(own, against, ALPHA, key=run.arm.key, clusters=run.arm.clusters, answers=given)


def _answers(run: Run, level: float) -> Answers:
    return {(result.item, result.seed): result.answer for result in run.results if result.level == level}


def _score_names(results: Sequence[ItemResult]) -> list[str]:
    return list(dict.fromkeys(name for result in results for name in result.scores))


def _unscored(results: Sequence[ItemResult]) -> dict[str, int]:
    counts = Counter(result.reason for result in results)
    return {reason: count for reason, count in sorted(counts.items()) if reason not in (RIGHT, WRONG, MEASURED)}


def _mean(values: Any) -> float:
    found = [float(value) for value in values]
    return sum(found) / len(found)


def _json(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else interval.to_json()


def ledger_report(counts: Sequence[SiteCount]) -> list[dict[str, Any]]:
    """Return the ledger summed per level, operator, direction and kind (noise or quantizer), each with the ``entries``
    that every process counted.

    In the sums a site that several processes counted is one site.
    """
    groups: dict[tuple[float, str, str, str], list[SiteCount]] = {}
    for count in counts:
        groups.setdefault((count.level, count.op, count.direction, count.kind), []).append(count)
    return [
        dict(zip(("level", "op", "direction", "kind"), key, strict=True))
        | _sums(group)
        | {"entries": [_entry(count) for count in group]}
        for key, group in sorted(groups.items())
    ]


def _sums(entries: Sequence[SiteCount]) -> dict[str, Any]:
    group = merge(entries, across_processes=True)
    return {
        "sites": len({count.site for count in group}),
        "layers": sorted({count.layer for count in group if count.layer is not None}),
        "phases": sorted({count.phase for count in group if count.phase}),
        "calls": sum(count.calls for count in group),
        "rows": sum(count.rows for count in group),
        "elements": sum(count.elements for count in group),
        "changed": sum(count.changed for count in group),
        "nonzero": sum(count.nonzero for count in group),
        "nonfinite": sum(count.nonfinite for count in group),
        "relative_rms_low": _finite(min, (count.relative_rms for count in group)),
        "relative_rms_high": _finite(max, (count.relative_rms for count in group)),
        "error_to_signal": _finite(max, [_ratio(sum(c.error for c in group), sum(c.signal for c in group))]),
    }


def _entry(count: SiteCount) -> dict[str, Any]:
    """One entry as JSON types, with its achieved relative error; null for what is not finite."""
    fields = asdict(count) | {"relative_rms": count.relative_rms}
    return {name: _finite(max, [value]) if isinstance(value, float) else value for name, value in fields.items()}


def _finite(choose: Callable[[list[float]], float], values: Iterable[float]) -> float | None:
    """The smallest or largest finite one: JSON cannot hold what a site that overflowed gives."""
    found = [value for value in values if math.isfinite(value)]
    return choose(found) if found else None


def _ratio(error: float, signal: float) -> float:
    return (error / signal) ** 0.5 if signal else 0.0
