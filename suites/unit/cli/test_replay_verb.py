"""``harness replay``: one item alone gives what the run has stored, and says so where it does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.evaluate.prepared import prepare
from harness.evaluate.regenerate import _parts
from harness.evaluate.run import evaluate
from harness.evaluate.tasks import load_task
from harness.runs.loaded import Run, load_run
from harness.spec import EvalSpec

pytestmark = pytest.mark.long

Verb = Callable[..., Any]
SPEC = EvalSpec("arith", items=3, levels=(0.0, 0.1), noise_seeds=2, positive_control=False)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that is no terminal: workers of pytest-xdist set COLUMNS."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="module")
def run(arith: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three items of the shipped checkpoint, evaluated in one batch."""
    path = tmp_path_factory.mktemp("replayed") / "run"
    evaluate(prepare(arith, SPEC, "cpu"), path)
    return load_run(path)


@pytest.fixture
def wrong(run: Run) -> tuple[str, int]:
    """An item and seed whose text the noise changed."""
    clean = {result.item: result.tokens for result in run.results if result.level == 0}
    found = [(r.item, r.seed) for r in run.results if r.level and r.tokens != clean[r.item]]
    assert found, "10 % of noise changes some text"
    return found[0]


def replayed(cli: Verb, run: Run, item: str, seed: int, *options: object) -> Any:
    return cli("replay", run.path, "--item", item, "--level", 0.1, "--seed", seed, "--device", "cpu", *options)


def test_an_item_alone_gives_what_the_batch_gave(cli: Verb, run: Run) -> None:
    stored = {(result.item, result.level, result.seed): result for result in run.results}
    for item in {result.item for result in run.results}:
        said = replayed(cli, run, item[:6], 1, "--json")
        report = said.json
        assert (said.code, report["reproduced"], report["item"]) == (0, True, item)
        clean, noisy = report["generations"]
        assert clean["tokens"] == list(stored[item, 0.0, 0].tokens)
        assert noisy["tokens"] == list(stored[item, 0.1, 1].tokens)
        assert (noisy["score"], noisy["text"]) == (stored[item, 0.1, 1].score, stored[item, 0.1, 1].text)
        equal = report["equal_tokens"]
        if equal is None:
            assert clean["tokens"] == noisy["tokens"]
        else:
            assert clean["tokens"][:equal] == noisy["tokens"][:equal]
            assert clean["tokens"][equal : equal + 1] != noisy["tokens"][equal : equal + 1]
        assert all("".join(found["parts"]) == found["text"] for found in (clean, noisy))


def test_the_ledger_of_the_item_is_whole(cli: Verb, run: Run, wrong: tuple[str, int]) -> None:
    report = replayed(cli, run, *wrong, "--json").json
    for generation, group in zip(report["generations"], report["ledger"], strict=True):
        assert (group["level"], group["sites"], group["direction"]) == (generation["level"], 29, "forward")
        steps = len(generation["tokens"]) + (not generation["truncated"])
        fed = generation["prompt_tokens"] + steps - 1
        assert group["rows"] == 28 * fed + steps
        assert (group["changed"] > 0.99 * group["elements"]) is (generation["level"] > 0)
        assert group["changed"] == 0 or generation["level"] > 0
        assert len(group["entries"]) == 29 and {entry["layer"] for entry in group["entries"]} == {None, 0, 1, 2, 3}


