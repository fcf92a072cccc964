"""Minimal pairs under AQN: what is read, what counts as right, and that padding and batches change nothing."""

from __future__ import annotations

import contextlib
import json

import pytest
import torch

from harness.cli.main import main
from harness.diagnostics import aqn_pairs
from harness.diagnostics.aqn_pairs import PairProbe, read_pairs
from harness.diagnostics.aqn_response import ResponseSpec, respond
from harness.evaluate.checkpoint import load_checkpoint
from harness.exceptions import HarnessError
from harness.spec import EvalSpec

pytestmark = pytest.mark.unit
PAIRS = [("The cats sleep.", "The cats sleeps."), ("Who left?", "Whom left now, then?"), ("a b", "b a")]


@pytest.fixture
def file(tmp_path):
    found = tmp_path / "pairs.jsonl"
    rows = [{"sentence_good": good, "sentence_bad": bad, "UID": "x"} for good, bad in PAIRS]
    found.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return found


def reference(checkpoint, sentence):
    tokens = [checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("#", sentence)]
    ids = torch.tensor([tokens[0] + tokens[1]])
    with torch.inference_mode():
        logits = checkpoint.model(ids).logits[0, len(tokens[0]) - 1 : -1].double().log_softmax(-1)
    return logits.gather(1, torch.tensor(tokens[1])[:, None]).sum()


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_the_good_sentence_has_to_be_likelier(tiny, file, batch_size, monkeypatch):
    checkpoint, pairs = load_checkpoint(tiny), read_pairs(file)
    probe = PairProbe(checkpoint, pairs, "#", batch_size)
    clean = probe.clean(lambda count: None)
    assert clean.right == [int(reference(checkpoint, p.question) > reference(checkpoint, p.reference)) for p in pairs]
    assert clean.tokens == sum(len(checkpoint.tokenizer(good)["input_ids"]) for good, _ in PAIRS)
    same = probe.under(contextlib.nullcontext, lambda count: None)
    assert same.right == clean.right and same.kl == pytest.approx([0] * 3, abs=1e-12)
    assert same.entropy == pytest.approx(clean.entropy)
    monkeypatch.setattr(aqn_pairs, "KEPT_BYTES", 0)
    again = PairProbe(checkpoint, pairs, "#", batch_size)
    again.clean(lambda count: None)
    assert again.under(contextlib.nullcontext, lambda count: None) == same


def test_a_response_on_pairs(tiny, file, tmp_path):
    spec = ResponseSpec(tiny, EvalSpec("pairs", data=str(file), items=3), (0.01, 0.1), draws=2, prefix="#")
    found = respond(spec, tmp_path / "out")
    assert found.items == 3 and 0 < found.cells[0].kl.estimate < found.cells[1].kl.estimate
    assert respond(spec, tmp_path / "out").to_json() == found.to_json()


@pytest.mark.parametrize(
    "line",
    [
        '{"sentence_good": "a"}',
        '{"sentence_good": "", "sentence_bad": "b"}',
        '{"sentence_good": 1, "sentence_bad": "b"}',
        '{"sentence_good": "a", "sentence_bad": "a"}',
        "not json",
    ],
)
def test_lines_that_are_no_pairs_are_refused(line, tmp_path):
    (tmp_path / "x.jsonl").write_text(line + "\n")
    with pytest.raises(HarnessError, match=r"x\.jsonl"):
        read_pairs(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    "more", [("--task", "pairs"), ("--task", "arith", "--prefix", "#"), ("--task", "pairs", "--data", "absent.jsonl")]
)
def test_bad_parameters_are_code_2(tiny, more, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["aqn", "response", str(tiny), "--sigmas", "0.01,0.1", "--items", "2", *more])
    assert ended.value.code == 2 and capsys.readouterr().err.strip().splitlines()[-1].startswith("harness: ")
