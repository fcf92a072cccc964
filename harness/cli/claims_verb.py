"""``harness claims``: judges the published claims from their registered numbers, and the pre-registered theory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from harness.cli import options
from harness.cli.saying import say
from harness.exceptions import HarnessError


@click.command("claims")
@click.option("--id", "name", default=None, metavar="ID", help="One claim in full, with its arms and values.")
@click.option("--verdict", default=None, help="Only claims with this verdict.")
@click.option(
    "--registry",
    default=None,
    type=click.Path(path_type=Path),
    help="Folder of the published results and claims.  [default: baselines/published]",
)
@click.option("--markdown", default=None, type=click.Path(path_type=Path), help="Write the page to this file as well.")
@click.option("--theory", is_flag=True, help="Judge the gradient-versus-activation theory instead.")
@click.option(
    "--arm", "arms", multiple=True, metavar="NAME=RUN,RUN", help="With --theory: run folders of E8a, E8b, E8c, E8d."
)
@options.json_option
def command(registry: Path | None, theory: bool, arms: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Recompute the verdict of every published claim from its registered data and integrity facts.

    Verdicts: supported, supported_single_seed, not_established, void, confounded, false. With --theory: the criteria
    fixed beforehand over replicated arms; without --arm over what is published. The exit code is 0 whatever the
    verdicts are.
    """
    if theory:
        _refuse(given, "--theory judges the theory alone")
        _show_theory(registry, arms, as_json)
        return
    if arms:
        raise HarnessError("--arm", "arms belong to the theory", "add --theory")
    _show_claims(registry, as_json, **given)


def _show_claims(
    registry: Path | None, as_json: bool, name: str | None, verdict: str | None, markdown: Path | None
) -> None:
    from harness.library.claims import judge_claims
    from harness.reports.claims_page import claim_page, claims_page, write_claims
    from harness.reports.render.terminal import show

    report = judge_claims(registry, name, verdict)
    if markdown is not None:
        write_claims(markdown, report)
    if as_json:
        click.echo(json.dumps(report, indent=2, allow_nan=False))
        return
    single = name is not None and report["claims"]
    show(claim_page(report["claims"][0], report) if single else claims_page(report))
    if markdown is not None:
        say(f"report: {markdown}")


def _show_theory(registry: Path | None, texts: tuple[str, ...], as_json: bool) -> None:
    from harness.claims.theory_runs import parse_theory_arms
    from harness.library.claims import judge_published_theory
    from harness.reports.claims_page import theory_page
    from harness.reports.render.terminal import show

    found = judge_published_theory(registry, parse_theory_arms(texts))
    if as_json:
        click.echo(json.dumps({"schema_version": 1, "theory": found}, indent=2, allow_nan=False))
    else:
        show(theory_page(found))


def _refuse(given: dict[str, Any], rule: str) -> None:
    flags = {"name": "--id", "verdict": "--verdict", "markdown": "--markdown"}
    for key, flag in flags.items():
        if given[key] is not None:
            raise HarnessError(flag, rule, f"drop {flag} or --theory")
