"""``harness import``: results that other evaluation programs wrote become a run of their own kind."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli import options
from harness.thresholds import FLOOR

FORMATS = "auto, lm-eval, inspect, nemo, verl, openai"


@click.command("import")
@click.argument("files", metavar="FILE...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to write.")
@click.option("--format", "name", default="auto", show_default=True, help=f"{FORMATS}.")
@click.option("--metric", help="What is gated, as exact_match,strict-match; default: the only one there is.")
@click.option("--at-least", type=float, metavar="NUMBER", help="The lowest score that is right; default: 0 and 1 only.")
@click.option("--task", help="Which of several tasks in a folder; or the name of one whose file has none.")
@click.option("--level", type=float, default=0.0, show_default=True, help="Noise that was on elsewhere (fraction).")
@click.option(
    "--floor", type=float, default=FLOOR, show_default=True, help="Accuracy that measures nothing (fraction)."
)
@options.json_option
def command(files: tuple[Path, ...], out: Path, name: str, as_json: bool, **given: object) -> None:
    """Import the results in FILE: samples of lm-eval, a log of Inspect, results of NeMo Evaluator, a validation dump of
    verl, a log of OpenAI's evals, or a folder with them. Several files are repeats of one evaluation.

    Such a run is "external, uncertified": its scores are those that the program wrote, and nothing proves what noise
    was on. It can be a baseline and be compared at level 0; its noisy levels are INVALID.
    """
    options.set_up_logging(False)
    from harness.cli.output import show_run
    from harness.evaluate.imported.importing import ImportOptions, import_results
    from harness.runs.loaded import load_run

    import_results(files, out, ImportOptions(format=name, **given))  # type: ignore[arg-type]
    show_run(load_run(out), as_json)
