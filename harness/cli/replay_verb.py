"""``harness replay``: one item of a run again, clean and noisy, beside what the run has stored."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from harness.cli import options
from harness.cli.exits import Ended
from harness.exceptions import HarnessError, StoreError
from harness.runs.loaded import EXTERNAL_KIND, Run, load_run
from harness.spec import EvalSpec

MOST_NAMED = 3


@click.command("replay")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--item", required=True, metavar="HASH", help="The item's hash, or its unique beginning.")
@click.option("--level", required=True, type=float, help="A noise level of the run (fraction).")
@click.option("--seed", default=0, show_default=True, help="A noise seed of that level.")
@click.option("--checkpoint", default=None, type=click.Path(path_type=Path), help="Where the checkpoint is now.")
@click.option("--data", default=None, metavar="FILE", help="Where the task's data is now.")
@click.option("--device", default=None, help="cpu, cuda, ...; default: the accelerator, else cpu.")
@click.option("--ledger", is_flag=True, help="Show what was counted at every site.")
@options.json_option
def command(run: Path, item: str, level: float, seed: int, ledger: bool, as_json: bool, **given: Any) -> None:
    """Generate one item of RUN again, alone, without noise and with it, and compare with the stored records.

    Exit code 4 where a generation differs from its record, or the checkpoint is not that of the run.
    """
    options.set_up_logging(False)
    stored = load_run(run)
    key = choose(stored, item, level, seed)
    from harness.cli.replaying import prepared_again, replay
    from harness.reports.replay_view import print_replay
    from harness.reports.terminal import print_ledger, print_sums

    report, counts = replay(stored, prepared_again(stored, **given), *key)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        print_replay(report)
        if ledger:
            print_sums(report["ledger"])
            print_ledger(counts)
    if not report["reproduced"]:
        raise Ended(4)


def choose(run: Run, item: str, level: float, seed: int) -> tuple[str, float, int]:
    """The record that is meant, and there. Raises :class:`HarnessError` naming what the run has instead."""
    if run.manifest["kind"] == EXTERNAL_KIND:
        raise HarnessError(
            f"run {run.path}", "its completions were produced elsewhere", "replay a run of harness eval or harness gate"
        )
    key = _item(run.manifest["identity"]["items"], item)
    spec = EvalSpec.from_json(run.manifest["spec"])
    if level not in spec.levels:
        known = ", ".join(f"{found:g}" for found in spec.levels)
        raise HarnessError(f"--level {level:g}", f"the run has the levels {known}", "choose one of them")
    if seed not in spec.seeds_at(level):
        known = ", ".join(str(found) for found in spec.seeds_at(level))
        raise HarnessError(f"--seed {seed}", f"at level {level:g} the run has the seeds {known}", "choose one of them")
    there = {(record.item, record.level, record.seed) for record in run.results}
    for wanted in ((key, 0.0, 0), (key, level, seed)):
        if wanted not in there:
            raise StoreError(
                f"run {run.path}",
                f"it is unfinished: item {key} has no record at level {wanted[1]:g}, seed {wanted[2]}",
                "resume it with harness eval",
            )
    return key, level, seed


def _item(items: Sequence[str], prefix: str) -> str:
    found = [prefix] if prefix in items else [item for item in items if item.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if found:
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        named = ", ".join(found[:MOST_NAMED])
        raise HarnessError(f"--item {prefix!r}", f"it means {named}{more}", "give more of the hash")
    close = difflib.get_close_matches(prefix, items, n=1, cutoff=0.5)
    way_out = f"did you mean {close[0]}?" if close else f"the first of its {len(items)} items is {items[0]}"
    raise HarnessError(f"--item {prefix!r}", "no item of the run begins so", way_out)