def test_both_texts_stand_side_by_side(cli: Verb, run: Run, wrong: tuple[str, int]) -> None:
    item, seed = wrong
    said = replayed(cli, run, item, seed)
    assert (said.code, said.err) == (0, "")
    question = run.arm.questions[item]
    (heads,) = [line for line in said.out.splitlines() if "clean" in line and f"noise 10 %, seed {seed}" in line]
    assert heads.startswith("┃ clean")
    assert question in said.out and said.out.count("as stored") == 2
    assert said.out.count(">>") == said.out.count("<<") == 2
    assert "they part after " in said.out and "Ledger by site" not in said.out
    for level in (0.0, 0.1):
        (record,) = [r for r in run.results if (r.item, r.level, r.seed) == (item, level, seed if level else 0)]
        name = f"noise 10 %, seed {seed}" if level else "clean"
        (row,) = [line for line in said.out.splitlines() if line.startswith(f"│ {name} ") and "as stored" in line]
        assert [cell.strip() for cell in row.split("│")][2:6] == [
            *(str(len(record.tokens)), "by itself" if not record.truncated else "cut at the limit"),
            *(record.answer or "-", record.reason),
        ]


def test_a_narrow_terminal_stacks_them(
    cli: Verb, run: Run, wrong: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = replayed(cli, run, *wrong, "--ledger").out
    lines = out.splitlines()
    assert lines.index("--- clean") < lines.index(f"--- noise 10 %, seed {wrong[1]}")
    assert "model.layers.3.mlp.gate_proj" in out and "\u2026" not in out
    assert "Ledger: what was really perturbed" in out and "Ledger by site" in out


def test_the_clean_level_is_one_text(cli: Verb, run: Run) -> None:
    item = run.results[0].item
    report = cli("replay", run.path, "--item", item, "--level", 0, "--device", "cpu", "--json").json
    assert (len(report["generations"]), report["equal_tokens"], report["reproduced"]) == (1, None, True)
    assert [group["changed"] for group in report["ledger"]] == [0]


def test_a_generation_that_differs_is_exit_4(
    cli: Verb, run: Run, wrong: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.engines import transformers as module

    real, at = module.generate, 5

    def other(*arguments: Any) -> Any:
        (completion,) = real(*arguments)
        tokens = list(completion.tokens)
        tokens[at] = tokens[at] + 1
        return [replace(completion, tokens=tuple(tokens))]

    monkeypatch.setattr(module, "generate", other)
    said = replayed(cli, run, *wrong)
    assert (said.code, said.err) == (4, "")
    assert said.out.count("DIFFERS from the stored record") == 2
    assert f"clean: the first token that differs comes after {at} equal ones: '" in said.out
    assert "INVALID: the run cannot be reproduced here (made on cpu, now on cpu)" in said.out
    found = replayed(cli, run, *wrong, "--json")
    assert (found.code, found.json["reproduced"]) == (4, False)
    assert [generation["first_difference"]["token"] for generation in found.json["generations"]] == [at, at]


def test_an_end_that_did_not_come_differs(
    cli: Verb, run: Run, wrong: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.engines import transformers as module

    real = module.generate
    monkeypatch.setattr(module, "generate", lambda *a: [replace(c, truncated=not c.truncated) for c in real(*a)])
    said = replayed(cli, run, *wrong)
    assert said.code == 4
    assert "clean: the same tokens, but only one of them came to an end" in said.out
    monkeypatch.setattr(module, "generate", lambda *a: [replace(c, tokens=c.tokens[:3]) for c in real(*a)])
    said = replayed(cli, run, *wrong)
    assert said.code == 4
    assert "clean: the first token that differs comes after 3 equal ones: the end now, '" in said.out


def test_a_checkpoint_that_moved_is_named_and_held_against_the_run(
    cli: Verb, run: Run, arith: Path, tiny: Path, tmp_path: Path
) -> None:
    item = run.results[0].item
    moved = shutil.copytree(arith, tmp_path / "moved")
    assert replayed(cli, run, item, 0, "--checkpoint", moved, "--json").json["checkpoint"] == str(moved)
    settings = json.loads((moved / "generation_config.json").read_text())
    (moved / "generation_config.json").write_text(json.dumps(settings | {"max_length": 7}))
    said = replayed(cli, run, item, 0, "--checkpoint", moved)
    assert said.code == 4 and "cannot be repeated here; what its numbers depend on differs: settings (" in said.line
    said = replayed(cli, run, item, 0, "--checkpoint", tiny)
    assert (said.code, said.out) == (4, "")
    weights = run.asked.weights
    assert f"checkpoint {tiny}; its weights are " in said.line and f"those of the run {weights[:16]}..." in said.line
    said = replayed(cli, run, item, 0, "--checkpoint", tmp_path / "nowhere")
    assert said.code == 2 and "no such folder" in said.line


def test_a_checkpoint_that_is_gone_is_one_line(cli: Verb, make_run: Any, tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", {0.0: [[1]], 0.05: [[1]]})
    said = cli("replay", path, "--item", "i0", "--level", 0.05)
    assert said.code == 2
    assert said.line.endswith(
        "checkpoint ckpt, which the run was made of; no such folder; say where it is: --checkpoint"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--item", "j", "--level", "0.05"),
            "--item 'j'; no item of the run begins so; the first of its 12 items is i0",
        ),
        (("--item", "i0x", "--level", "0.05"), "--item 'i0x'; no item of the run begins so; did you mean i0?"),
        (("--item", "i1", "--level", "0.05", "--seed", "2"), "--seed 2; at level 0.05 the run has the seeds 0, 1"),
        (("--item", "i", "--level", "0.05"), "it means i0, i1, i2 and 9 more; give more of the hash"),
        (("--item", "i0", "--level", "0.07"), "--level 0.07; the run has the levels 0, 0.05; choose one of them"),
        (
            ("--item", "i0", "--level", "0.05", "--seed", "2"),
            "--seed 2; at level 0.05 the run has the seeds 0, 1; choose one of them",
        ),
        (("--item", "i0", "--level", "0", "--seed", "1"), "--seed 1; at level 0 the run has the seeds 0;"),
        (("--item", "i5", "--level", "0.05", "--seed", "1"), "item i5 has no record at level 0.05, seed 1; resume it"),
        (("--level", "0.05"), "Missing option '--item'"),
        (("--item", "i0"), "Missing option '--level'"),
    ],
)
def test_a_record_that_is_not_there_is_one_line(
    cli: Verb, make_run: Any, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    rows = {0.0: [[1]] * 12, 0.05: [[1, 0]] * 5 + [[1]] + [[1, 0]] * 6}
    said = cli("replay", make_run(tmp_path / "run", rows), *options)
    assert words in said.line
    assert (said.code, said.out) == (2, "")


def test_a_run_of_completions_cannot_be_replayed(cli: Verb, tmp_path: Path) -> None:
    item = load_task("arith").items()[0]
    (tmp_path / "c.jsonl").write_text(json.dumps({"completion": "#### 1", "item": item.key}) + "\n")
    assert cli("score", "--completions", tmp_path / "c.jsonl", "--out", tmp_path / "run").code == 0
    said = cli("replay", tmp_path / "run", "--item", item.key, "--level", 0)
    assert said.code == 2
    assert "its completions were produced elsewhere; replay a run of harness eval or harness gate" in said.line
    assert "is no run but holds runs: run" in cli("replay", tmp_path, "--item", item.key, "--level", 0).line
    (tmp_path / "empty").mkdir()
    assert "not a run folder" in cli("replay", tmp_path / "empty", "--item", item.key, "--level", 0).line


@pytest.mark.parametrize(
    ("tokens", "parted", "parts"),
    [
        ((104, 105), None, ["hi", "", ""]),
        ((104, 105), 1, ["h", "i", ""]),
        ((104, 105), 2, ["hi", "", ""]),
        ((104, 195, 164, 105), 1, ["h", "", "äi"]),  # half a character is no text yet
        ((104, 195, 164, 105), 2, ["h", "ä", "i"]),
    ],
)
def test_the_text_is_cut_at_whole_characters(tokens: tuple[int, ...], parted: int | None, parts: list[str]) -> None:
    def decode(ids: Any, skip_special_tokens: bool = False) -> str:
        return bytes(ids).decode("utf-8", "replace")

    assert _parts(tokens, parted, decode) == parts
