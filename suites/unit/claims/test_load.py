"""What does not fit the registry's form is one clear error each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.claims.load import build_registry, load_registry

pytestmark = pytest.mark.unit

Refusal = Callable[..., str]
FACT = {"id": "f", "kind": "caution", "failure": "F1", "experiments": ["on"], "text": "t"}


def build(data: dict[str, Any]) -> Any:
    return build_registry([("small.toml", data)])


def series(data: dict[str, Any], **changes: Any) -> None:
    data["experiment"][0]["series"][0].update(changes)


def comparison(data: dict[str, Any], **changes: Any) -> None:
    data["claim"][0]["comparison"][0].update(changes)


CASES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "key of a file": (
        lambda d: d.update(experiments=[]),
        "unknown key 'experiments'; nothing reads it; did you mean 'experiment'?",
    ),
    "key of an experiment": (lambda d: d["experiment"][0].update(modle="x"), "unknown key 'modle'"),
    "key of a series": (lambda d: series(d, stpes=[1]), "unknown key 'stpes'; nothing reads it; did you mean 'steps'?"),
    "factor": (lambda d: d["experiment"][0]["config"].update(qant="x"), "did you mean 'quant'?"),
    "engine": (lambda d: series(d, engine="vlm"), "did you mean 'vllm'?"),
    "noise letter": (lambda d: series(d, noise="N+X"), "noise = 'X'"),
    "metric": (lambda d: series(d, metric="accuracies"), "did you mean 'accuracy'?"),
    "source": (lambda d: series(d, sources=["T"]), "sources = 'T'"),
    "no source": (lambda d: series(d, sources=[]), "no sources"),
    "status": (lambda d: d["experiment"][0].update(status="finished"), "status = 'finished'"),
    "too high": (lambda d: series(d, values=[100.5]), "values = 100.5; it must lie between 0 and 100"),
    "too low": (lambda d: series(d, values=[-1]), "values = -1; it must lie between 0 and 100"),
    "not a number": (lambda d: series(d, values=[float("nan")]), "values = nan; it must be a finite number"),
    "a truth value": (lambda d: series(d, values=[True]), "values = True; it must be a finite number"),
    "too few values": (lambda d: series(d, steps=[1, 2]), "a list of 2 numbers"),
    "a step twice": (lambda d: series(d, steps=[1, 1], values=[1, 2]), "one is given twice"),
    "a step below 0": (lambda d: series(d, steps=[-1]), "step = -1"),
    "steps and step": (lambda d: series(d, step=1), "exactly one of them is needed"),
    "n": (lambda d: series(d, n=0), "n = 0; it must be a whole number of at least 1"),
    "sd of one seed": (lambda d: series(d, sd=[1.0]), "a standard deviation needs seeds of at least 2"),
    "a value twice": (lambda d: d["experiment"][0]["series"].append(dict(d["experiment"][0]["series"][0])), "twice"),
    "an id twice": (lambda d: d["experiment"].append(dict(d["experiment"][0])), "experiment 'on'; the id is given"),
    "an id with @": (lambda d: d["experiment"][0].update(id="a@b"), "no space and no @"),
    "no title": (lambda d: d["experiment"][0].pop("title"), "no title; it is needed"),
    "a claim twice": (lambda d: d["claim"].append(dict(d["claim"][0])), "claim 'K'; the id is given twice"),
    "a fact twice": (lambda d: d["fact"].extend([FACT, dict(FACT)]), "fact 'f'; the id is given twice"),
    "fact: experiment": (lambda d: d["fact"].append({**FACT, "experiments": ["onn"]}), "did you mean 'on'?"),
    "fact: kind": (lambda d: d["fact"].append({**FACT, "kind": "missing"}), "kind = 'missing'"),
    "fact: key": (lambda d: d["fact"].append({**FACT, "factor": "aqn"}), "unknown key 'factor'"),
    "fact: no factor": (lambda d: d["fact"].append({**FACT, "kind": "absent"}), "no factor; it is needed"),
    "claim: key": (lambda d: d["claim"][0].update(verdict="void"), "unknown key 'verdict'"),
    "claim: factor": (lambda d: d["claim"][0].update(factors=["aqnn"]), "did you mean 'aqn'?"),
    "claim: experiment": (lambda d: comparison(d, arm="onn@100"), "unknown experiment 'onn'"),
    "claim: value": (lambda d: comparison(d, arm="on@50"), "no value at on@50; a claim rests on registered values"),
    "claim: place": (lambda d: comparison(d, arm="on"), "it is written EXPERIMENT@STEP"),
    "claim: word": (lambda d: comparison(d, arm="on@100 nativ"), "did you mean 'native'?"),
    "claim: level": (lambda d: comparison(d, arm="on@100 1.5"), "level = 1.5; it must lie between 0 and 1"),
    "claim: direction": (lambda d: comparison(d, direction="up"), "direction = 'up'"),
    "claim: no direction": (lambda d: d["claim"][0]["comparison"][0].pop("direction"), "no direction"),
    "claim: sign": (lambda d: comparison(d, claimed=-5), "its sign contradicts the direction"),
    "claim: kind": (lambda d: comparison(d, kind="ratio"), "kind = 'ratio'"),
    "claim: role": (lambda d: comparison(d, role="check"), "at least one has the role rests_on"),
    "formula": (lambda d: d["claim"][0].update(comparison=[{"kind": "formula", "formula": "x"}]), "formula = 'x'"),
    "formula inputs": (
        lambda d: d["claim"][0].update(
            comparison=[{"kind": "formula", "formula": "window_overlap", "inputs": {"layers": 2}, "claimed": 1}]
        ),
        "takes layers, window, target",
    ),
    "theory": (lambda d: d.update(theory=[{"arm": "E8a", "text": "t", "experiment": "x", "step": 1}]), "'x'"),
    "a table": (lambda d: d.update(fact={"id": "f"}), "it must be [[fact]] tables"),
    "evaluation": (lambda d: d.update(evaluation=[{"experiment": "x", "series": []}]), "unknown experiment 'x'"),
    "nothing": (lambda d: [d.clear()], "it holds no experiments"),
}


@pytest.mark.parametrize("name", list(CASES))
def test_what_does_not_fit_is_one_line(small: dict[str, Any], refusal: Refusal, name: str) -> None:
    spoil, words = CASES[name]
    spoil(small)
    assert words in refusal(build, small)


def test_the_unspoilt_registry_builds(small: dict[str, Any]) -> None:
    assert len(build(small).experiments) == 10


def test_contradictory_values_are_kept(small: dict[str, Any]) -> None:
    small["experiment"][0]["series"].append({"steps": [100], "values": [74.0], "sources": ["S"]})
    assert [value.value for value in build(small).experiments["on"].values] == [75.0, 74.0]


def test_folders_and_files_that_cannot_be_read(tmp_path: Path, refusal: Refusal) -> None:
    assert "no such folder" in refusal(load_registry, tmp_path / "none")
    assert "it holds no .toml file" in refusal(load_registry, tmp_path)
    (tmp_path / "a.toml").write_text("[[experiment]\n")
    assert "it is not valid TOML" in refusal(load_registry, tmp_path)
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
    assert "it is not UTF-8 text" in refusal(load_registry, tmp_path)


def test_a_formula_whose_inputs_do_not_fit_together(small: dict[str, Any], refusal: Refusal, judged: Any) -> None:
    inputs = {"rank": 1, "layers": 1, "inputs": [1, 2], "outputs": [1]}
    small["claim"][0]["comparison"] = [
        {"kind": "formula", "formula": "lora_parameters", "inputs": inputs, "claimed": 1}
    ]
    assert "its inputs do not fit" in refusal(judged, small)
