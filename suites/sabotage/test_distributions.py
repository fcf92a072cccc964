"""A reference of distributions from a run to a verdict, and ways to falsify it on the way."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.cli.main import main
from harness.distributions import TOP
from harness.engines import likelihood
from harness.evaluate.api import evaluate
from harness.evaluate.tasks.answers import AnswersTask, distributions_of, tokens_of
from harness.exceptions import HarnessError, NotComparableError, StoreError
from harness.gates.divergence import DivergencePolicy
from harness.gates.verdicts import FAIL, INCONCLUSIVE, INVALID
from harness.library.divergence import Candidate, Size, diverge, measured, record
from harness.noise.session import NoiseSession
from harness.record import CERTIFIED
from harness.runs.loaded import load_run
from harness.spec import EvalSpec, parse_quantization

pytestmark = pytest.mark.contract
SPEC = EvalSpec("arith", items=10, levels=(0.0, 0.05), noise_seeds=1, max_new_tokens=8)
SIZE = Size(items=8, tokens=6)
VOCABULARY = 260
WIDE, NARROW = DivergencePolicy(5.0), DivergencePolicy(1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distributions")


@pytest.fixture(scope="module")
def source(two_layers, folder):
    """A finished run that generated its answers."""
    return evaluate(two_layers, SPEC, folder / "source", device="cpu").path


@pytest.fixture(scope="module")
def reference(source, folder):
    """What was recorded of it."""
    run = record(source, folder / "reference", SIZE, device="cpu")
    assert run.arm.certificate.status == CERTIFIED
    return run.path


@pytest.fixture(scope="module")
def changed(two_layers, folder):
    """The same checkpoint with one layer's weights 3 % off."""
    path = folder / "changed"
    shutil.copytree(two_layers, path)
    weights = load_file(path / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.weight"] *= 1.03
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return path


def judged(target, reference, policy, out, **changes):
    return diverge(target, reference, policy, Candidate(out=out, device="cpu", **changes))


def reasons(found):
    return " ".join(reason for level in found.result.levels for reason in level.reasons)


def test_a_checkpoint_does_not_diverge_from_its_own_run(two_layers, reference, tmp_path):
    found = judged(two_layers, reference, NARROW, tmp_path / "run")
    assert [level.divergence.estimate for level in found.result.levels] == pytest.approx([0, 0], abs=1e-9)
    assert found.result.verdict == INCONCLUSIVE, "8 items may not pass"
    assert [level.tokens for level in found.result.levels] == [48, 48]
    again = diverge(tmp_path / "run", reference, NARROW)
    assert again.to_json() == found.to_json()


def test_a_changed_checkpoint_diverges_at_every_level(changed, reference, tmp_path):
    found = judged(changed, reference, NARROW, tmp_path / "run")
    assert (found.result.verdict, found.exit_code) == (FAIL, 1)
    assert all(level.divergence.estimate > 1e-5 for level in found.result.levels)


def test_draws_of_noise_are_the_same_on_both_sides(two_layers, reference, tmp_path, monkeypatch):
    """With other draws the same checkpoint would lie apart under noise."""
    honest = NoiseSession.batch
    monkeypatch.setattr(
        NoiseSession,
        "batch",
        lambda self, items, seeds, *rest: honest(self, items, [seed + 1 for seed in seeds], *rest),
    )
    found = judged(two_layers, reference, NARROW, tmp_path / "run")
    assert (found.result.verdict, found.exit_code) == (INVALID, 4)


def test_what_is_scored_is_what_was_answered(source, reference):
    run, clean = load_run(reference), {r.item: r for r in load_run(source).results if not r.level}
    task = AnswersTask(reference)
    for item in task.items():
        tokens = tokens_of(item.reference)
        assert tokens.continuation == clean[item.key].tokens, "cut answers have no end"
        assert len(tokens.context) == clean[item.key].prompt_tokens
        assert len(task.kept(item.key, 0.0, 0).places) == 6
    chosen = {task.kept(item.key, 0.0, 0).places for item in task.items()}
    assert len(chosen) > 1, "places are drawn for each item"
    assert any(7 in places for places in chosen), "also the last ones"
    # the clean answers were decoded greedily, so that their tokens are the most probable ones
    assert all(result.score == 1 for result in run.results if not result.level)
    found = distributions_of(run)
    for result in run.results:
        if not result.level:
            kept = found[result.item, 0.0, 0]
            assert kept.best.tolist() == [result.tokens[place] for place in kept.at]


def test_as_many_tokens_are_kept_as_are_asked_for(source, reference, two_layers, tmp_path):
    """Of a whole vocabulary nothing is left out, on both sides."""
    few, rows = load_run(reference), [json.loads(line) for line in answers_of(reference)]
    assert not any("top" in row for row in rows), "the default is not written, so that older references stay the same"
    assert {found.ids.shape for found in distributions_of(few).values()} == {(6, TOP)}
    whole = record(source, tmp_path / "whole", Size(items=2, tokens=2, top=1000), device="cpu")
    kept = distributions_of(whole)
    assert {found.ids.shape for found in kept.values()} == {(2, VOCABULARY)}
    found = judged(two_layers, whole.path, NARROW, tmp_path / "run")
    assert [level.short for level in found.result.levels] == [0, 0]
    assert {each.ids.shape for each in distributions_of(found.run).values()} == {(2, VOCABULARY)}


def answers_of(reference):
    return reference.with_name(f"{reference.name}.answers.jsonl").read_text(encoding="utf-8").splitlines()


def test_quantization_has_to_be_what_is_compared(two_layers, reference, tmp_path):
    quantized = {"quantization": parse_quantization("weights=mxfp4")}
    found = judged(two_layers, reference, NARROW, tmp_path / "run", **quantized)
    assert found.result.verdict == INVALID
    assert "measurement keys differ in quantization" in reasons(found)
    across = replace(NARROW, across="quantization")
    assert diverge(tmp_path / "run", reference, across).result.verdict == FAIL


def louder(logprobs, kept):
    """Kept log-probabilities that no model gave, though their masses are 1 together."""
    return honest_distribution(torch.log_softmax(logprobs * 1.05, -1), kept)


def quieter_candidate(logprobs, kept):
    """Where a reference is kept again, a blend that lies nearer to being flat."""
    return honest_distribution(logprobs if kept.ids is None else torch.log_softmax(logprobs * 0.9, -1), kept)


honest_distribution = likelihood.distribution_of


@pytest.mark.parametrize("sabotage", [louder, quieter_candidate], ids=lambda each: each.__name__)
def test_distributions_that_the_model_did_not_give_are_invalid(two_layers, reference, tmp_path, monkeypatch, sabotage):
    monkeypatch.setattr(likelihood, "distribution_of", sabotage)
    found = judged(two_layers, reference, WIDE, tmp_path / "run")
    assert found.result.verdict == INVALID
    assert "replay: item" in reasons(found)


def test_a_candidate_without_noise_is_invalid(two_layers, reference, tmp_path, monkeypatch):
    honest = NoiseSession.batch
    monkeypatch.setattr(
        NoiseSession, "batch", lambda self, items, seeds, scale, *rest: honest(self, items, seeds, 0.0, *rest)
    )
    found = judged(two_layers, reference, WIDE, tmp_path / "run")
    assert [level.verdict for level in found.result.levels][1] == INVALID


def test_an_edited_reference_is_no_reference(reference, tmp_path):
    edited = tmp_path / "edited"
    shutil.copytree(reference, edited)
    with sqlite3.connect(edited / "records.sqlite") as connection:
        connection.execute("UPDATE records SET text = replace(text, 'true', 'false')")
    with pytest.raises(StoreError):
        measured(load_run(edited))


def test_what_is_no_source_or_no_reference_is_refused(source, reference, tmp_path, two_layers):
    with pytest.raises(HarnessError, match="it scored given texts and generated no answers"):
        record(reference, tmp_path / "again", SIZE)
    with pytest.raises(HarnessError, match="a run of the task arith keeps no distributions"):
        diverge(two_layers, source, WIDE)
    with pytest.raises(NotComparableError, match="a run of the task arith keeps no distributions"):
        diverge(source, reference, WIDE)
    with pytest.raises(HarnessError, match="--items 11; the run has 10 items"):
        record(source, tmp_path / "more", Size(items=11))
    with pytest.raises(HarnessError, match="--tokens 0"):
        Size(tokens=0)
    with pytest.raises(HarnessError, match="--task answers without --data"):
        AnswersTask().items()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"context": []}, "line 1: context is []; it must be a list of token ids, at least one"),
        ({"answer": [1, -2]}, "line 1: answer is"),
        ({"item": 3}, "line 1: item is 3; it must be text"),
        ({"cluster": 3}, "line 1: cluster is 3; it must be text"),
        ({"top": 0}, "line 1: top is 0; it must be a whole number, 1 or more"),
        ({"top": True}, "line 1: top is True"),
        ({"places": [1]}, "line 1: places are [1]; they must be ascending numbers from 0 to 0, at least one"),
    ],
)
def test_rows_of_answers_that_are_none_name_their_line(tmp_path, changes, words):
    path = tmp_path / "answers.jsonl"
    row = {"item": "a", "question": "q", "context": [1], "answer": [2]}
    path.write_text(json.dumps({**row, **changes}) + "\n")
    with pytest.raises(HarnessError) as error:
        AnswersTask(path).items()
    assert words in str(error.value)
    path.write_text(2 * (json.dumps(row) + "\n"))
    with pytest.raises(HarnessError, match="item a has two answers"):
        AnswersTask(path).items()


def test_the_command_line_says_the_same(reference, two_layers, tmp_path, capsys):
    words = ["divergence", "gate", str(two_layers), "--reference", str(reference), "--kl-margin", "0.1"]
    with pytest.raises(SystemExit) as left:
        main([*words, "--out", str(tmp_path / "run"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (left.value.code, found["verdict"], found["margin"]) == (3, INCONCLUSIVE, 0.1)
    with pytest.raises(SystemExit):
        main(["divergence", "gate", str(tmp_path / "run"), *words[3:]])
    shown = capsys.readouterr().out
    assert "same top token %" in shown
    assert "verdict: INCONCLUSIVE" in shown
