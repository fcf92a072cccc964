"""Wrong arguments: one line, no traceback, the right exit code, nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

EVAL = ("eval", "nowhere", "--out", "run")
HERE = ("eval", ".", "--out", "run")
"""What is told of the rest only once the checkpoint is seen to be there."""

SHIPPED = ("--baseline", "arith/arith-qwen2")
GATE = ("gate", "nowhere", "--baseline", "base")
SCORE = ("score", "--completions", "nothing.jsonl", "--out", "run")
WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown verb": (("evl",), "no verb 'evl'; did you mean 'eval'?"),
    "unlike any verb": (("zzz",), "no verb 'zzz'; known: aqn, baseline, "),
    "unknown baseline verb": (("baseline", "lst"), "No such command 'lst'"),
    "unknown option": ((*EVAL, "--itms", "5"), "No such option"),
    "option without value": ((*EVAL, "--items"), "Option '--items' requires an argument"),
    "missing option": (("eval", "nowhere"), "Missing option '--out'"),
    "missing argument": (("eval", "--out", "run"), "Missing argument 'CHECKPOINT'"),
    "stray argument": ((*EVAL, "more"), "unexpected extra argument (more)"),
    "level of one": ((*EVAL, "--noise-levels", "0,1"), "noise level 1; a level is a fraction in [0, 1); 5 % is"),
    "level in percent": ((*EVAL, "--noise-levels", "0,5"), "noise level 5; a level is a fraction in [0, 1)"),
    "negative level": ((*EVAL, "--noise-levels", "0,-0.05"), "noise level -0.05; a level is a fraction"),
    "level that is no number": ((*EVAL, "--noise-levels", "0,nan"), "noise level nan"),
    "garbage levels": ((*EVAL, "--noise-levels", "0,x"), "noise levels '0,x'; a comma-separated list of fractions"),
    "empty levels": ((*EVAL, "--noise-levels", ""), "noise levels ''; a comma-separated list"),
    "no clean level": ((*EVAL, "--noise-levels", "0.05,0.1"), "level 0 is the clean reference of all others; add 0"),
    "level twice": ((*EVAL, "--noise-levels", "0,0.1,0.10"), "a level is given twice"),
    "clean level twice": ((*EVAL, "--noise-levels", "0,-0.0"), "a level is given twice"),
    "zero items": ((*EVAL, "--items", "0"), "--items 0; at least one item is needed"),
    "negative items": ((*EVAL, "--items", "-3"), "--items -3; at least one item is needed"),
    "items and all items": ((*EVAL, "--items", "5", "--all-items"), "--items 5 with --all-items; one says how many"),
    "items that are no number": ((*EVAL, "--items", "many"), "Invalid value for '--items'"),
    "too many items": ((*HERE, "--items", "2001"), "2001 items asked for; the task has 2000"),
    "no seeds": ((*EVAL, "--noise-seeds", "0"), "--noise-seeds 0; at least one seed is needed"),
    "no tokens": ((*EVAL, "--max-new-tokens", "0"), "--max-new-tokens 0; at least one token"),
    "unknown task": (
        (*HERE, "--task", "artih"),
        "unknown task 'artih'; the tasks are arith, gsm8k, ",
    ),
    "unknown scorer": ((*EVAL, "--scorer", "strikt"), "--scorer strikt; did you mean 'strict'?"),
    "unknown dtype": ((*EVAL, "--dtype", "bfloat"), "--dtype bfloat; did you mean 'bfloat16'?"),
    "unknown attention": ((*EVAL, "--attention", "flash"), "--attention flash; known: auto, eager, sdpa"),
    "unknown engine": ((*EVAL, "--engine", "transformer"), "--engine transformer; did you mean 'transformers'?"),
    "unknown device": ((*HERE, "--device", "cdua"), "--device cdua; no such device here"),
    "scale given twice": (
        (*EVAL, "--noise", "relative_gaussian(0.05) @ op:linear", "--noise-levels", "0,0.05"),
        "has a scale and --noise-levels 0,0.05 gives others; the scale may come from one place only",
    ),
    "scale of zero": ((*EVAL, "--noise", "relative_gaussian(0)"), "scale 0 changes nothing; give a scale above 0"),
    "negative scale": ((*EVAL, "--noise", "relative_gaussian(-1)"), "a scale is a finite fraction >= 0"),
    "scale of one": ((*EVAL, "--noise", "relative_gaussian(1)"), "noise level 1; a level is a fraction in [0, 1)"),
    "scale that is no number": ((*EVAL, "--noise", "relative_gaussian(x)"), "scale 'x' of relative_gaussian"),
    "unknown op": (
        (*EVAL, "--noise", "relative_gaussian @ op:linaer"),
        "operator 'linaer'; an operator is one of the table",
    ),
    "unknown profile": ((*EVAL, "--noise", "relative_gaussian @ profile:matmu"), "did you mean 'matmul'?"),
    "unknown error model": ((*EVAL, "--noise", "relative_gausian"), "did you mean 'relative_gaussian'?"),
    "unknown selector": ((*EVAL, "--noise", "relative_gaussian @ ops:linear"), "unknown selector 'ops'"),
    "selector twice": ((*EVAL, "--noise", "relative_gaussian @ op:qk profile:linear"), "may be given once"),
    "unknown key mode": ((*EVAL, "--noise", "relative_gaussian @ key:chip"), "key:item or key:shared"),
    "garbage noise": ((*EVAL, "--noise", "0.05 please"), "it reads error_model(scale) @ op:NAME"),
    "data for a task without": ((*HERE, "--data", "x.jsonl"), "the task arith generates its items; leave out --data"),
    "missing data": (
        (*HERE, "--task", "gsm8k", "--data", "no.jsonl"),
        "no.jsonl does not exist; a data file is needed",
    ),
    "missing checkpoint": (EVAL, "checkpoint nowhere; no such folder; give a folder in Hugging Face format"),
    "margin without baseline": (("plan", "x", "--margin", "0.1"), "--margin 0.1 without --baseline; nothing would"),
    "items without task": (("scan", "x", "--format", "mxfp4", "--items", "9"), "--items 9 without --task; nothing"),
    "empty format": (("scan", "x", "--format", "mxfp4,,nvfp4"), "an entry of the list is empty"),
    "empty level": ((*EVAL, "--noise-levels", "0,,0.1"), "noise levels '0,,0.1'; a comma-separated list"),
    "empty run of an arm": (("compare", "--arm", "a=x,,y", "--arm", "b=z"), "an arm is a name and its run folders"),
    "no folder of baselines": (("baseline", "list", "--baselines-dir", "nowhere"), "nowhere; there is no such folder"),
    "no folder of baselines for a gate": (
        (*GATE, "--baselines-dir", "nowhere"),
        "--baselines-dir nowhere; there is no such folder",
    ),
    "no folder of a shipped baseline": (("plan", *SHIPPED, "--baselines-dir", "nowhere"), "there is no such folder"),
    "sites without a model": (("plan", *SHIPPED, "--sites"), "--sites without CHECKPOINT or --config; nothing would"),
    "noise without a model": (("plan", *SHIPPED, "--noise", "x"), "--noise x without CHECKPOINT or --config"),
    "base with a config": (("plan", "--config", "x", "--base", "y"), "--base y with --config; nothing would read it"),
    "folder without baseline": (("plan", ".", "--baselines-dir", "."), "--baselines-dir . without --baseline; nothing"),
    "dtype without task": (("scan", "x", "--format", "mxfp4", "--dtype", "float16"), "--dtype float16 without --task"),
    "workers of a scan": (("scan", "x", "--format", "mxfp4", "--workers", "2"), "No such option '--workers'"),
    "task of nothing": (
        ("scan", "x", "--format", "mxfp4", "--task", "arith", "--no-effect"),
        "--task arith with --no-effect and --what weights; nothing would read it",
    ),
    "gate without baseline": (("gate", "nowhere"), "Missing option '--baseline'"),
    "missing baseline": (GATE, "baseline 'base'; there is none under baselines; accept a run with harness baseline"),
    "missing baseline file": (("gate", "x", "--baseline", "no.json"), "baseline no.json; no such file"),
    "bad baseline name": (("gate", "x", "--baseline", "../x"), "baseline name '../x'"),
    "baseline name beyond all bounds": (("gate", "x", "--baseline", "x" * 300), "File name too long"),
    "margin in points": ((*GATE, "--margin", "3"), "margin 3.0; it is a fraction"),
    "margin that is no number": ((*GATE, "--margin", "wide"), "Invalid value for '--margin'"),
    "impossible retention": ((*GATE, "--min-retention", "1.5"), "min_retention 1.5"),
    "missing completions": (SCORE, "nothing.jsonl does not exist"),
    "completions that are a folder": (("score", "--completions", ".", "--out", "run"), ". is a directory"),
    "score of an unknown task": ((*SCORE, "--task", "gsm9k"), "unknown task 'gsm9k'"),
    "baseline of no run": (("baseline", "accept", "x", "--name", "a", "--reason", "r"), "run x; not a run folder"),
    "baseline without reason": (("baseline", "accept", "x", "--name", "a", "--reason", " "), "--reason is empty"),
    "show of nothing": (("baseline", "show", "a"), "baseline 'a'; there is none under baselines"),
    "diff of nothing": (("baseline", "diff", "a", "b"), "baseline 'a'; there is none under baselines"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_argument_is_one_line(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, words = WRONG[kind]
    said = cli(*arguments)
    assert words in said.line
    assert (said.code, said.out) == (2, "")
    assert os.listdir(tmp_path) == []


def test_no_argument_shows_the_help_and_is_no_success(cli: Any) -> None:
    said = cli()
    assert said.code == 2
    for verb in ("baseline", "eval", "gate", "plan", "replay", "score"):
        assert f"  {verb} " in said.out


@pytest.mark.parametrize("verb", ["", "eval", "gate", "plan", "replay", "score", "baseline", "baseline accept"])
def test_every_verb_explains_itself(cli: Any, verb: str) -> None:
    said = cli(*verb.split(), "--help")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"Usage: harness {verb}".strip()) or said.out.startswith("Usage: ")
    assert len(said.out.splitlines()) > 8


def test_a_file_error_nobody_foresaw_is_one_line(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.cli import main

    def fail(ctx: object) -> None:
        raise PermissionError(13, "Permission denied", "/x")

    monkeypatch.setattr(main.command, "invoke", fail)
    said = cli("gate")
    assert said.code == 2
    assert "Permission denied: '/x'" in said.line


def _python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


HEAVY = ("torch", "transformers", "vllm", "datasets")
HELP = """
import sys
from harness.cli.main import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
print(*sys.modules, file=sys.stderr)
"""


def test_the_help_imports_nothing_heavy() -> None:
    found = _python(HELP)
    assert found.returncode == 0, found.stderr
    assert "Usage:" in found.stdout
    loaded = set(found.stderr.split())
    assert "click" in loaded
    assert not loaded & {*HEAVY, "pyarrow", "scipy", "numpy", "statsmodels", "rich", "pytest"}


WALK = """
import importlib, pkgutil, sys
names = ["harness.spec", "harness.record", "harness.exceptions", "harness.thresholds"]
names += ["harness.evaluate.external", "harness.evaluate.completions", "harness.cli.gate_verb", "harness.cli.eval_verb"]
for package in ("stats", "gates", "baselines", "reports", "runs", "evaluate.tasks"):
    module = importlib.import_module(f"harness.{package}")
    names += [found.name for found in pkgutil.walk_packages(module.__path__, f"harness.{package}.")]
