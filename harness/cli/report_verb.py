"""``harness report``: a page of what is stored, for the terminal, as Markdown, as JSON or as HTML."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli.options import refuse_with
from harness.cli.saying import say
from harness.exceptions import HarnessError
from harness.reports.pages import build_page, page_names, usual_page
from harness.runs.folder import guarded, write_atomically

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
@click.option("--html", "file", type=click.Path(path_type=Path), help="Write it into this file instead, for a browser.")
def command(path: Path, page: str | None, against: Path | None, form: str, file: Path | None) -> None:
    """Show a page of PATH: a run folder, the folder of several tasks, the --out of a scan, or the file of a baseline.

    Everything is computed again from what is stored; no checkpoint is needed.
    """
    if file is not None and form != FORMATS[0]:
        raise HarnessError(f"--format {form} with --html {file}", "a page is shown in one way", "leave one of them out")
    if against is not None:
        refuse_with("--against", ("page",), {"page": page})
        from harness.reports.perplexity_page import difference_page

        found = difference_page(path, against)
    else:
        found = build_page(usual_page(path) if page is None else page, path)
    if file is not None:
        from harness.reports.render.html import html

        with guarded(file, "file"):
            write_atomically(file, html(found))
        say(f"report: {file}")
    elif form == "json":
        from harness.reports.render.json import page_json

        click.echo(json.dumps(page_json(found), indent=2))
    elif form == "markdown":
        from harness.reports.render.markdown import markdown

        click.echo(markdown(found), nl=False)
    else:
        from harness.reports.render.terminal import show

        show(found)
