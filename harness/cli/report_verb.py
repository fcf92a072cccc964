"""``harness report``: a page of what is stored, for the terminal, as Markdown or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.options import refuse_with
from harness.reports.pages import build_page, page_names, usual_page

FORMATS = ("terminal", "markdown", "json")


@click.command("report")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--page", default=None, help=f"{', '.join(page_names())}.  [default: by what is there]")
@click.option(
    "--against",
    type=click.Path(path_type=Path, exists=True),
    help="Show what texts lose against this run instead (task perplexity).",
)
@click.option("--format", "form", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True)
def command(path: Path, page: str | None, against: Path | None, form: str) -> None:
    """Show a page of PATH: a run folder, the folder of several tasks, the --out of a scan, or the file of a baseline.

    Everything is computed again from what is stored; no checkpoint is needed.
    """
    if against is not None:
        refuse_with("--against", ("page",), {"page": page})
        from harness.reports.perplexity_page import difference_page

        found = difference_page(path, against)
    else:
        found = build_page(usual_page(path) if page is None else page, path)
    if form == "json":
        from harness.reports.render.json import page_json

        click.echo(json.dumps(page_json(found), indent=2))
    elif form == "markdown":
        from harness.reports.render.markdown import markdown

        click.echo(markdown(found), nl=False)
    else:
        from harness.reports.render.terminal import show

        show(found)
