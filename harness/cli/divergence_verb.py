"""``harness divergence``: record, gate."""

from __future__ import annotations

import click

from harness.cli.sub_verbs import SubVerbs


@click.group("divergence", cls=SubVerbs, verbs=("record", "gate"))
def command() -> None:
    """Judge a checkpoint by how far its next-token distributions lie from a reference's, in nats a token."""
