"""The matrix: arms that may be compared, data that they share, and the commands that carry it out and resume it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import HarnessError
from harness.progress import Silent
from harness.training.book import load_recipe
from harness.training.machine import MachineState
from harness.training.matrix import Arm, Matrix, load_matrix, one_factor
from harness.training.matrix_run import Command, Layout, cells_at_once, run_matrix, steps_of
from harness.training.order import order_hash, planned_order
from harness.training.sizes import sizes_of

HEAD = 'title = "t"\nseeds = [0, 1]\n'
TWO = '[[arm]]\nname = "without"\nrecipe = "E5"\n[[arm]]\nname = "with"\nrecipe = "E5b"\n'
needs_verl = pytest.mark.skipif(find_spec("torchdata") is None, reason="verl is not installed: make setup-full")


def arm(name: str, recipe: str, changes: dict[str, Any] | None = None) -> Arm:
    found = load_recipe(recipe, "gpu", changes)
    return Arm(name, found, found.effective(sizes_of(found).layers))


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(text: str) -> Path:
        file = tmp_path / "matrix.toml"
        file.write_text(text)
        return file

    return written


@pytest.mark.parametrize(
    ("one", "other", "factor"),
    [
        ("E5", "E5b", "aqn"),
        ("E8b", "E8c", "noise"),
        ("E8b", "E8d", "noise"),
        ("E8a-hw", "E8b", "noise"),
        ("E6a", "E6b", "aqn"),
        ("E7a-lora", "E6a", "quantization"),
        ("test-2", "test-2-dropout", "optimizer.dropout"),
        ("E13g", "E13h", "quantization"),
        ("E5c-lower", "E9a", "aqn"),
    ],
)
def test_published_pairs_that_differ_in_one_factor(one: str, other: str, factor: str) -> None:
    assert one_factor([arm("a", one), arm("b", other)]) == factor


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("E13h", "E13j", "differ in 3 factors"),
        ("E3a", "E2a", "factors"),
        ("E5", "E5c-lower", ""),
        ("E8c", "E8f", "replicates and no arms"),
        ("mxfp4-aqn", "1E", "replicates and no arms"),
        ("gpu-baseline", "E5b", "differ in 2 factors"),
        ("E6a", "E6a-2ep", ""),
    ],
)
def test_published_pairs_that_the_matrix_judges(one: str, other: str, words: str) -> None:
    arms = [arm("a", one), arm("b", other)]
    if not words:
        assert one_factor(arms)
        return
    with pytest.raises(HarnessError, match=words):
        one_factor(arms)


def test_the_factor_must_be_the_declared_one_and_one_for_all() -> None:
    pair = [arm("a", "E5"), arm("b", "E5b")]
    assert one_factor(pair, "aqn") == "aqn"
    with pytest.raises(HarnessError, match="the arms differ in aqn"):
        one_factor(pair, "noise")
    assert one_factor([*pair, arm("c", "E5a")]) == "aqn"
    with pytest.raises(HarnessError, match="differ in 2 factors"):
        one_factor([*pair, arm("c", "E4c")])


@needs_verl
def test_orders_are_those_of_the_sampler_and_hang_on_the_seed_alone() -> None:
    recipe = load_recipe("E5")
    rows = planned_order(recipe)
    assert len(rows) == 160 and sorted(rows[:80]) == list(range(80)) and rows[:80] != rows[80:]
    assert order_hash(recipe) == order_hash(load_recipe("E5b")) != order_hash(recipe.with_seed(1))


@needs_verl
def test_a_plan_shares_the_data_order_between_arms(write: Any) -> None:
    matrix = load_matrix(write(HEAD + TWO))
    assert matrix.factor == "aqn" and [cell.name for cell in matrix.cells] == [
        "without-seed0",
        "with-seed0",
        "without-seed1",
        "with-seed1",
    ]
    orders = [cell.order for cell in matrix.cells]
    assert orders[0] == orders[1] != orders[2] == orders[3]
    json.dumps(matrix.to_json(), allow_nan=False)


@needs_verl
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + TWO.replace("E5b", "E5"), "replicates and no arms"),
        (HEAD + TWO.replace('"E5b"', '"E4c"') + "[arm.changes.optimizer]\ndropout = 0.1\n", "differ in 2 factors"),
        (HEAD + 'factor = "noise"\n' + TWO, "the arms differ in aqn"),
        (HEAD + TWO.replace("with\n", "without\n").replace('"with"', '"without"'), "given twice"),
        (HEAD.replace("[0, 1]", "[0, 0]") + TWO, "given twice"),
        (HEAD.replace("[0, 1]", "[]") + TWO, "whole numbers"),
        (HEAD + TWO.split('[[arm]]\nname = "with"', maxsplit=1)[0], "two at least"),
        (HEAD + TWO.replace('"with"', '"a/b"'), "letters and digits"),
        (HEAD + "levels = [0.05]\n" + TWO, "0 and fractions"),
        (HEAD + TWO + "[arm.changes.aqn]\nsigma_strat = 1\n", "did you mean 'sigma_start'"),
        (HEAD + TWO.replace("recipe =", "recpe ="), "did you mean 'recipe'"),
        (HEAD + TWO + "[arm.changes.aqn]\nsigma_end = 0.0\n", "above 0"),
    ],
)
def test_a_matrix_that_cannot_be_is_refused_before_anything_runs(write: Any, text: str, words: str) -> None:
    with pytest.raises(HarnessError, match=words) as caught:
        load_matrix(write(text))
    assert "\n" not in str(caught.value)


class Machine:
    """Carries out commands by name, leaves what they would leave, and fails where told."""

    def __init__(self, matrix: Matrix, layout: Layout, fails_at: str = "", verdicts: tuple[int, ...] = (3,)) -> None:
        self.matrix, self.layout, self.fails_at = matrix, layout, fails_at
        self.verdicts = list(verdicts)
        self.seen: list[str] = []

    def __call__(self, command: Command) -> int:
        verb = " ".join(command[3:5]) if command[3] == "train" else command[3]
        place = next((word for word in command if self.layout.folder.name in word), "")
        self.seen.append(f"{verb} {Path(place).stem if verb != 'compare' else command[5].split('=')[0]}")
        if verb == "compare":
            return self.verdicts.pop(0)
        if self.fails_at and self.seen[-1].endswith(self.fails_at):
            cell = self.matrix.cells[0]
            self.layout.run(cell).mkdir(parents=True, exist_ok=True)
            (self.layout.run(cell) / "recipe.json").write_text("{}")
            return 137
        if verb.startswith("train"):
            cell = next(each for each in self.matrix.cells if each.name == Path(place).stem)
            checkpoint = self.layout.checkpoint(cell)
            checkpoint.mkdir(parents=True)
            (checkpoint / "training.json").write_text("{}")
        return 0


@needs_verl
def test_every_cell_is_trained_and_evaluated_and_the_arms_compared(write: Any, tmp_path: Path) -> None:
    matrix, layout = load_matrix(write(HEAD + TWO)), Layout(tmp_path / "out")
    machine = Machine(matrix, layout)
    assert run_matrix(matrix, layout, machine, Silent()) == 3
    assert machine.seen == [
        *("train run without-seed0", "eval global_step_20", "train run with-seed0", "eval global_step_20"),
        *("train run without-seed1", "eval global_step_20", "train run with-seed1", "eval global_step_20"),
        "compare with",
    ]
    last = list(steps_of(matrix, layout))[-1].command
    assert last[-2:] == ("--factor", "aqn") and last[5].count("seed") == 2


@needs_verl
def test_what_failed_is_resumed_and_what_is_done_is_not_done_again(write: Any, tmp_path: Path) -> None:
    matrix, layout = load_matrix(write(HEAD + TWO)), Layout(tmp_path / "out")
    with pytest.raises(HarnessError, match=r"train without-seed0; it ended with code 137"):
        run_matrix(matrix, layout, Machine(matrix, layout, "without-seed0"), Silent())
    again = Machine(matrix, layout)
    run_matrix(matrix, layout, again, Silent())
    assert again.seen[0] == "train resume without-seed0"
    third = Machine(matrix, layout)
    run_matrix(matrix, layout, third, Silent())
    assert not [each for each in third.seen if each.startswith("train")]


@needs_verl
def test_a_folder_of_another_matrix_is_refused(write: Any, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "out")
    first = load_matrix(write(HEAD + TWO))
    run_matrix(first, layout, Machine(first, layout), Silent())
    other = load_matrix(write(HEAD + TWO + "[arm.changes.aqn]\nsigma_start = 0.02\n"))
    with pytest.raises(HarnessError, match="another recipe of with-seed0"):
        run_matrix(other, layout, Machine(other, layout), Silent())


@needs_verl
def test_the_worst_of_several_comparisons_is_the_answer(write: Any, tmp_path: Path) -> None:
    three = TWO + '[[arm]]\nname = "global"\nrecipe = "E5a"\n'
    matrix = load_matrix(write(HEAD + three))
    for number, (verdicts, code) in enumerate((((3, 0), 0), ((3, 3), 3), ((0, 4), 4), ((4, 2), 4))):
        layout = Layout(tmp_path / f"out{number}")
        assert run_matrix(matrix, layout, Machine(matrix, layout, verdicts=verdicts), Silent()) == code


@needs_verl
def test_cells_run_side_by_side_and_one_that_fails_lets_the_other_end(write: Any, tmp_path: Path) -> None:
    matrix, layout = load_matrix(write(HEAD + TWO)), Layout(tmp_path / "out")
    machine = Machine(matrix, layout)
    both = threading.Barrier(2, timeout=60)

    def meets(command: Command) -> int:
        if command[3] != "compare":
            both.wait()  # raises where nobody else is at work
        return machine(command)

    assert run_matrix(matrix, layout, meets, Silent(), at_once=2) == 3
    assert len(machine.seen) == 9 and machine.seen[-1].startswith("compare")
    other = Layout(tmp_path / "other")
    failing = Machine(matrix, other, "without-seed0")
    with pytest.raises(HarnessError, match="it ended with code 137"):
        run_matrix(matrix, other, failing, Silent(), at_once=2)
    assert not [each for each in failing.seen if each.startswith("compare")]


@needs_verl
def test_as_many_cells_run_at_once_as_have_a_core_and_memory(write: Any) -> None:
    matrix = load_matrix(write(HEAD + TWO))
    state = MachineState(memory=20, shared=8, ports=True, rays=(), accelerators=0, cores=2)
    assert [cells_at_once(matrix, replace(state, memory=memory)) for memory in (3, 9, 17, 99)] == [1, 1, 2, 2]
    assert cells_at_once(matrix, replace(state, memory=99, cores=64)) == len(matrix.cells) == 4
