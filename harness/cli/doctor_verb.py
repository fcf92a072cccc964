"""``harness doctor``: what works here, and whether the statistics keep their promises."""

from __future__ import annotations

import json

import click

from harness.cli import options
from harness.cli.exits import Ended
from harness.cli.saying import note
from harness.exceptions import HarnessError

NEEDS = ("vllm", "verl")


@click.command("doctor")
@click.option("--need", multiple=True, type=click.Choice(NEEDS), help="Exit with 2 unless this can run too.")
@click.option("--quick", is_flag=True, help="Import nothing: read what is installed.")
@click.option("--calibrate", is_flag=True, help="Simulate the intervals, the gate and early stopping instead.")
@click.option("--thorough", is_flag=True, help="With --calibrate: many more repetitions.")
@click.option("--cells", is_flag=True, help="With --calibrate: every simulated setting, not one row for each size.")
@options.json_option
def command(need: tuple[str, ...], quick: bool, calibrate: bool, thorough: bool, cells: bool, as_json: bool) -> None:
    """Say what of this environment works, which engines and pytest markers can run, and the command that repairs it.

    With --calibrate show that intervals and verdicts are calibrated: coverage of every interval beside intervals that
    fail, the gate's verdicts on arms with a planted drop beside the planner's odds, and what early stopping saves.
    Exit codes: 0 all is well, 2 something that is needed does not work, or a promise is not kept.
    """
    for name, given in (("--thorough", thorough), ("--cells", cells)):
        if given and not calibrate:
            raise HarnessError(name, "it belongs to --calibrate", "add --calibrate or leave it out")
    for name, wanted in (("--need", need), ("--quick", quick)):
        if wanted and calibrate:
            raise HarnessError(name, "it does not belong to --calibrate", "leave one of the two out")
    raise Ended(0 if (_calibrate(thorough, cells, as_json) if calibrate else _examine(need, quick, as_json)) else 2)


def _examine(need: tuple[str, ...], quick: bool, as_json: bool) -> bool:
    from harness.doctor.examining import examine

    diagnosis = examine(note, quick)
    lacking = diagnosis.lacking(need)
    if as_json:
        click.echo(json.dumps(diagnosis.to_json(need), indent=2))
        return not lacking
    from harness.reports.doctor_page import doctor_page
    from harness.reports.render.terminal import show

    show(doctor_page(diagnosis.to_json(need)))
    return not lacking


def _calibrate(thorough: bool, cells: bool, as_json: bool) -> bool:
    from harness.calibration.report import calibration_report
    from harness.reports.progress import shown

    with shown() as watcher:
        report = calibration_report(thorough, watcher)
    if as_json:
        click.echo(json.dumps(report, indent=2, allow_nan=False))
    else:
        from harness.reports.calibration_page import calibration_page
        from harness.reports.render.terminal import show

        show(calibration_page(report, cells))
    return bool(report["holds"])
