"""``HARNESS_NOISE="SPEC; SPEC"``: noise in every model of every process that imports ``harness`` with the variable set.

For processes that nobody can hand a session: workers and engines that a framework starts. Importing ``harness`` reads
the variable at once (a wrong text stops the process), says so on standard error with the process id, and from then on
every model that is called is perturbed for the life of the process (:mod:`harness.noise.process_noise`). At exit one
more line says what was injected, or that nothing was. Without the variable none of this is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from harness.exceptions import HarnessError, NoiseSpecError
from harness.spec.noise import NoiseSpec
from harness.spec.oneline import parse_noises

VARIABLE = "HARNESS_NOISE"
_COMMAND, _MODULE = "harness", "harness.cli.main"


def parse(text: str) -> tuple[NoiseSpec, ...]:
    """Return the specifications of the variable's ``text``, each with a strength. Raises :class:`NoiseSpecError`."""
    if not text.strip():
        raise NoiseSpecError(
            f"{VARIABLE} is empty", "it holds a noise specification", f"unset {VARIABLE}, or give it one"
        )
    try:
        specs = parse_noises(text)
    except NoiseSpecError as error:
        raise NoiseSpecError(f"{VARIABLE}: {error}") from None
    for spec in specs:
        if spec.level is None:
            raise NoiseSpecError(
                f"{VARIABLE}: {spec} has no strength",
                "no evaluation gives one to a process of its own",
                f"write for example {VARIABLE}='relative_gaussian(0.05) @ op:linear'",
            )
    return specs


def is_on(environment: Mapping[str, str] = os.environ) -> bool:
    """Return True where the variable is set, or the noise of this process is on."""
    process_noise = sys.modules.get("harness.noise.process_noise")
    return VARIABLE in environment or (process_noise is not None and bool(process_noise.PROCESS.specs))


def refuse(what: str) -> None:
    """Raise :class:`HarnessError` where the noise of this process is on: ``what`` measures a clean arm."""
    if is_on():
        raise HarnessError(
            f"{VARIABLE} is set, and {what} measures a clean arm",
            "its noise would be in there too",
            f"unset {VARIABLE}, and give the noise with --noise",
        )


def say(line: str) -> None:
    """Write one line to standard error; a process that has none (a detached one) stays silent."""
    if sys.stderr is not None:
        sys.stderr.write(f"harness: {line}\n")
        sys.stderr.flush()


def is_command() -> bool:
    """Return True in the ``harness`` command, however it is started: its own code does not run before this
    package's."""
    return Path(sys.argv[0]).stem == _COMMAND or ("-m" in sys.orig_argv and _MODULE in sys.orig_argv)
