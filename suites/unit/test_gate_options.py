"""The table of gate options: command line and plugin are read from it, and neither may miss a row."""

from __future__ import annotations

import dataclasses

import click
import pytest

from harness.cli.eval_verb import command as evaluation
from harness.cli.gate_verb import command
from harness.evaluate.tasks import TASKS
from harness.exceptions import HarnessError
from harness.gate_options import (
    COMMAND_LINE_ONLY,
    GATE_OPTIONS,
    LEVELS,
    NUMBER,
    PYTEST_ONLY,
    SWITCH,
    WHOLE,
    GateOption,
    in_pytest,
    names,
    row,
)
from harness.gates.policy import AXES
from harness.pytest_plugin.options import PREFIX, long_name
from harness.spec import ATTENTIONS, DEFAULT_BATCH, DTYPES, ENGINES, SCORERS, EngineOptions, EvalSpec

pytestmark = pytest.mark.unit

ON_COMMAND_LINE = {parameter.name: parameter for parameter in command.params if isinstance(parameter, click.Option)}
OTHER_NAMES = {"as_json": "json"}


def test_the_gate_verb_has_the_rows_of_the_table_and_no_other() -> None:
    verb = {OTHER_NAMES.get(name, name) for name in ON_COMMAND_LINE}
    assert verb == {option.key for option in GATE_OPTIONS if option.where != PYTEST_ONLY}


def test_pytest_has_every_option_of_the_gate_verb_or_names_what_it_has_instead(pytestconfig: pytest.Config) -> None:
    for option in GATE_OPTIONS:
        if option.where == COMMAND_LINE_ONLY:
            assert option.instead
        else:
            assert hasattr(pytestconfig.option, PREFIX + option.key), long_name(option)
    assert len(set(names())) == len(GATE_OPTIONS)


def test_defaults_and_choices_are_those_in_force() -> None:
    default, how = EvalSpec("arith"), EngineOptions()
    for key in ("task", "items", "item_seed", "noise_seeds", "engine", "dtype", "attention"):
        assert row(key).default == getattr(default, key)
    for key in ("batch_size", "workers", "timeout"):
        assert row(key).default == getattr(how, key)
    assert row("batch-size").default == DEFAULT_BATCH
    for key, known in (("across", AXES), ("dtype", DTYPES), ("attention", ATTENTIONS)):
        assert ", ".join(known) in row(key).help
    (engine,) = (option for option in evaluation.params if option.name == "engine")
    assert isinstance(engine, click.Option) and engine.help == f"{', '.join(ENGINES)}."
    assert ", ".join(SCORERS) in row("scorer").help and ", ".join(TASKS) in row("task").help


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (WHOLE, [("5", 5), (5, 5)], ["many", 0.5, True, None]),
        (NUMBER, [("0.03", 0.03), (1, 1.0)], ["wide", True, None]),
        (SWITCH, [("true", True), (False, False), ("off", False)], ["perhaps", 3, None]),
        (LEVELS, [("0,0.05", "0,0.05"), ([0, 0.05], "0.0,0.05"), ((0.0, 0.1), "0.0,0.1")], [0.05, ["x"], None]),
    ],
)
def test_values_of_every_kind(kind: str, good: list, bad: list) -> None:
    option = GateOption("name", kind, "help")
    for value, read in good:
        assert option.read(value, "source") == read
    for value in bad:
        with pytest.raises(HarnessError, match=f"^source = .*; it is a {kind}; write"):
            option.read(value, "source")


def test_an_unknown_row_names_the_nearest() -> None:
    assert row("batch-size") is row("batch_size")
    with pytest.raises(HarnessError, match="did you mean 'margin'"):
        row("margins")
    assert all(dataclasses.is_dataclass(option) and option.help for option in in_pytest())
