"""``harness aqn schedule``: sigma at every step, and the steps at which a validation is clean by accident."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.aqn.schedule import Schedule
from harness.cli.aqn_options import schedule_of, schedule_options
from harness.cli.options import json_option
from harness.cli.saying import say


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
    from harness.reports.aqn_page import schedule_page
    from harness.reports.render.terminal import show

    show(schedule_page(schedule.stretches(), schedule.clean))
    if plot is not None:
        say(f"plot: {plot}")


def _write_plot(file: Path, schedule: Schedule) -> None:
    from harness.reports.line_chart import Axis, Series, chart, write_chart

    points = tuple((float(step), sigma) for step, sigma in enumerate(schedule.values))
    title = "AQN: sigma at every step (gaps: warm-up, sigma 0)"
    axes = Axis("step"), Axis("sigma", log=schedule.sigma_end < schedule.sigma_start)
    write_chart(file, chart(title, *axes, [Series("sigma", points, steps=True)]))
