"""Options that contradict each other, or that nothing would read, are refused in one line that names both.

One table over the verbs; nothing is evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import accept_baseline
from harness.testing import write_run

pytestmark = pytest.mark.unit
Verb = Callable[..., Any]

EVAL, SCAN, RESPONSE = ("eval", "CK", "--out", "new"), ("scan", "CK", "--format", "mxfp4"), ("aqn", "response", "CK")
SIGMAS, ARITH, ACTIVATIONS = ("--sigmas", "0.01,0.1"), ("--task", "arith"), ("--what", "activations")
GATE, RUN = ("gate", "CK", "--baseline", "b"), ("gate", "run", "--baseline", "b")
AQN, DOSE = ("aqn", "plan", "CK"), ("--sigma", "0.01")

REFUSED: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    ((*EVAL, "--items", "3", "--all-items"), ("--items 3", "--all-items")),
    ((*EVAL, "--timeout", "5"), ("--timeout 5", "one transformers engine")),
    ((*EVAL, "--timeout", "5", "--workers", "1"), ("--timeout 5", "one transformers engine")),
    ((*EVAL, "--timeout", "inf", "--workers", "2"), ("--timeout inf", "above 0")),
    ((*EVAL, "--noise-levels", "0", "--noise-seeds", "3"), ("--noise-seeds 3", "no noise level")),
    ((*EVAL, "--noise-levels", "0,,0.05"), ("'0,,0.05'",)),
    ((*EVAL, "--noise", "relative_gaussian @ op:linear;"), ("'linear;'",)),
    ((*EVAL, "--data", "d.jsonl"), ("--data d.jsonl", "arith")),
    ((*EVAL, "--adapter", "unmerged"), ("--adapter unmerged", "no adapter")),
    ((*EVAL, "--base", "CK"), ("--base", "no adapter")),
    ((*EVAL, "--engine", "vllm", "--device", "cpu"), ("--device cpu", "vllm")),
    ((*RUN, "--margin", "0.06", "--policy", "p.toml"), ("--policy p.toml", "--margin")),
    ((*RUN, "--force", "--policy", "p.toml"), ("--policy p.toml", "--force")),
    ((*RUN, "--min-retention", "0.9", "--policy", "p.toml"), ("--policy p.toml", "--min-retention")),
    ((*RUN, "--early-stop", "0.5", "--min-retention", "0.5"), ("early_stop 0.5", "min_retention")),
    ((*RUN, "--out", "x"), ("--out x", "run")),
    ((*RUN, "--base", "CK"), ("--base", "run")),
    ((*RUN, "--engine", "vllm"), ("--engine vllm", "run")),
    ((*RUN, "--quantize", "weights=mxfp4"), ("--quantize weights=mxfp4", "run")),
    ((*RUN, "--batch-size", "2"), ("--batch-size 2", "finished run")),
    ((*RUN, "--timeout", "5"), ("--timeout 5", "finished run")),
    ((*GATE, "--from-records"), ("--from-records", "not a run")),
    ((*GATE, "--timeout", "5"), ("--timeout 5", "one transformers engine")),
    ((*GATE, "--items", "61"), ("--items 61", "60 items")),
    ((*GATE, "--noise-seeds", "3"), ("--noise-seeds 3",)),
    ((*GATE, "--baselines-dir", "nowhere"), ("--baselines-dir nowhere", "no such folder")),
    (("plan", "CK", "--config", "CK"), ("CHECKPOINT", "--config")),
    (("plan", "CK", "--margin", "0.1"), ("--margin 0.1", "--baseline")),
    (("plan", "CK", "--discordance", "0.1"), ("--discordance 0.1", "--baseline")),
    (("plan", "--baseline", "b", "--sites"), ("--sites", "CHECKPOINT")),
    (("plan", "--baseline", "b", "--margin", "0.1", "--policy", "p.toml"), ("--policy p.toml", "--margin")),
    (("plan", "--config", "CK", "--base", "CK"), ("--base", "--config")),
    ((*SCAN, "--items", "3"), ("--items 3", "--task")),
    ((*SCAN, "--batch-size", "3"), ("--batch-size 3", "--task")),
    ((*SCAN, "--effect"), ("--effect", "--task")),
    ((*SCAN, *ACTIVATIONS), ("--what activations", "--task")),
    ((*SCAN, *ARITH, "--no-effect"), ("--task arith", "--no-effect")),
    ((*SCAN, *ARITH, *ACTIVATIONS, "--no-effect", "--scorer", "strict"), ("--scorer strict", "--no-effect")),
    ((*SCAN, *ARITH, *ACTIVATIONS, "--no-effect", "--max-new-tokens", "3"), ("--max-new-tokens 3", "--no-effect")),
    (("scan", "CK", "--format", "nvfp4", "--scale-rule", "even"), ("--scale-rule even", "nvfp4")),
    (("scan", "CK", "--format", "mxfp4,"), ("'mxfp4,'",)),
    ((*RESPONSE, *SIGMAS, "--prefix", "x"), ("--prefix", "--task arith")),
    ((*RESPONSE, *SIGMAS, "--batch-size", "0"), ("--batch-size 0",)),
    ((*RESPONSE, *SIGMAS, "--groups", "norms,"), ("'norms,'",)),
    ((*RESPONSE, *SIGMAS, "--plot", "x.png"), ("--plot x.png", "SVG")),
    ((*RESPONSE, "--sigmas", "0.01,,0.1"), ("'0.01,,0.1'",)),
    (("aqn", "schedule", "--sigma-start", "1", "--steps", "9", "--stages-per-epoch", "2"), ("--stages-per-epoch 2",)),
    ((*AQN, *DOSE, "--steps", "3"), ("--sigma 0.01", "--steps")),
    ((*AQN, *DOSE, "--layer-types", "rmsnorm,"), ("''",)),
    ((*AQN, *DOSE, "--exclude", "no_such"), ("--exclude no_such", "rmsnorm")),
    ((*AQN, *DOSE, "--include", "norm", "--include", "no_such"), ("--include no_such", "rmsnorm")),
    ((*AQN, *DOSE, "--layer-types", "linear", "--norm-dtype", "float32"), ("--norm-dtype", "--layer-types linear")),
    (("aqn", "apply", "CK", *DOSE, "--step", "1", "--out", "new"), ("--step 1", "--sigma")),
    (("claims", "--theory", "--id", "C1"), ("--id", "--theory")),
    (("claims", "--arm", "a=run"), ("--arm", "--theory")),
    (("compare", "--arm", "a=run", "--arm", "a=run"), ("--arm a", "twice")),
    (("compare", "--arm", "a=run,", "--arm", "b=run"), ("'a=run,'",)),
    (("score", "--completions", "d.jsonl", "--data", "d.jsonl", "--out", "new"), ("--data d.jsonl", "arith")),
    (("replay", "run", "--item", "i1", "--level", "0", "--seed", "3"), ("--seed 3", "level 0")),
    (("report", "run", "--page", ""), ("page ''",)),
    (("report", "run", "--page", "scan"), ("scan run", "no scan.json")),
    (("doctor", "--quick", "--calibrate"), ("--quick", "--calibrate")),
    (("doctor", "--cells"), ("--cells", "--calibrate")),
    (("baseline", "accept", "run", "--name", "b", "--reason", "r"), ("'b'", "--replace")),
)
ACROSS = ("quantization", "dtype", "engine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A run, its baseline, a policy and a data file."""
    found = tmp_path_factory.mktemp("pairs")
    write_run(found / "run", {0.0: [[1]] * 60, 0.05: [[1, 1]] * 60})
    accept_baseline(found / "run", found / "baselines", "b", "for a test", False)
    (found / "p.toml").write_text("[policy]\nmargin = 0.06\n")
    (found / "d.jsonl").write_text(json.dumps({"question": "1 + 1?", "answer": "#### 2"}) + "\n")
    (found / "CK").symlink_to(tiny)
    return found


