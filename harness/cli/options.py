"""Options that several verbs share, and how they become a specification."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from harness.baselines.book import DEFAULT_FOLDER
from harness.checkpoints.modes import ADAPTER_MODES, MERGED
from harness.exceptions import HarnessError
from harness.gates.policy import GatePolicy
from harness.gates.policy_file import load_policy
from harness.spec import (
    ATTENTIONS,
    DEFAULT_BATCH,
    DTYPES,
    ENGINES,
    SCORERS,
    EngineOptions,
    EvalSpec,
    NoiseSpec,
    check_levels,
    default_levels,
    load_noises,
    parse_levels,
    parse_noise,
    parse_noises,
    parse_quantization,
)
from harness.spec.engine import DEFAULT_TIMEOUT

DEFAULT_NOISE = "relative_gaussian @ op:linear"

Function = TypeVar("Function", bound=Callable[..., Any])


def apply(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """One decorator out of several, in the order in which help shows them."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


quantize_option = click.option(
    "--quantize",
    default=None,
    metavar="PART=FORMAT,...",
    help="weights=mxfp4, activations=nvfp4, or both; on at every level. Or fake_quant specifications.",
)
task_options = apply(
    click.option("--task", default="arith", show_default=True, help="arith, gsm8k"),
    click.option("--data", default=None, metavar="FILE", help="JSONL or Parquet of the task's items."),
    click.option("--scorer", default=None, help=f"{', '.join(SCORERS)}; default: the task's own."),
)
model_options = apply(
    click.option("--attention", default="auto", show_default=True, help=", ".join(ATTENTIONS)),
    click.option("--dtype", default="float32", show_default=True, help=", ".join(DTYPES)),
)
spec_options = apply(
    task_options,
    click.option("--items", default=200, show_default=True, help="Items, chosen in a seeded order; 0 is an error."),
    click.option("--all-items", is_flag=True, help="Every item of the task."),
    click.option("--item-seed", default=0, show_default=True, help="Seed of the choice of items."),
    click.option(
        "--noise",
        default=DEFAULT_NOISE,
        show_default=True,
        help="Noise specification, or a .toml file with one.",
    ),
    quantize_option,
    click.option(
        "--noise-levels", default=None, metavar="L,L,...", help="Fractions, 0 among them.  [default: 0,0.05,0.1]"
    ),
    click.option("--noise-seeds", default=5, show_default=True, help="Noise seeds per level above 0."),
    click.option("--max-new-tokens", default=None, type=int, help="Longest answer; default: the task's own."),
    model_options,
    click.option("--engine", default="transformers", show_default=True, help=", ".join(ENGINES)),
    click.option("--no-positive-control", is_flag=True, help="Skip the lethal-noise control of the injection."),
)
adapter_options = apply(
    click.option(
        "--base",
        default=None,
        type=click.Path(path_type=Path),
        help="Base checkpoint of a LoRA adapter; default: its config's.",
    ),
    click.option(
        "--adapter", default=MERGED, show_default=True, help=f"A LoRA adapter's weights: {', '.join(ADAPTER_MODES)}."
    ),
)
engine_options = apply(
    click.option("--batch-size", default=DEFAULT_BATCH, show_default=True, help="Sequences per batch."),
    click.option("--workers", default=1, show_default=True, help="Engines that share the items, over Ray."),
    click.option(
        "--timeout", default=DEFAULT_TIMEOUT, show_default=True, help="Seconds to wait for an engine's answer."
    ),
    click.option("--device", default=None, help="cpu, cuda, ...; default: the accelerator, else cpu."),
    click.option("-v", "--verbose", is_flag=True, help="Log every batch."),
)
policy_options = apply(
    click.option("--margin", type=float, help="Accepted drop at every level (fraction).  [default: 0.03]"),
    click.option("--policy", type=click.Path(path_type=Path), help="TOML file with a table [policy] instead."),
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
folder_option = click.option(
    "--baselines-dir",
    default=DEFAULT_FOLDER,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of the baselines.",
)


def build_spec(given: dict[str, Any]) -> EvalSpec:
    """The specification of :data:`spec_options`. Raises :class:`HarnessError` for contradictions."""
    noise, levels = resolve_noise(given["noise"], given["noise_levels"])
    return EvalSpec(
        task=given["task"],
        data=given["data"],
        items=None if given["all_items"] else given["items"],
        item_seed=given["item_seed"],
        levels=levels,
        noise_seeds=given["noise_seeds"],
        noise=noise,
        scorer=given["scorer"],
        max_new_tokens=given["max_new_tokens"],
        attention=given["attention"],
        dtype=given["dtype"],
        engine=given["engine"],
        positive_control=not given["no_positive_control"],
        quantization=() if given["quantize"] is None else parse_quantization(given["quantize"]),
    )


def engine_options_of(given: dict[str, Any]) -> EngineOptions:
    """How to run: the values of :data:`engine_options`. Raises :class:`HarnessError`."""
    return EngineOptions(given["batch_size"], given["workers"], given["timeout"])


def build_policy(given: dict[str, Any], others: tuple[str, ...] = ()) -> GatePolicy:
    """The policy of the file ``--policy``, or of ``--margin`` and the options called ``others``."""
    own = {name: given[name] for name in ("margin", *others) if given[name] is not None}
    if given["policy"] is None:
        return GatePolicy(**own)
    if own:
        name = next(iter(own)).replace("_", "-")
        raise HarnessError(f"--policy {given['policy']} with --{name}", "rules come from one place", "drop one of them")
    return load_policy(given["policy"])


def resolve_noise(text: str, levels: str | None) -> tuple[NoiseSpec, tuple[float, ...]]:
    """Noise without a strength, and the levels: from ``levels``, else 0 and the strength that ``text`` gives.

    ``text`` is a specification or the path of a ``.toml`` file that holds exactly one. Raises :class:`HarnessError`.
    """
    noise = _one_noise(text)
    strength = noise.error.strength
    if strength is None or noise.level is None:
        return noise, default_levels(noise.error) if levels is None else parse_levels(levels, noise.error)
    if levels is not None:
        raise HarnessError(
            f"--noise {text!r} has a {strength} and --noise-levels {levels} gives others",
            f"the {strength} may come from one place only",
            "drop one of the two",
        )
    if noise.level == 0:
        raise HarnessError(f"--noise {text!r}", f"{strength} 0 changes nothing", f"give a {strength} above 0")
    return noise.without_level, check_levels((0.0, noise.level), noise.error)


def every_noise(text: str) -> tuple[NoiseSpec, ...]:
    """The specifications of ``text``: one or several separated by ``;``, or the path of a ``.toml`` file with them."""
    return load_noises(text) if text.strip().endswith(".toml") else parse_noises(text)


def _one_noise(text: str) -> NoiseSpec:
    if not text.strip().endswith(".toml"):
        return parse_noise(text)
    found = every_noise(text)
    if len(found) > 1:
        raise HarnessError(
            f"--noise {text!r} holds {len(found)} noise tables", "an evaluation runs one", "give a file with one"
        )
    return found[0]


def set_up_logging(verbose: bool) -> None:
    """Warnings of the harness to standard error, and every batch where asked."""
    logging.basicConfig(format="harness: %(message)s")
    logging.getLogger("harness").setLevel(logging.DEBUG if verbose else logging.INFO)
