"""``harness doctor``: what works here, and whether the statistics keep their promises."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from harness.cli import options
from harness.exceptions import HarnessError

HEADER = ("part", "state", "needed", "detail")


@click.command("doctor")
@click.option("--calibrate", is_flag=True, help="Simulate the intervals, the gate and early stopping instead.")
@click.option("--thorough", is_flag=True, help="With --calibrate: many more repetitions.")
@click.option("--cells", is_flag=True, help="With --calibrate: every simulated setting, not one row for each size.")
@options.json_option
def command(calibrate: bool, thorough: bool, cells: bool, as_json: bool) -> None:
    """Say what of this environment works, or with --calibrate show that intervals and verdicts are calibrated.

    The tables of --calibrate: coverage of every interval beside intervals that fail, the gate's verdicts on arms with a
    planted drop beside the planner's odds, and what early stopping saves. Exit codes: 0 all is well,
    2 something that is needed does not work, or a promise is not kept.
    """
    for name, given in (("--thorough", thorough), ("--cells", cells)):
        if given and not calibrate:
            raise HarnessError(name, "it belongs to --calibrate", "add --calibrate or leave it out")
    raise SystemExit(0 if (_calibrate(thorough, cells, as_json) if calibrate else _examine(as_json)) else 2)


def _examine(as_json: bool) -> bool:
    from harness.cli.doctoring import examine

    findings = examine()
    sound = all(finding.sound for finding in findings)
    if as_json:
        click.echo(json.dumps({"sound": sound, "findings": [asdict(finding) for finding in findings]}, indent=2))
        return sound
    from harness.reports.layout import print_lines, print_table, stdout_console

    rows = [(each.part, each.state, "yes" if each.needed else "no", each.detail) for each in findings]
    print_table(stdout_console(), "What works here", HEADER, rows)
    lacking = [finding.part for finding in findings if not finding.sound]
    words = f"needed and not working: {', '.join(lacking)}" if lacking else "everything that is needed works"
    print_lines(stdout_console(), [words])
    return sound


def _calibrate(thorough: bool, cells: bool, as_json: bool) -> bool:
    from harness.cli.doctoring import calibration_report

    report = calibration_report(thorough)
    if as_json:
        click.echo(json.dumps(report, indent=2, allow_nan=False))
    else:
        from harness.reports.calibration_tables import print_calibration

        print_calibration(report, cells)
    return bool(report["holds"])
