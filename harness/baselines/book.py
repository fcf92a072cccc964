"""The folder of baselines: accept, find, list and compare (no torch)."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.baselines.file import SUFFIX, Baseline, dump, load
from harness.exceptions import HarnessError, NotComparableError
from harness.gates import key_differences
from harness.gates.pairing import pair
from harness.gates.perplexity import is_continuous, refuse_unscored, text_level
from harness.gates.requirements import accuracy
from harness.installed import shipped
from harness.record import CERTIFIED, CHANGED_NATS, EXTERNAL, Arm, Outcome, TextOutcome
from harness.runs.folder import MANIFEST, write_atomically
from harness.runs.loaded import Run, complete_run
from harness.runs.manifest import EvaluationManifest
from harness.spec import nearest, number_text
from harness.text import named
from harness.thresholds import ALPHA, FLOOR, LEARNED_NATS

DEFAULT_FOLDER = Path("baselines")
MAX_NAME = 100
HEADS = ("lm_head", "embed_out")
"""How the site ends whose outputs are the vocabulary (GPT-NeoX: the second)."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


def path_of(folder: Path, name: str) -> Path:
    """Return where the baseline ``name`` lies; a name is letters, digits, ``. _ -`` and ``/`` between parts."""
    if not _NAME.fullmatch(name) or name.endswith(SUFFIX) or len(name) > MAX_NAME:
        raise HarnessError(
            f"baseline name {name!r:.80}",
            f"letters, digits, '.', '_', '-', and '/' between parts; at most {MAX_NAME}, no {SUFFIX} at the end",
            "for example arith/my-model",
        )
    return folder / f"{name}{SUFFIX}"


def find(folder: Path, name: str) -> Path:
    """Return the file of ``name``: a path to a file, a name under ``folder``, or of a baseline that comes with the
    package.

    Raises with the nearest name.
    """
    direct = Path(name)
    if direct.is_file():
        return direct
    if name.endswith(SUFFIX):
        _refuse_folder(name)
        raise HarnessError(f"baseline {name}", "no such file", "harness baseline list shows those there are")
    path = path_of(folder, name)
    if not path.is_file():
        along = path_of(shipped(), name)
        if along.is_file():
            return along
        _refuse_folder(name)
        known = [entry for entry, _ in listed(folder)]
        hint = nearest(name, [*known, *(entry for entry, _ in listed(shipped()))])
        if not known and not hint.startswith("did you mean"):
            hint = "accept a run with harness baseline accept"
        raise HarnessError(f"baseline {name!r}", f"there is none under {folder}", hint)
    return path


def _refuse_folder(name: str) -> None:
    if Path(name).is_dir():
        way_out = "accept the run with harness baseline accept, and give its --name"
        raise HarnessError(f"baseline {name}", "it is a folder, and a baseline is a file", way_out)


def listed(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name, file) of every baseline under ``folder``, by name; files in a run's folder are none."""
    for path in sorted(folder.rglob(f"*{SUFFIX}")) if folder.is_dir() else ():
        if (path.parent / MANIFEST).is_file():
            continue
        yield str(path.relative_to(folder).with_suffix("")), path


def accept(run_path: Path, folder: Path, name: str, reason: str, replace: bool = False) -> Path:
    """Write the finished run at ``run_path`` as the baseline ``name`` and return the file.

    What :func:`check_acceptable` refuses raises :class:`NotComparableError`; an existing baseline is kept unless
    ``replace``. Nothing is half-written.
    """
    if not reason.strip():
        raise HarnessError("--reason is empty", "a baseline says why it was accepted", "give a sentence")
    path = path_of(folder, name)
    if path.exists() and not replace:
        raise HarnessError(f"baseline {name!r}", "it exists already", "choose another name or give --replace")
    run = complete_run(run_path)
    check_acceptable(run)
    evaluation = run.manifest if isinstance(run.manifest, EvaluationManifest) else None
    baseline = Baseline(
        name=name,
        reason=reason.strip(),
        accepted=datetime.datetime.now(datetime.UTC).date().isoformat(),
        provenance={
            "checkpoint": None if evaluation is None else evaluation.checkpoint,
            "environment": run.manifest.environment,
        },
        spec=None if evaluation is None else evaluation.spec,
        arm=run.arm,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, dump(baseline))
    except OSError as error:
        raise HarnessError(f"baseline {path}", f"it cannot be written ({error.strerror})", "fix the folder") from None
    return path


