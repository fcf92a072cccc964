"""``harness lm-eval``: the command line of lm-evaluation-harness, with the model ``harness``."""

from __future__ import annotations

import click

from harness.exceptions import HarnessError


@click.command(
    "lm-eval", context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run lm-eval with ARGUMENTS, where --model harness answers under noise, with evidence.

    harness lm-eval run --model harness --model_args pretrained=CHECKPOINT,out=RUNS,level=0.05 --tasks NAME
    """
    try:
        from harness.library.lm_eval_model import run_lm_eval
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":
            raise
        way_out = "pip install 'robustness-harness[lm-eval]'"
        raise HarnessError("harness lm-eval", "lm-eval is not installed", way_out) from None
    run_lm_eval(arguments)
