"""``harness``: finds the verb, runs it, and turns every expected error into one line and an exit code.

Exit codes: 0 PASS or done, 1 FAIL, 2 bad arguments or unreadable files, 3 INCONCLUSIVE, 4 INVALID,
130 stopped by Ctrl-C, 141 the reader of the output went away (never a verdict's code).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from harness.exceptions import HarnessError

VERBS = {
    "baseline": "Keep, list, show and compare accepted runs.",
    "compare": "Compare two arms of replicated training runs.",
    "doctor": "Say what works here; --calibrate shows that the statistics hold.",
    "claims": "Judge the published claims from their registered numbers.",
    "eval": "Evaluate a checkpoint at 0 / 5 / 10 % inference noise.",
    "gate": "Judge a run or a checkpoint against a baseline.",
    "plan": "Show what a noise specification perturbs in a model.",
    "replay": "Run one item of a run again and compare.",
    "scan": "Judge a checkpoint by number formats: weights, activations, answers.",
    "score": "Score completions produced elsewhere.",
}
INTERRUPTED, PIPE_CLOSED = 130, 141


class _Verbs(click.Group):
    """Imports a verb's module only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"harness.cli.{cmd_name}_verb").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from harness.spec import nearest

            raise click.UsageError(f"no verb {args[0]!r}; {nearest(args[0], VERBS)}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would exit with 1, which is FAIL here
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
            raise SystemExit(PIPE_CLOSED) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(sorted(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="robustness-harness", prog_name="harness")
def command() -> None:
    """Evaluate LLM checkpoints under proven numerical noise. No evidence, no verdict.

    Exit codes: 0 PASS, 1 FAIL, 2 bad arguments or unreadable files, 3 INCONCLUSIVE, 4 INVALID.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the ``harness`` command."""
    try:
        code = command.main(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 2
    except click.ClickException as error:
        click.echo(f"harness: {' '.join(error.format_message().split())}{_where_to_look(error)}", err=True)
        code = 2
    except HarnessError as error:
        click.echo(f"harness: {error}", err=True)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("harness: stopped; what was finished is kept, the same command resumes", err=True)
        code = INTERRUPTED
    except OSError as error:
        click.echo(f"harness: {' '.join(str(error).split())}; check the paths given", err=True)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _where_to_look(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return "" if context is None else f"; {context.command_path} --help shows the options"


if __name__ == "__main__":
    main()
