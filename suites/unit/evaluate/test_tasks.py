"""Items, their hashes, the seeded choice, the arith task and the table of tasks."""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.answers import score_text
from harness.evaluate.tasks import TASKS, ArithTask, Gsm8kTask, Item, load_task, select
from harness.evaluate.tasks.arith import DATA_SEED, generate
from harness.evaluate.tasks.base import hash_items, item_key, read_json_lines, unique_items
from harness.exceptions import HarnessError

pytestmark = pytest.mark.unit

HELD_OUT_HASH = "6601fdbbff46de17"
FIRST_QUESTIONS = (
    "Max has 133 stamps. He loses 19. He sells 61. He finds 94. It grows 3 times. He gives away 88. He loses 15. "
    "How many stamps now?",
    "Eva has 10 pens. She finds 9. She wins 71. She wins 94. She finds 11. How many pens now?",
    "Mia has 112 books. She gives away 3. She drops 15. She finds 99. She drops 4. How many books now?",
)


def _items(count: int) -> tuple[Item, ...]:
    return tuple(Item(item_key("t", f"q{i}", str(i)), f"q{i}", str(i), f"#### {i}") for i in range(count))


def test_item_key_is_the_documented_hash() -> None:
    expected = hashlib.sha256(b'["t","caf\\u00e9?","5"]').hexdigest()[:16]
    assert item_key("t", "caf\u00e9?", "5") == expected


def test_item_key_depends_on_each_part_and_not_on_their_join() -> None:
    keys = {item_key(*parts) for parts in (("t", "q", "1"), ("u", "q", "1"), ("t", "r", "1"), ("t", "q", "2"))}
    assert len(keys) == 4
    assert item_key("t", 'a","b', "c") != item_key("t", "a", 'b","c')


def test_dataset_hash_depends_on_order_and_content() -> None:
    items = _items(3)
    assert hash_items(items) == hashlib.sha256("\n".join(i.key for i in items).encode()).hexdigest()[:16]
    assert len({hash_items(items), hash_items(items[::-1]), hash_items(items[:2])}) == 3


def test_select_orders_by_seed_and_key_only() -> None:
    items = _items(50)
    expected = sorted(items, key=lambda item: hashlib.sha256(f"3/{item.key}".encode()).hexdigest())
    assert select(items, 50, 3) == tuple(expected)
    assert select(items[::-1], 10, 3) == tuple(expected[:10])
    assert select(items, 10, 4) != select(items, 10, 3)


@pytest.mark.parametrize("n", [0, -1, 6, True])
def test_select_refuses_a_number_out_of_range(n: int) -> None:
    with pytest.raises(HarnessError, match=rf"{n} items.*has 5.*from 1 to 5"):
        select(_items(5), n, 0)


def test_repeated_questions_are_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    first, second = _items(2)
    again = replace(first, question=f"{first.question} \n", key="other")
    with caplog.at_level(logging.WARNING):
        assert unique_items([first, second, again, second], "data.jsonl") == (first, second)
    assert [record.getMessage() for record in caplog.records] == [
        "data.jsonl: 2 repeated questions dropped, the first of each kept"
    ]


def test_unique_questions_give_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert unique_items(_items(3), "data.jsonl") == _items(3)
    assert not caplog.records


def test_one_question_with_two_references_is_refused() -> None:
    first = _items(1)[0]
    with pytest.raises(HarnessError, match=r"data\.jsonl: question 'q0' has the references 0 and 9"):
        unique_items([first, replace(first, reference="9", key="other")], "data.jsonl")


def test_arith_held_out_split_is_pinned() -> None:
    task = ArithTask()
    items = task.items()
    assert tuple(item.question for item in items[:3]) == FIRST_QUESTIONS
    assert task.dataset_hash() == HELD_OUT_HASH
    assert len({item.key for item in items}) == 2000


def test_arith_items_are_the_generator_s_and_their_solutions_right() -> None:
    for index, item in enumerate(ArithTask().items()[:200]):
        problem = generate(DATA_SEED, "test", index)
        assert (item.question, item.reference, item.solution) == (
            problem.question,
            str(problem.answer),
            problem.solution,
        )
        assert item.key == item_key("arith", item.question, item.reference)
        assert score_text(item.solution, item.reference).strict == 1.0


def test_arith_asks_the_bare_question() -> None:
    task = ArithTask()
    item = task.items()[0]
    assert task.messages(item) == [{"role": "user", "content": FIRST_QUESTIONS[0]}]
    assert (task.name, task.scorer, task.floor) == ("arith", "strict", 0.10)


def test_load_task_knows_every_name() -> None:
    read_at_use = [name for name in TASKS if name != "requests"]
    assert [load_task(name).name for name in read_at_use] == read_at_use
    with pytest.raises(HarnessError, match="--task requests without --data"):
        load_task("requests")
    assert load_task("gsm8k", Path("x.jsonl")) == Gsm8kTask(Path("x.jsonl"))


@pytest.mark.parametrize(
    ("name", "way_out"),
    [("gsm-8k", "did you mean 'gsm8k'"), ("ARITH", "mean 'arith'"), ("mmlu", "known: arith, gsm8k")],
)
def test_load_task_refuses_an_unknown_name(name: str, way_out: str) -> None:
    with pytest.raises(HarnessError, match=f"unknown task '{name}'.*{way_out}"):
        load_task(name)


def test_load_task_refuses_data_for_arith() -> None:
    with pytest.raises(HarnessError, match=r"--data x\.jsonl.*leave out --data"):
        load_task("arith", Path("x.jsonl"))


def test_json_lines_skip_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('\ufeff{"a": "x\u2028y"}\r\n\r\n{"a": 2}'.encode())
    assert list(read_json_lines(path)) == [(1, {"a": "x\u2028y"}), (3, {"a": 2})]


def test_tasks_load_no_heavy_library() -> None:
    code = (
        "import sys, harness.evaluate.completions, harness.evaluate.tasks as t; t.load_task('arith').items();"
        "sys.exit(str([m for m in ('torch', 'transformers', 'datasets', 'pyarrow', 'numpy') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
