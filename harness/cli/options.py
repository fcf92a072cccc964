"""Options that several verbs share, and how they become a specification."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from harness.cli.saying import VisibleFormatter
from harness.exceptions import HarnessError
from harness.gate_options import EITHER, LEVELS, NUMBER, PATH, SWITCH, TEXT, WHOLE, row
from harness.spec import ENGINES, TEMPLATE_DATE, EngineOptions, EvalSpec, engine_names, parse_quantization
from harness.spec.reading import read_noise
from harness.spec.sampling import draws_given
from harness.spec.several import for_tasks, split_names

DEFAULT_NOISE = "relative_gaussian @ op:linear"

Function = TypeVar("Function", bound=Callable[..., Any])


def apply(*options: Callable[[Function], Function]) -> Callable[[Function], Function]:
    """Return one decorator out of several, in the order in which help shows them."""

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def shared(name: str, **other: Any) -> Callable[[Function], Function]:
    """Return the option ``name`` of the table of gate options as one of this verb; ``other`` replaces what differs
    here."""
    found = row(name)
    given: dict[str, Any] = {"help": f"{', '.join(engine_names())}." if name == "engine" else found.help}
    if found.default is not None:  # to click a default of None is one, so that nothing would be missing
        given["default"] = found.default
    if found.kind == EITHER:
        # the shorter name is how lm-eval's users know the opposite
        return click.option(
            f"--{found.name}/--no-{found.name.removeprefix('apply-')}", **{"default": None, **given, **other}
        )
    if found.kind == SWITCH:
        given["is_flag"] = True
    else:
        given |= {"type": _TYPES[found.kind], "metavar": found.metavar, "show_default": found.default is not None}
    return click.option(f"--{found.name}", **(given | other))


_TYPES: dict[str, Any] = {TEXT: str, LEVELS: str, WHOLE: int, NUMBER: float, PATH: click.Path(path_type=Path)}

quantize_option = shared("quantize")
files_option = shared("data", multiple=True, help=f"{row('data').help} With several tasks TASK=FILE, once for each.")
task_options = apply(
    shared("task"),
    shared("data"),
    shared("scorer"),
)
prompt_options = apply(
    shared("fewshot"), shared("fewshot-data", multiple=True), shared("system"), shared("apply-chat-template")
)
model_options = apply(shared("attention"), shared("dtype"))
spec_options = apply(
    shared("task", help=f"{row('task').help}; several: arith,svamp"),
    files_option,
    shared("scorer"),
    shared("items", help="Items, chosen in a seeded order; 0 is an error."),
    click.option("--all-items", is_flag=True, help="Every item of the task."),
    shared("item-seed"),
    shared("noise", default=DEFAULT_NOISE, show_default=True),
    quantize_option,
    shared("noise-levels"),
    shared("noise-seeds"),
    shared("temperature"),
    shared("top-p"),
    shared("samples"),
    shared("max-new-tokens"),
    shared("template-date"),
    prompt_options,
    shared("prefix-token"),
    model_options,
    shared("engine"),
    click.option("--no-positive-control", is_flag=True, help="Skip the lethal-noise control of the injection."),
)
adapter_options = apply(shared("base"), shared("adapter"))
verbose_option = click.option("-v", "--verbose", is_flag=True, help=row("verbose").help)
engine_options = apply(
    shared("batch-size"),
    shared("workers"),
    shared("timeout"),
    shared("device"),
    shared("allow-mixed-code"),
    verbose_option,
)
policy_options = apply(shared("margin"), shared("nats-margin"), shared("policy"), shared("force"))
json_option = click.option("--json", "as_json", is_flag=True, help=row("json").help)


def _folder_there(context: click.Context, parameter: click.Parameter, folder: Path) -> Path:
    """The folder of baselines, which must be there where it was named: a name would be looked up elsewhere."""
    if on_command_line(str(parameter.name)) and not folder.is_dir():
        raise HarnessError(f"--baselines-dir {folder}", "there is no such folder", "check the path")
    return folder


folder_option = shared("baselines-dir", callback=_folder_there)


def refuse_without(needed: str, names: Iterable[str], given: Mapping[str, Any]) -> None:
    """Raise :class:`HarnessError` where the command line has one of the options ``names`` and not ``needed``, without
    which nothing reads it."""
    for shown in _written(names, given):
        raise HarnessError(f"{shown} without {needed}", "nothing would read it", f"give {needed}, or leave it out")


def refuse_with(there: str, names: Iterable[str], given: Mapping[str, Any]) -> None:
    """Raise :class:`HarnessError` where the command line has one of the options ``names`` beside what is ``there``,
    with which nothing reads it."""
    for shown in _written(names, given):
        raise HarnessError(f"{shown} with {there}", "nothing would read it", "leave it out")


def begun() -> float:
    """Return when the command began, on the clock of :func:`time.monotonic`."""
    context = click.get_current_context(silent=True)
    found = None if context is None else context.find_root().obj
    return found if isinstance(found, float) else time.monotonic()


def check_budget(given: Mapping[str, Any]) -> None:
    """Raise :class:`HarnessError` where a --budget stands beside the numbers that it plans."""
    if given["budget"] is not None:
        for shown in _written(("items", "all_items", "noise_seeds", "samples"), given):
            raise HarnessError(
                f"{shown} with --budget {given['budget']:g}", "the budget plans that number", "leave one of them out"
            )


def check_timeout(engine: str, given: Mapping[str, Any]) -> None:
    """Raise :class:`HarnessError` where a --timeout is for nothing: one transformers engine runs in this process, and
    nobody waits for it."""
    if engine == ENGINES[0] and given["workers"] == 1:
        refuse_with(f"one {engine} engine, which runs in this process", ("timeout",), given)


def _written(names: Iterable[str], given: Mapping[str, Any]) -> Iterable[str]:
    """Those of the options ``names`` that the command line has, as they were written."""
    for name in names:
        if on_command_line(name):
            option = f"--{name.replace('_', '-')}"
            yield option if given[name] is True else f"{option} {given[name]}"


def on_command_line(name: str) -> bool:
    """Return whether the option ``name`` of the verb that runs was written on the command line."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def build_specs(given: dict[str, Any]) -> dict[str, EvalSpec]:
    """Return task -> its specification, of :data:`spec_options` that name one task or several.

    Raises :class:`HarnessError` for contradictions, and for files that name no task where there are several.
    """
    tasks = split_names("--task", given["task"])
    files = files_of(given, tasks)
    return {task: build_spec({**given, **files[task], "task": task}) for task in tasks}


