"""Switches the noise of this process on, as ``HARNESS_NOISE`` says, and gives what it did."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.exceptions import NoiseSpecError
from harness.noise.environment import VARIABLE, is_command, parse, say

if TYPE_CHECKING:
    from harness.noise.session import NoiseSession
    from harness.record import SiteCount


def switch_on(environment: Mapping[str, str] = os.environ) -> None:
    """Do what ``import harness`` does where the variable is set; does nothing more where the noise is on already.

    Raises :class:`NoiseSpecError` for a wrong text. In the ``harness`` command that is one line and exit code 2.
    """
    try:
        specs = parse(environment[VARIABLE])
    except NoiseSpecError as error:
        if not is_command():
            raise
        say(str(error))
        raise SystemExit(error.exit_code) from None
    from harness.noise.process_noise import PROCESS  # imports torch, after the text is known to be right

    PROCESS.switch_on(specs)


def sessions() -> tuple[NoiseSession, ...]:
    """Return the open sessions of this process, one for each model and specification; their ``ledger`` holds the
    counts."""
    from harness.noise.process_noise import PROCESS

    return PROCESS.sessions()


def counts() -> tuple[SiteCount, ...]:
    """Return everything counted in this process so far, models that are gone included."""
    from harness.noise.process_noise import PROCESS

    return PROCESS.counts()
