"""``harness``: finds the verb, runs it, and turns every expected error into one line and an exit code.

Exit codes: 0 PASS or done, 1 FAIL, 2 bad arguments or unreadable files, 3 INCONCLUSIVE, 4 INVALID,
70 an error that nobody foresaw, 130 stopped by Ctrl-C or SIGTERM, 141 the reader of the output went away (the last
three are never a verdict's code).
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from harness import extensions
from harness.cli.crash import error_line, keep_log, traceback_of
from harness.cli.exits import BAD_INPUT, CRASHED, INTERRUPTED, PASS, PIPE_CLOSED, Ended
from harness.cli.saying import complain, complain_at_length
from harness.cli.stopping import end_at_once_with, stopped_by_sigterm
from harness.exceptions import HarnessError
from harness.progress import process_seconds
from harness.text import nearest

VERBS = {
    "aqn": "Noise on rollout weights: schedule, plan, apply, response.",
    "baseline": "Keep, list, show and compare accepted runs.",
    "compare": "Compare two arms of replicated training runs.",
    "divergence": "Judge a checkpoint by its next-token distributions: record, gate.",
    "doctor": "Say what works here; --calibrate shows that the statistics hold.",
    "claims": "Judge the published claims from their registered numbers.",
    "eval": "Evaluate a checkpoint at 0 / 5 / 10 % inference noise.",
    "fetch": "Build a small real checkpoint from a package.",
    "gate": "Judge a run or a checkpoint against a baseline.",
    "import": "Import results that lm-eval, Inspect, NeMo Evaluator, verl or OpenAI's evals wrote.",
    "lm-eval": "Run lm-eval with the model harness: its requests under noise, with evidence.",
    "plan": "Show what a noise specification perturbs in a model.",
    "replay": "Run one item of a run again and compare.",
    "report": "Show a page of a run, a scan or a baseline.",
    "scan": "Judge a checkpoint by number formats: weights, activations, answers.",
    "score": "Score completions produced elsewhere.",
    "train": "Training experiments on verl: list, show, check, run, resume, report, matrix.",
}
GROUP = "robustness_harness.verbs"
"""The group of entry points by which other distributions add verbs: each names a ``click.Command``."""
VERBOSE = ("-v", "--verbose")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Errors of the file system that name no file."""


class _Verbs(click.Group):
    """Imports a verb's module only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_known())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return _outside(cmd_name)
        command = importlib.import_module(f"harness.cli.{cmd_name.replace('-', '_')}_verb").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and args[0] not in _known() and not args[0].startswith("-"):
            raise click.UsageError(f"no verb {args[0]!r}; {nearest(args[0], _known())}", ctx)
        return super().resolve_command(ctx, args)

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> click.Context:
        with _closed_pipe():
            return super().make_context(info_name, args, *rest, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _closed_pipe():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(sorted({**_origins(), **VERBS}.items()))


def _known() -> tuple[str, ...]:
    """The names of all verbs: the package's own first, then those of other distributions."""
    return tuple(dict.fromkeys((*VERBS, *extensions.names(GROUP))))


def _origins() -> dict[str, str]:
    """What the list of verbs says of those of other distributions, whose code is not loaded for it."""
    return {name: f"Of {extensions.origin_of(GROUP, name)}." for name in extensions.names(GROUP)}


def _outside(name: str) -> click.Command | None:
    """The verb of another distribution, None where there is none. Raises :class:`HarnessError` for what is no
    verb."""

    def fault(found: object) -> str:
        return "" if isinstance(found, click.Command) else f"it is a {type(found).__name__}, not a click.Command"

    command: click.Command | None = extensions.load_checked(GROUP, "verb", name, VERBS, fault)
    return command


@contextlib.contextmanager
def _closed_pipe() -> Iterator[None]:
    """The end with code 141 where the reader of the output went away: click would give 1, which is FAIL here."""
    try:
        yield
    except BrokenPipeError:
        raise Ended(PIPE_CLOSED) from None


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="robustness-harness", prog_name="harness")
@click.option(*VERBOSE, is_flag=True, expose_value=False, help="Show the traceback of an error that nobody foresaw.")
def command() -> None:
    """Evaluate LLM checkpoints under proven numerical noise. No evidence, no verdict.

    Exit codes: 0 PASS, 1 FAIL, 2 bad arguments or unreadable files, 3 INCONCLUSIVE, 4 INVALID, 70 unforeseen error.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the ``harness`` command."""
    given = list(arguments) if arguments is not None else sys.argv[1:]
    age = process_seconds() if arguments is None else 0.0
    code = _run(given, time.monotonic() - age)
    if arguments is None:
        end_at_once_with(code)
    sys.exit(code)


def _run(given: Sequence[str], begun: float) -> int:
    """Runs the verb of the command line ``given`` and returns its exit code, whatever happens; ``begun`` is when the
    command began (:func:`time.monotonic`), which verbs find in the context."""
    try:
        with stopped_by_sigterm():
            code = _foreseen(given, begun)
        if sys.stdout is not None:
            sys.stdout.flush()  # a reader that went away shows here, not after the exit code is known
    except BrokenPipeError:
        code = PIPE_CLOSED
    except KeyboardInterrupt:  # a second one, while the first is being reported
        code = INTERRUPTED
    except BaseException as error:  # Rust's panics are no Exception, and a library may end the program
        code = _crashed(error, given)
    if code == PIPE_CLOSED:
        _drop_output()
    if code == INTERRUPTED:
        exec("", {})  # CPython dies of SIGINT at its end if the interrupt once came while a text was executed (imports)
    return code


def _foreseen(given: Sequence[str], begun: float) -> int:
    """The exit code of every end that was foreseen, its error reported in one line."""
    try:
        code = command.main(args=list(given), standalone_mode=False, obj=begun)
    except Ended as end:
        code = end.code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = BAD_INPUT
    except click.ClickException as error:
        complain(f"{error.format_message().rstrip('.')}{_where_to_look(error)}")
        code = BAD_INPUT
    except HarnessError as error:
        complain(str(error))
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        complain("stopped; what was finished is kept, the same command resumes")
        code = INTERRUPTED
    except OSError as error:
        if error.filename is None and error.errno not in _DISK:
            raise
        complain(f"{error}; check the paths given")
        code = BAD_INPUT
    return code if isinstance(code, int) else PASS


def _crashed(error: BaseException, given: Sequence[str]) -> int:
    """Reports ``error`` in one line, with its traceback where asked for; nothing that fails here changes the code."""
    with contextlib.suppress(Exception):
        log = keep_log(error, given)
        where = "no folder took its log: -v shows its traceback" if log is None else f"its traceback is in {log}"
        if any(option in given for option in VERBOSE):
            complain_at_length(traceback_of(error))
        complain(f"{error_line(error)}; an error that nobody foresaw, no verdict; {where}")
    return CRASHED


def _drop_output() -> None:
    """What is still buffered goes nowhere."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _where_to_look(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return "" if context is None else f"; {context.command_path} --help shows the options"


if __name__ == "__main__":
    main()
