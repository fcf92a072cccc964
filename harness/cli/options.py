"""Options that several verbs share, and how they become a specification."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from harness.exceptions import HarnessError
from harness.gate_options import LEVELS, NUMBER, PATH, SWITCH, TEXT, WHOLE, row
from harness.gates.policy import GatePolicy
from harness.gates.policy_file import load_policy
from harness.spec import (
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

DEFAULT_NOISE = "relative_gaussian @ op:linear"

Function = TypeVar("Function", bound=Callable[..., Any])


def apply(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """One decorator out of several, in the order in which help shows them."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def shared(name: str, **other: Any) -> Callable[[Function], Function]:
    """The option ``name`` of the table of gate options as one of this verb; ``other`` replaces what differs here."""
    found = row(name)
    given: dict[str, Any] = {"help": found.help}
    if found.default is not None:  # to click a default of None is one, so that nothing would be missing
        given["default"] = found.default
    if found.kind == SWITCH:
        given["is_flag"] = True
    else:
        given |= {"type": _TYPES[found.kind], "metavar": found.metavar, "show_default": found.default is not None}
    return click.option(f"--{found.name}", **(given | other))


_TYPES: dict[str, Any] = {TEXT: str, LEVELS: str, WHOLE: int, NUMBER: float, PATH: click.Path(path_type=Path)}

quantize_option = shared("quantize")
data_option = shared("data")
task_options = apply(
    shared("task"),
    data_option,
    shared("scorer"),
)
model_options = apply(shared("attention"), shared("dtype"))
spec_options = apply(
    task_options,
    shared("items", help="Items, chosen in a seeded order; 0 is an error."),
    click.option("--all-items", is_flag=True, help="Every item of the task."),
    shared("item-seed"),
    shared("noise", default=DEFAULT_NOISE, show_default=True),
    quantize_option,
    shared("noise-levels"),
    shared("noise-seeds"),
    shared("max-new-tokens"),
    model_options,
    shared("engine"),
    click.option("--no-positive-control", is_flag=True, help="Skip the lethal-noise control of the injection."),
)
adapter_options = apply(shared("base"), shared("adapter"))
engine_options = apply(
    shared("batch-size"),
    shared("workers"),
    shared("timeout"),
    shared("device"),
    shared("allow-mixed-code"),
    click.option("-v", "--verbose", is_flag=True, help=row("verbose").help),
)
policy_options = apply(shared("margin"), shared("policy"), shared("force"))
json_option = click.option("--json", "as_json", is_flag=True, help=row("json").help)
folder_option = shared("baselines-dir")


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
    return EngineOptions(given["batch_size"], given["workers"], given["timeout"], given["allow_mixed_code"])


def build_policy(given: dict[str, Any], others: tuple[str, ...] = ()) -> GatePolicy:
    """The policy of the file ``--policy``, or of ``--margin``, ``--force`` and the options called ``others``."""
    own = {name: given[name] for name in ("margin", *others) if given[name] is not None}
    own |= {"force": True} if given.get("force") else {}
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
