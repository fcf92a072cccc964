"""Hooks only; importing this loads no torch, so that every pytest run stays fast."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.mark.expression import Expression  # the evaluator of -m itself; pytest exports none

if TYPE_CHECKING:
    from harness.pytest_plugin.fixture import Robustness

PROPERTY = "robustness"
LEVEL_FIXTURE = "gate_level"
_NEEDS = "needs --checkpoint PATH and --baseline NAME (pytest -m gate)"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of ``harness gate`` and ``harness eval`` under the same names."""
    group = parser.getgroup("robustness", "robustness of a checkpoint under numerical noise")
    group.addoption("--checkpoint", metavar="PATH", help="checkpoint to evaluate (Hugging Face folder)")
    group.addoption("--baseline", metavar="NAME", help="baseline to gate against: a name or a file")
    group.addoption("--baselines-dir", metavar="DIR", default="baselines", help="folder of the baselines")
    group.addoption("--margin", type=float, default=0.03, help="accepted drop at every level (fraction; 0.03)")
    group.addoption("--items", type=int, help="items; default: the baseline's, else 200")
    group.addoption("--noise-levels", metavar="L,L", help="fractions; default: the baseline's, else 0,0.05,0.1")
    group.addoption("--noise-seeds", type=int, help="seeds per noisy level; default: the baseline's, else 5")
    group.addoption("--engine", help="engine; default: the baseline's, else transformers")
    group.addoption("--task", help="task; default: the marker's, the baseline's, else arith")
    group.addoption("--data", metavar="FILE", help="the task's data file")
    group.addoption("--robustness-dir", metavar="DIR", default=".robustness", help="where runs are kept and resumed")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers; asking for the gate without a checkpoint is a usage error, never green."""
    config.addinivalue_line("markers", "gate: judges --checkpoint against --baseline, one test per level")
    config.addinivalue_line(
        "markers", "robustness(task, data, items, noise, noise_levels, noise_seeds): what the fixture evaluates"
    )
    if asks_for(config, "gate") and not _is_collecting_only(config):
        for option in ("checkpoint", "baseline"):
            if not config.getoption(option):
                raise pytest.UsageError(f"-m gate without --{option}: {_NEEDS}; no evidence, no verdict")


def asks_for(config: pytest.Config, marker: str) -> bool:
    """True where the -m expression selects a test because it carries ``marker``."""
    text = config.getoption("markexpr", "")
    if not text:
        return False
    expression = Expression.compile(text)

    def selects(marked: str) -> bool:
        def matches(name: str, /, **_: object) -> bool:
            return name == marked

        return bool(expression.evaluate(matches))

    return selects(marker) and not selects("")


def _is_collecting_only(config: pytest.Config) -> bool:
    return bool(config.getoption("collectonly", False) or config.getoption("help", False))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per level of the gate: the levels of ``--noise-levels``, else the baseline's."""
    if LEVEL_FIXTURE in metafunc.fixturenames:
        metafunc.parametrize(LEVEL_FIXTURE, _levels(metafunc.config), ids=lambda level: f"{100 * level:g}%")


def _levels(config: pytest.Config) -> tuple[float, ...]:
    from harness.exceptions import HarnessError
    from harness.spec import EvalSpec, parse_levels

    levels = config.getoption("--noise-levels")
    try:
        if config.getoption("--baseline"):
            from harness.pytest_plugin.fixture import base_spec, named_baseline

            baseline = named_baseline(config)
            if levels:
                return parse_levels(levels, base_spec(baseline).noise.error)
            return tuple(sorted(baseline.arm.outcomes))
        if levels:
            return parse_levels(levels)
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from None
    return EvalSpec("arith").levels


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A run that selects other tests too skips the gate tests, with the reason, where no checkpoint is given.

    Where nothing but gate tests is left they are not skipped: their fixture then fails them.
    """
    gates = [item for item in items if item.get_closest_marker("gate")]
    if not config.getoption("--checkpoint") and len(gates) < len(items) and not asks_for(config, "gate"):
        for item in gates:
            item.add_marker(pytest.mark.skip(reason=_NEEDS))


@pytest.fixture
def robustness(request: pytest.FixtureRequest) -> Robustness:
    """The evaluated checkpoint: ``compare(level)``, ``gate(level)``, ``accuracy(level)``, ``run``.

    The evaluation runs once per specification and is shared by all tests, workers and later runs.
    """
    from harness.pytest_plugin.fixture import Robustness

    marker = request.node.get_closest_marker("robustness")
    return Robustness(request.config, dict(marker.kwargs) if marker else {}, request.node.user_properties)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line per judged level, from all workers."""
    rows = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                rows += [json.loads(value) for name, value in report.user_properties if name == PROPERTY]
    if not rows:
        return
    from harness.pytest_plugin.fixture import summary_lines

    terminalreporter.section("robustness")
    for line in summary_lines(rows):
        terminalreporter.write_line(line)
