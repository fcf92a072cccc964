"""Hooks only; importing this loads no torch, so that every pytest run stays fast.

Nothing is done to a test that has neither our fixtures nor our marker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from harness.exceptions import HarnessError
from harness.pytest_plugin.options import SHORT_OPTIONS, TAKEN, add_options, add_short_options
from harness.pytest_plugin.rootdir import check_rootdir
from harness.pytest_plugin.settings import SETTINGS, TABLE, marker_of, read_settings

if TYPE_CHECKING:
    from harness.pytest_plugin.fixture import Robustness

FIXTURE, LEVEL_FIXTURE = "robustness", "robustness_level"
_CALL_ENDED_WELL = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of ``harness gate`` as ``--robustness-NAME``."""
    add_options(parser)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser) -> Iterator[None]:
    """Refuse a path that pytest took for a folder of tests; add the short options after every other plugin's."""
    check_rootdir(early_config)
    yield
    if early_config.getini(SHORT_OPTIONS):
        add_short_options(early_config, parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, read the project's defaults and collect what the tests find."""
    config.addinivalue_line("markers", "robustness(task, items, noise_levels, ...): what the fixture evaluates")
    config.stash[SETTINGS] = read_settings(config)
    if not is_worker(config):
        from harness.pytest_plugin.reporting import Reporting

        config.pluginmanager.register(Reporting(config.stash[SETTINGS]), "robustness-reporting")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which short options belong to somebody else."""
    return [f"robustness: {name} is another plugin's here; ours is --robustness-{name[2:]}" for name in _taken(config)]


def _taken(config: pytest.Config) -> tuple[str, ...]:
    return config.stash.get(TAKEN, ())


def is_worker(config: pytest.Config) -> bool:
    """Return whether this is a worker process of pytest-xdist."""
    return hasattr(config, "workerinput")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test per level of the gate: the levels of ``--robustness-noise-levels``, else the baseline's.

    A test that gives its own levels keeps them.
    """
    own = any(LEVEL_FIXTURE in str(marker.args[:1]) for marker in metafunc.definition.iter_markers("parametrize"))
    if {FIXTURE, LEVEL_FIXTURE} <= set(metafunc.fixturenames) and not own:
        metafunc.parametrize(LEVEL_FIXTURE, _levels(metafunc.config), ids=lambda level: f"{100 * level:g}%")


def _levels(config: pytest.Config) -> tuple[float, ...]:
    from harness.pytest_plugin.evaluations import levels_of

    try:
        return levels_of(config.stash[SETTINGS].given())
    except HarnessError as error:  # shown as one line, which a usage error in the middle of a collection is not
        raise pytest.Collector.CollectError(f"harness: {error}") from None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse markers with positional or unknown arguments; a worker of xdist leaves that to the fixture."""
    if is_worker(config):
        return
    try:
        for item in items:
            marker_of(item)
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test whose marker is refused, where nobody could stop the run before it."""
    if item.get_closest_marker(TABLE) is None:
        return
    try:
        marker_of(item)
    except HarnessError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Keep whether the test itself ended well: only then does a comparison without a verdict matter."""
    if call.when == "call" and FIXTURE in getattr(item, "fixturenames", ()):
        item.stash[_CALL_ENDED_WELL] = call.excinfo is None


@pytest.fixture
def robustness(request: pytest.FixtureRequest) -> Iterator[Robustness]:
    """Yield the evaluated checkpoint: ``compare(level)``, ``gate(level)``, ``accuracy(level)``, ``run``.

    The evaluation runs once per specification and is shared by all tests, workers and later runs. A test that has
    judged may not run again (pytest-rerunfailures and the like): the first look is the verdict.
    """
    from harness.pytest_plugin.fixture import Robustness, refuse_rerun

    refuse_rerun(request)
    made = Robustness(request.config, marker_of(request.node), request.node.user_properties)
    yield made
    if request.node.stash.get(_CALL_ENDED_WELL, False):
        made.check_judged()
