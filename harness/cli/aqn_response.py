"""``harness aqn response``: accuracy, KL and entropy against sigma, with a prediction that is held against the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.checkpoints.hub import located
from harness.cli import options
from harness.cli.saying import say
from harness.exceptions import HarnessError

if TYPE_CHECKING:
    from harness.diagnostics.aqn_response import Response


@click.command("response")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@options.task_options
@click.option("--items", default=64, show_default=True, help="Items, chosen in a seeded order.")
@click.option("--item-seed", default=0, show_default=True, help="Seed of the choice of items.")
@click.option("--max-new-tokens", default=None, type=int, help="Longest answer; default: the task's own.")
@click.option("--sigmas", required=True, metavar="S,S,...", help="Rising, as 0.001,0.003,0.01,0.03,0.1.")
@click.option("--draws", default=5, show_default=True, help="Draws of the noise at each sigma.")
@click.option("--groups", default="norms,linears", show_default=True, help="norms, linears.")
@click.option("--mode", default="absolute", show_default=True, help="absolute or relative.")
@click.option("--seed", default=0, show_default=True, help="Seed of the first draw.")
@click.option("--batch-size", default=64, show_default=True, help="Prompts in a batch.")
@click.option("--prefix", metavar="TEXT", help="With --task pairs: text before every sentence.  [default: BOS]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of what is measured; an unfinished one resumes.")
@click.option("--plot", type=click.Path(path_type=Path), help="SVG of KL against sigma, with the prediction.")
@options.model_options
@options.json_option
def command(checkpoint: Path, out: Path | None, plot: Path | None, as_json: bool, **given: Any) -> None:
    """Measure what each sigma does to the answers of CHECKPOINT, for norms and for linears.

    With --task pairs and --data FILE.jsonl an item is a pair of sentences (sentence_good, sentence_bad) of which the
    good one has to be likelier, for models that answer no questions.

    KL is of the clean from the noisy model, in nats per token of the clean answer (of the good sentence). This is what
    chooses a sigma before a run. Sigmas beyond half of the spread of the weights are measured too; the table shows how
    large they are.
    """
    options.set_up_logging(False)
    if given["task"] is None:
        raise HarnessError("no --task", "the effect is measured on its items", "give --task arith")
    _check_plot(plot)
    checkpoint = located(checkpoint)
    from harness.diagnostics.aqn_response import ResponseSpec, respond
    from harness.reports.aqn_page import response_page
    from harness.reports.progress import shown
    from harness.reports.render.terminal import show
    from harness.spec import EvalSpec

    names = ("data", "items", "item_seed", "scorer", "max_new_tokens", "attention", "dtype")
    spec = ResponseSpec(
        checkpoint,
        EvalSpec(given["task"], **{name: given[name] for name in names}),
        _numbers(given["sigmas"]),
        given["draws"],
        _groups(given["groups"]),
        given["mode"],
        given["seed"],
        given["batch_size"],
        given["prefix"],
    )
    with shown() as watcher:
        response = respond(spec, out, watcher)
    if plot is not None:
        write_plot(plot, response)
    if as_json:
        click.echo(json.dumps(response.to_json(), indent=2, allow_nan=False))
        return
    show(response_page(response.to_json()))
    if plot is not None:
        say(f"plot: {plot}")


def _check_plot(plot: Path | None) -> None:
    if plot is not None and plot.suffix != ".svg":
        raise HarnessError(f"--plot {plot}", "plots are SVG", "end the name in .svg")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise HarnessError(f"--sigmas {text!r}", "they are numbers with commas", "write 0.001,0.01,0.1") from None


def _groups(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    wrong = [group for group in found if group not in ("norms", "linears")]
    if wrong:
        raise HarnessError(f"--groups {text!r}", "they are norms and linears", f"drop {wrong[0]!r}")
    return found


def write_plot(file: Path, response: Response) -> None:
    """Write KL against sigma with its intervals, and the prediction of each group, as SVG."""
    from harness.reports.line_chart import Axis, Series, chart, write_chart

    series = []
    for group in response.spec.groups:
        cells = [cell for cell in response.cells if cell.group == group]
        points = tuple((cell.sigma, cell.kl.estimate) for cell in cells)
        series.append(Series(group, points, tuple((cell.kl.low, cell.kl.high) for cell in cells)))
    for number, (group, fit) in enumerate(response.fits.items()):
        if fit.coefficients:
            low, high = response.spec.sigmas[0], response.spec.sigmas[-1]
            steps = [low * (high / low) ** (n / 60) for n in range(61)]
            name = f"{group}: prediction{'' if fit.holds else ' (not met)'}"
            series.append(Series(name, tuple((s, fit.predict(s)) for s in steps), dashed=True, colour=number))
    axes = Axis("sigma", log=True), Axis("KL(clean, noisy), nats per token", log=True)
    write_chart(file, chart("AQN: dose and effect", *axes, series))