for name in names:
    importlib.import_module(name)
    heavy = [found for found in sys.argv[1:] if found in sys.modules]
    if heavy:
        sys.exit(f"{name} imports {heavy}")
print(len(names))
"""


def test_what_judges_and_reports_imports_no_torch() -> None:
    found = _python(WALK, *HEAVY)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 30


PIPE = """
import sys
from harness.cli.main import main
main(["baseline", "list", "--baselines-dir", sys.argv[1], "--json"])
"""


def test_a_reader_that_went_away_is_no_verdict(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, "-c", PIPE, str(tmp_path)], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    _, err = process.communicate()
    assert (process.returncode, err) == (141, "")


Verb = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, make_run: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a run and a baseline of it."""
    monkeypatch.chdir(tmp_path)
    make_run(Path("run"), {0.0: [[1], [1], [0]], 0.05: [[1, 0], [1, 1], ["unparsed", 0]]})
    return tmp_path


def test_baselines_are_accepted_listed_shown_and_compared(cli: Verb, folder: Path, make_run: Any) -> None:
    said = cli("baseline", "accept", "run", "--name", "arith/a", "--reason", "the first")
    assert (said.code, said.out, said.err) == (0, "baselines/arith/a.json\n", "")
    (row,) = cli("baseline", "list", "--json").json
    assert row == {
        "name": "arith/a",
        "accepted": row["accepted"],
        "items": 3,
        "status": "certified",
        "reason": "the first",
    }
    assert cli("baseline", "list").out == f"arith/a  {row['accepted']}  3 items  certified  the first\n"
    shown = cli("baseline", "show", "arith/a", "--json").json
    assert set(shown) == {*row, "measurement_key", "levels", "provenance", "spec", "certificate", "notes"}
    assert [(level["level"], level["n"]) for level in shown["levels"]] == [(0.0, 3), (0.05, 3)]
    assert "level 0 %: accuracy 66.7 [" in cli("baseline", "show", "arith/a").out
    make_run(Path("other"), {0.0: [[1], [0], [0]], 0.05: [[1, 0], [1, 1], [0, 0]]})
    difference = cli("baseline", "diff", "arith/a", "other", "--json").json
    assert difference["changed"] == {
        "0": {"i1": {"0": ["right", "wrong"]}},
        "0.05": {"i2": {"0": ["unparsed", "wrong"]}},
    }
    text = cli("baseline", "diff", "baselines/arith/a.json", "other").out
    assert "level 0 %: 1 outcomes differ, 0 only in" in text and "  i2: seed 0 unparsed -> wrong" in text


