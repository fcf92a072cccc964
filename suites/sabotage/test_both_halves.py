"""Answers and distributions of one checkpoint under one policy, and ways to pass on the half that is there."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.cli.main import main
from harness.evaluate.api import evaluate
from harness.library.divergence import Candidate, Size, evaluated, record
from harness.runs.loaded import load_run
from harness.spec import EvalSpec

pytestmark = pytest.mark.contract
LEVELS = (0.0, 0.05)
RULES = ("--margin", "0.2", "--kl-margin", "0.02")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("both")


@pytest.fixture(scope="module")
def source(shipped, folder):
    """A finished run of the shipped checkpoint, accepted as a baseline, and what was recorded of it beside that."""
    run = evaluate(shipped, EvalSpec("arith", items=60, levels=LEVELS, noise_seeds=1), folder / "source", device="cpu")
    record(run.path, folder / "books" / "arith" / "one.divergences", Size(60, 4), device="cpu")
    accepted = ("--name", "arith/one", "--reason", "a test", "--baselines-dir", folder / "books")
    with pytest.raises(SystemExit) as left:
        main(["baseline", "accept", *map(str, (run.path, *accepted))])
    assert not left.value.code
    return run.path


@pytest.fixture(scope="module")
def reference(source, folder):
    return folder / "books" / "arith" / "one.divergences"


@pytest.fixture(scope="module")
def damaged(shipped, folder):
    """A copy whose weights carry 25 % relative Gaussian damage."""
    path = folder / "damaged"
    shutil.copytree(shipped, path)
    generator = torch.Generator().manual_seed(1)
    weights = load_file(path / "model.safetensors")
    hurt = {name: w * (1 + 0.25 * torch.randn(w.shape, generator=generator)) for name, w in weights.items()}
    save_file(hurt, path / "model.safetensors", metadata={"format": "pt"})
    return path


@pytest.fixture
def run(source, tmp_path):
    """A copy of the run of answers, without distributions beside it."""
    return shutil.copytree(source, tmp_path / "run")


@pytest.fixture
def gate(folder, capsys):
    def call(target, *given, json_too=True):
        capsys.readouterr()
        words = ["gate", target, "--baseline", "arith/one", "--baselines-dir", folder / "books", *given]
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in (*words, *["--json"] * json_too)])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), json.loads(out) if json_too and out else out, err

    return call


def beside(run):
    return run.with_name(f"{run.name}.divergences")


def test_both_halves_pass_and_every_report_says_so(gate, run, reference):
    shutil.copytree(reference, beside(run))  # a run of the same checkpoint on the same answers
    code, found, err = gate(run, *RULES)
    assert (code, found["verdict"], err) == (0, "PASS", "")
    assert found["halves"] == {"answers": "PASS", "distributions": "PASS"}
    assert [level["items"] for level in found["divergence"]["levels"]] == [60, 60]
    said = "over answers and distributions PASS, decided by both halves"
    code, shown, _ = gate(run, *RULES, "--from-records", json_too=False)
    assert code == 0 and "the stored verdict, byte for byte" in shown
    stored = json.loads((run / "report.json").read_text())["gate"]
    assert stored == {name: value for name, value in found.items() if name not in ("attempts", "repeated")}
    for text in (shown, (run / "report.md").read_text()):
        assert said in " ".join(text.split())
        assert "Distributions against" in text
    # a margin that is tried anew is counted as one
    assert "2 with other margins" in gate(run, "--margin", "0.2", "--kl-margin", "0.03")[1]["attempts"]


def test_a_half_that_is_missing_is_no_pass(gate, run, reference, folder, tmp_path):
    code, found, err = gate(run, *RULES)
    assert (code, found["verdict"]) == (4, "INVALID")
    assert "has no distributions beside it" in err and "half of the evidence is no evidence" in err
    assert not (run / "verdicts").exists()
    code, _, err = gate(run, *RULES, "--divergences", tmp_path / "nowhere")
    assert code == 2 and "it needs a reference of distributions" in err and "harness divergence record RUN" in err
    code, _, err = gate(run, *RULES, "--divergences", run)
    assert code == 2 and "a run of the task arith keeps no distributions" in err
    code, _, err = gate(run, "--divergences", reference)
    assert code == 2 and "nothing would read it" in err


def test_distributions_of_another_checkpoint_are_invalid(gate, run, reference, damaged, folder):
    evaluated(damaged, load_run(reference), Candidate(out=beside(run), device="cpu"))
    code, found, _ = gate(run, *RULES)
    assert (code, found["verdict"], found["halves"]["answers"]) == (4, "INVALID", "PASS")
    reasons = " ".join(reason for level in found["divergence"]["levels"] for reason in level["reasons"])
    assert "candidate: its answers and its distributions are not known to be of one checkpoint (weights" in reasons


def test_a_reference_of_another_checkpoint_is_invalid(gate, run, reference, damaged, tmp_path):
    """Held against itself everything would PASS."""
    other = evaluated(damaged, load_run(reference), Candidate(out=tmp_path / "other", device="cpu")).path
    shutil.copytree(other, beside(run))
    code, found, _ = gate(run, *RULES, "--divergences", other)
    reasons = " ".join(reason for level in found["divergence"]["levels"] for reason in level["reasons"])
    assert (code, found["verdict"]) == (4, "INVALID")
    assert "baseline: its answers and its distributions are not known to be of one checkpoint" in reasons


def test_a_reference_of_other_texts_is_invalid(gate, run, reference, shipped, tmp_path):
    """Answers that any checkpoint finds easy, under the names of the baseline's items."""
    rows = [json.loads(line) for line in reference.with_name("one.divergences.answers.jsonl").read_text().splitlines()]
    made = [{**row, "answer": row["answer"][:1] * 2, "places": [0, 1]} for row in rows]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in made))
    spec = EvalSpec("answers", str(file), None, levels=LEVELS, noise_seeds=1)
    other = evaluate(shipped, spec, tmp_path / "other", device="cpu").path
    shutil.copytree(other, beside(run))
    code, found, _ = gate(run, *RULES, "--divergences", other)
    assert (code, found["verdict"], found["halves"]["answers"]) == (4, "INVALID", "PASS")
    reasons = " ".join(reason for level in found["divergence"]["levels"] for reason in level["reasons"])
    assert "the reference is not of the baseline's answers: 60 of 60 differ" in reasons


def test_distributions_that_fail_early_spare_the_answers(gate, reference, damaged, tmp_path):
    out = tmp_path / "run"
    code, found, _ = gate(damaged, *RULES, "--early-stop", "0.5", "--out", out, "--device", "cpu")
    assert (code, found["verdict"], found["levels"]) == (1, "FAIL", [])
    assert found["halves"] == {"answers": "not run", "distributions": "FAIL"}
    assert not out.exists(), "no answer was generated"
    text = (beside(out) / "report.md").read_text()
    assert "decided by the distributions (answers not run, distributions FAIL)" in " ".join(text.split())
    again = gate(damaged, *RULES, "--early-stop", "0.5", "--out", out, "--device", "cpu")[1]
    assert again["repeated"] is True
    assert {**again, "repeated": 0, "attempts": 0} == {**found, "repeated": 0, "attempts": 0}


def test_a_baseline_is_listed_without_what_lies_beside_it(source, folder, capsys):
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["baseline", "list", "--baselines-dir", str(folder / "books"), "--json"])
    assert "divergences" not in capsys.readouterr().out
