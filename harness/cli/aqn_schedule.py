"""``harness aqn schedule``: sigma at every step, and the steps at which a validation is clean by accident."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from harness.aqn.schedule import Schedule
from harness.cli.aqn_options import schedule_of, schedule_options
from harness.cli.options import json_option

BAR = 30


@click.command("schedule")
@schedule_options
@click.option("--plot", type=click.Path(path_type=Path), help="SVG file of sigma over the steps.")
@json_option
def command(plot: Path | None, as_json: bool, **given: Any) -> None:
    """Show sigma at every step, from 0 to the last."""
    schedule = schedule_of(given)
    if plot is not None:
        _write_plot(plot, schedule)
    if as_json:
        click.echo(json.dumps(schedule.to_json(), indent=2, allow_nan=False))
        return
    width = len(str(schedule.steps))
    for first, last, sigma in schedule.stretches():
        bar = "#" * _length(schedule, sigma)
        click.echo(f"steps {first:>{width}} to {last:>{width}}  sigma {sigma:<10.4g} {bar}".rstrip())
    for first, last in schedule.clean:
        click.echo(f"a validation at steps {first} to {last} is clean by accident: sigma is 0 there")
    if plot is not None:
        click.echo(f"plot: {plot}")


def _length(schedule: Schedule, sigma: float) -> int:
    """Characters of the bar of ``sigma``: logarithmic, one for the smallest."""
    if sigma == 0:
        return 0
    whole = math.log(schedule.sigma_start) - math.log(schedule.sigma_end)
    share = (math.log(sigma) - math.log(schedule.sigma_end)) / whole if whole else 1.0
    return 1 + round(share * (BAR - 1))


def _write_plot(file: Path, schedule: Schedule) -> None:
    from harness.reports.line_chart import Axis, Series, chart, write_chart

    points = tuple((float(step), sigma) for step, sigma in enumerate(schedule.values))
    title = "AQN: sigma at every step (gaps: warm-up, sigma 0)"
    axes = Axis("step"), Axis("sigma", log=schedule.sigma_end < schedule.sigma_start)
    write_chart(file, chart(title, *axes, [Series("sigma", points, steps=True)]))