def test_the_nearest_baseline_is_named(cli: Verb, folder: Path) -> None:
    cli("baseline", "accept", "run", "--name", "arith/tiny", "--reason", "r")
    said = cli("gate", "run", "--baseline", "arith/tny")
    assert said.code == 2
    assert said.line == "harness: baseline 'arith/tny'; there is none under baselines; did you mean 'arith/tiny'?"


def test_refused_baselines_keep_their_exit_codes(cli: Verb, folder: Path, make_run: Any, make_result: Any) -> None:
    accept = ("--name", "a", "--reason", "r")
    assert cli("baseline", "accept", "run", *accept).code == 0
    said = cli("baseline", "accept", "run", *accept)
    assert said.code == 2 and "it exists already" in said.line
    assert cli("baseline", "accept", "run", *accept, "--replace").code == 0
    make_run(Path("bad"), {0.0: [[1]], 0.05: [[1]]}, changed=0, error=0.0, relative=0.0)
    said = cli("baseline", "accept", "bad", "--name", "b", "--reason", "r")
    assert said.code == 4 and "is INVALID" in said.line
    make_run(Path("part"), {0.0: [[1]], 0.05: [[1]]}, control=None)
    said = cli("baseline", "accept", "part", "--name", "b", "--reason", "r")
    assert said.code == 4 and "unfinished run" in said.line
    assert not Path("baselines/b.json").exists()


def test_damaged_files_are_exit_2(cli: Verb, folder: Path) -> None:
    cli("baseline", "accept", "run", "--name", "a", "--reason", "r")
    path = Path("baselines/a.json")
    text = path.read_text()
    for damaged, words in ((text[:-200], "truncated or not JSON"), (text.replace('"10 ', '"11 '), "edited or damaged")):
        assert damaged != text
        path.write_text(damaged)
        said = cli("gate", "run", "--baseline", "a")
        assert said.code == 2 and words in said.line and "baselines/a.json" in said.line
    path.write_text(text)
    Path("run/records.sqlite").write_bytes(b"no database")
    said = cli("gate", "run", "--baseline", "a")
    assert said.code == 2 and "SQLite says" in said.line
    Path("run/manifest.json").write_text(json.dumps({"schema_version": 7}))
    assert "schema version 7" in cli("gate", "run", "--baseline", "a").line