@pytest.mark.parametrize(("call", "words"), REFUSED, ids=[" ".join(call) for call, _ in REFUSED])
def test_what_contradicts_or_is_read_by_nothing_is_refused(
    cli: Verb, folder: Path, monkeypatch: pytest.MonkeyPatch, call: tuple[str, ...], words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder)
    said = cli(*call)
    assert (said.code, said.out) == (2, ""), said
    assert all(word in said.line for word in words), said.line
    assert not (folder / "new").exists()


@pytest.mark.parametrize("axis", ACROSS)
def test_a_declared_axis_that_does_not_differ_is_no_comparison(
    cli: Verb, folder: Path, monkeypatch: pytest.MonkeyPatch, axis: str
) -> None:
    """``--across quantization`` without ``--quantize`` was a PASS of the model as it is."""
    monkeypatch.chdir(folder)
    said = cli(*RUN, "--across", axis, "--json")
    assert said.code == 4 and said.json["verdict"] == "INVALID"
    assert f"{axis} was to differ, and both sides have" in said.json["reasons"][0]


def test_the_json_of_a_gate_says_whether_the_stored_verdict_is_this_one(
    cli: Verb, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    run = write_run(tmp_path / "fresh", {0.0: [[1]] * 60, 0.05: [[1, 1]] * 60})
    told = [cli("gate", run, "--baseline", "b", "--from-records", "--json").json["repeated"] for _ in range(2)]
    assert told == [False, True]