def files_of(given: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Return task -> its ``data`` and ``fewshot_data``, None where none is given: of the options of these names."""
    found = {name: for_tasks(f"--{name.replace('_', '-')}", given[name], tasks) for name in ("data", "fewshot_data")}
    return {task: {name: files.get(task) for name, files in found.items()} for task in tasks}


def build_spec(given: dict[str, Any]) -> EvalSpec:
    """Return the specification of one task. Raises :class:`HarnessError` for contradictions."""
    if given["all_items"] and on_command_line("items"):
        raise HarnessError(
            f"--items {given['items']} with --all-items", "one says how many items", "leave one of them out"
        )
    noise, levels = read_noise(given["noise"], given["noise_levels"])
    if not any(levels):
        refuse_with("no noise level above 0", ("noise_seeds",), given)
    temperature = given["temperature"] or 0.0
    seeds = given["noise_seeds"] if on_command_line("noise_seeds") else None
    draws = draws_given(given["samples"], seeds, temperature)
    return EvalSpec(
        task=given["task"],
        data=given["data"],
        items=None if given["all_items"] else given["items"],
        item_seed=given["item_seed"],
        levels=levels,
        noise_seeds=given["noise_seeds"] if draws is None else draws,
        noise=noise,
        scorer=given["scorer"],
        max_new_tokens=given["max_new_tokens"],
        attention=given["attention"],
        dtype=given["dtype"],
        engine=given["engine"],
        positive_control=not given["no_positive_control"],
        template_date=TEMPLATE_DATE if given["template_date"] is None else given["template_date"],
        fewshot=given["fewshot"] or 0,
        fewshot_data=given["fewshot_data"],
        system=given["system"],
        apply_chat_template=given["apply_chat_template"],
        prefix_token=given["prefix_token"],
        temperature=temperature,
        top_p=1.0 if given["top_p"] is None else given["top_p"],
        quantization=() if given["quantize"] is None else parse_quantization(given["quantize"]),
    )


def engine_options_of(given: dict[str, Any]) -> EngineOptions:
    """Return how to run: the values of :data:`engine_options`. Raises :class:`HarnessError`."""
    return EngineOptions(given["batch_size"], given["workers"], given["timeout"], given["allow_mixed_code"])


def set_up_logging(verbose: bool) -> None:
    """Send warnings of the harness to standard error, and every batch where asked."""
    if not logging.root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(VisibleFormatter("harness: %(message)s"))
        logging.root.addHandler(handler)
    logging.getLogger("harness").setLevel(logging.DEBUG if verbose else logging.INFO)
