"""``harness divergence record``: the distributions of a run's own answers, as a reference for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli import options
from harness.cli.exits import Ended
from harness.cli.output import show_run
from harness.distributions import TOP
from harness.library.divergence import ITEMS, TOKENS, Size, record
from harness.record import INVALID_EVIDENCE
from harness.reports.progress import shown


@click.command("record")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the reference; it is resumed.")
@click.option("--items", default=ITEMS, show_default=True, help="Answers of the run, the first in its seeded order.")
@click.option("--tokens", default=TOKENS, show_default=True, help="Tokens of each answer, drawn from all.")
@click.option("--noise-seeds", default=1, show_default=True, help="Noise seeds of each noisy level.")
@click.option("--top", default=TOP, show_default=True, help="Most probable tokens that are kept of each distribution.")
@options.engine_options
@options.json_option
def command(run: Path, out: Path, as_json: bool, **given: Any) -> None:
    """Score the clean answers of RUN under its noise levels again, and keep what was probable at every token.

    The reference is a run like any other: counted, audited, replayed, with a positive control. Exit code 4 if its
    evidence is INVALID.
    """
    options.set_up_logging(given["verbose"])
    with shown() as watcher:
        size = Size(given["items"], given["tokens"], given["noise_seeds"], given["top"])
        found = record(run, out, size, options.engine_options_of(given), given["device"], watcher)
    if show_run(found, as_json).status == INVALID_EVIDENCE:
        raise Ended(4)