def check_acceptable(run: Run) -> None:
    """Raise :class:`NotComparableError` where ``run`` cannot be a reference.

    Its certificate must be certified, and its clean accuracy must lie above the floor: what has nothing to lose proves
    nothing. Of texts every log-likelihood must be finite; that they can be lost is what the positive control shows.
    Completions scored from elsewhere are the one deliberate exception to the first rule: nothing certifies
    them, they may stand as a baseline of their clean level, and every report says what they are.
    """
    refuse_unscored(run.arm.key, f"run {run.path}")
    certificate = run.arm.certificate
    if certificate.status not in (CERTIFIED, EXTERNAL):
        problems = [*certificate.problems, *(words for level in certificate.levels for words in level.problems)]
        why = problems[0] if problems else f"its certificate is {certificate.status!r}"
        raise NotComparableError(f"run {run.path} is INVALID ({why})", "no evidence, no baseline")
    if is_continuous(run.arm.key):
        _check_texts(run)
        return
    floor = FLOOR if run.manifest.floor is None else float(run.manifest.floor)
    clean = run.arm.outcomes.get(0.0, {})
    pairs = pair(clean, clean)  # sampled answers to an item are no items
    low = accuracy(pairs, pairs.means()[0], ALPHA).low if pairs.n else 0.0
    if low < floor:
        raise NotComparableError(
            f"run {run.path} is at the floor: the lower bound of its clean accuracy is {100 * low:.1f} % on"
            f" {pairs.n} items, below {100 * floor:g} %",
            "what has nothing to lose is no baseline",
            "accept a run with more items or of a checkpoint that solves them",
        )


def _check_texts(run: Run) -> None:
    """Raise :class:`NotComparableError` where a document of ``run`` has no finite log-likelihood, and where its texts
    are hardly more probable than if every token of the vocabulary were as probable as another."""
    for level, cells in run.arm.outcomes.items():
        lost = [
            item for item, row in cells.items() if any(getattr(each, "nats", None) is None for each in row.values())
        ]
        if lost:
            raise NotComparableError(
                f"run {run.path}: {len(lost)} of {len(cells)} documents have no finite log-likelihood at level"
                f" {level:g} ({named(lost)})",
                "what they would lose has no bound, so that no candidate could be judged",
                "evaluate at lower levels, or in float32",
            )
    _check_learned(run)


def _check_learned(run: Run) -> None:
    """The vocabulary is what the ledger counted at the head; without noise there it is not known."""
    heads = [count for count in run.counts if count.site.endswith(HEADS) and count.rows]
    if not heads or 0.0 not in run.arm.outcomes:
        return
    nats, vocabulary = text_level(run.arm, 0.0)[2].estimate, heads[0].elements // heads[0].rows
    if nats > math.log(vocabulary) - LEARNED_NATS:
        raise NotComparableError(
            f"run {run.path} is at the floor: {nats:.2f} nats a token on its clean texts, where every one of"
            f" {vocabulary:,} tokens alike would be {math.log(vocabulary):.2f}",
            "what has nothing to lose is no baseline",
            "accept a run on texts that the checkpoint has learned",
        )


def load_named(folder: Path, name: str) -> Baseline:
    """Return the baseline called ``name`` under ``folder``, or in the file ``name``."""
    return load(find(folder, name))


@dataclass(frozen=True)
class Difference:
    """What differs between two arms: measurement-key fields, and per level the changed (item, seed) outcomes."""

    key: tuple[str, ...]
    changed: dict[float, dict[str, dict[int, tuple[str, str]]]]
    only_left: dict[float, int]
    only_right: dict[float, int]

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for JSON; outcomes are (left, right) reasons, of texts their nats."""
        return {
            "measurement_key": list(self.key),
            "changed": {number_text(level): items for level, items in self.changed.items()},
            "only_left": {number_text(level): count for level, count in self.only_left.items()},
            "only_right": {number_text(level): count for level, count in self.only_right.items()},
        }


def diff(left: Arm, right: Arm) -> Difference:
    """Compare two arms outcome by outcome (reasons, not only scores)."""
    changed: dict[float, dict[str, dict[int, tuple[str, str]]]] = {}
    only_left, only_right = {}, {}
    for level in sorted({*left.outcomes, *right.outcomes}):
        ours, theirs = _cells(left, level), _cells(right, level)
        only_left[level], only_right[level] = len(ours.keys() - theirs), len(theirs.keys() - ours)
        for item, seed in sorted(ours.keys() & theirs):
            before, after = ours[item, seed], theirs[item, seed]
            if _differ(before, after):
                changed.setdefault(level, {}).setdefault(item, {})[seed] = _shown(before), _shown(after)
    return Difference(key_differences(left.key, right.key), changed, only_left, only_right)


def _differ(before: Outcome, after: Outcome) -> bool:
    """Whether two outcomes are not the same: of log-likelihoods the last digits are those of a machine."""
    if not (isinstance(before, TextOutcome) and isinstance(after, TextOutcome)):
        return before != after
    if before.nats is None or after.nats is None or before.tokens != after.tokens:
        return before != after
    return abs(before.nats - after.nats) > CHANGED_NATS


def _shown(outcome: Outcome) -> str:
    if isinstance(outcome, TextOutcome) and outcome.nats is not None:
        return f"{outcome.nats:.6g} nats"
    return outcome.reason


def _cells(arm: Arm, level: float) -> dict[tuple[str, int], Outcome]:
    rows = arm.outcomes.get(level, {})
    return {(item, seed): outcome for item, row in rows.items() for seed, outcome in row.items()}
