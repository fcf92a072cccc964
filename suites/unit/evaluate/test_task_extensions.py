"""Tasks that other distributions bring: a fake distribution on the path, as an installer would leave it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.evaluate.tasks import GROUP, TASKS, load_task, task_names
from harness.evaluate.tasks.base import Task
from harness.exceptions import HarnessError
from suites.distributions import write_distribution

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
EXAMPLE, PROJECT = (re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[0] for kind in ("python", "toml"))
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution with one entry point, and a module with ``code``, where Python finds them."""

    def put(distribution: str, name: str, target: str, code: str = "") -> None:
        points, module = {GROUP: {name: target}}, target.partition(":")[0]
        folder = write_distribution(tmp_path / distribution, distribution, points, **{module: code})
        monkeypatch.syspath_prepend(str(folder))

    return put


def test_the_example_of_the_page_is_a_task(install: Install) -> None:
    assert f'[project.entry-points."{GROUP}"]\ndoubling = "doubling:Doubling"' in PROJECT
    before = task_names()
    install("doubling_task", "doubling", "doubling:Doubling", EXAMPLE)
    task: Task = load_task("doubling")
    items = task.items()
    assert task_names() == (*before, "doubling")
    assert (items[20].question, items[20].reference) == ("What is two times 21?", "42")
    assert len({item.key for item in items}) == len(items) == 500
    assert load_task("doubling", Path("x.jsonl")) != task, "the path given with --data reaches the task"
    with pytest.raises(
        HarnessError, match=r"unknown task 'doublin'; .*arith, gsm8k, .*doubling; did you mean 'doubling'\?"
    ):
        load_task("doublin")


@pytest.mark.parametrize(
    ("target", "code", "why"),
    [
        ("absent_one:Task", "raise OSError('no disk')", "OSError: no disk"),
        ("absent_two:Task", "", "AttributeError: .*Task"),
        ("absent_three:make", "def make(data): raise KeyError('x')", "KeyError: 'x'"),
        ("absent_eight:make", "def make(data): raise SystemExit(3)", "SystemExit: 3"),
        ("absent_nine:make", "make = None", "it is None"),
        (
            "absent_ten:make",
            EXAMPLE.replace('"doubling"', '"mine"').replace("= 0.10", "= '0.1'") + "\nmake = Doubling\n",
            "its floor is '0.1'",
        ),
        (
            "absent_eleven:make",
            EXAMPLE.replace('"doubling"', '"mine"').replace("= 32", "= True") + "\nmake = Doubling\n",
            "its max_new_tokens is True",
        ),
        ("absent_four:make", "def make(data): return 3", "it has no name"),
        ("absent_five:make", EXAMPLE + "\nmake = Doubling\n", "it calls itself 'doubling'"),
        (
            "absent_six:make",
            EXAMPLE.replace('"doubling"', '"mine"').replace('"flexible"', '"chrf"') + "\nmake = Doubling\n",
            "its scorer is 'chrf', not one of strict, flexible",
        ),
        (
            "absent_seven:make",
            EXAMPLE.replace('"doubling"', '"mine"').replace("= 32", "= 0") + "\nmake = Doubling\n",
            "its max_new_tokens is 0",
        ),
    ],
)
def test_a_task_that_cannot_be_used_is_refused_in_one_line(install: Install, target: str, code: str, why: str) -> None:
    install("broken_tasks", "mine", target, code)
    with pytest.raises(HarnessError, match=rf"task 'mine' of broken_tasks 1\.0; it cannot be used \({why}") as caught:
        load_task("mine")
    assert "\n" not in str(caught.value)
    assert load_task("arith").name == "arith", "other tasks are not touched by it"


def test_errors_of_a_task_about_its_data_are_left_as_they_are(install: Install) -> None:
    code = "from harness.exceptions import HarnessError\ndef make(data): raise HarnessError('--data x', 'not that')"
    install("strict_tasks", "picky", "picky_task:make", code)
    with pytest.raises(HarnessError, match=r"^--data x; not that$"):
        load_task("picky")


def test_a_name_that_is_taken_is_refused(install: Install) -> None:
    install("greedy_tasks", "arith", "greedy:make", "make = None")
    with pytest.raises(HarnessError, match=r"task 'arith' of greedy_tasks 1\.0; the harness has one of this name"):
        load_task("arith")
    assert load_task("gsm8k").name in TASKS
    assert task_names().count("arith") == 1


def test_two_distributions_with_one_name_are_refused(install: Install) -> None:
    install("first_tasks", "twin", "twin_one:make", "make = None")
    install("second_tasks", "twin", "twin_two:make", "make = None")
    with pytest.raises(
        HarnessError, match=r"'twin' of first_tasks 1\.0 and second_tasks 1\.0; a name may be given once"
    ):
        load_task("twin")
