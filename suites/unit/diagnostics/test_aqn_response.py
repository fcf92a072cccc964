"""The dose response: what is measured, resumed and predicted."""

from __future__ import annotations

import json
import math

import pytest
import torch

from harness.cli.main import main
from harness.diagnostics.aqn_fit import fit_kl
from harness.diagnostics.aqn_response import ResponseSpec, respond
from harness.diagnostics.effect import CleanAnswers, entropy
from harness.exceptions import HarnessError
from harness.spec import EvalSpec

pytestmark = pytest.mark.unit
EVALUATION = EvalSpec("arith", items=3, max_new_tokens=4)


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def test_a_power_law_is_found_and_a_bend_is_not_met():
    sigmas = (0.001, 0.003, 0.01, 0.03, 0.1)
    fit = fit_kl(sigmas, [7 * s**2 for s in sigmas])
    assert fit.holds and fit.fitted == sigmas[::2] and fit.predict(0.02) == pytest.approx(7 * 0.02**2)
    assert [each[0] for each in fit.checked] == [0.003, 0.03]
    bent = fit_kl(sigmas, [1e-6, 1e-6, 1e-6, 1.0, 1.0])
    assert not bent.holds and "does NOT meet" in bent.sentence
    none = fit_kl(sigmas, [0.0] * 5)
    assert not none.holds and none.coefficients == () and none.sentence.startswith("no prediction")


def test_entropy_of_a_uniform_and_a_certain_token():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, -math.inf, -math.inf, -math.inf]])
    assert entropy(logits).tolist() == pytest.approx([math.log(4), 0])


def test_kl_grows_with_sigma_and_the_model_is_clean_afterwards(tiny, tmp_path):
    spec = ResponseSpec(tiny, EVALUATION, (0.01, 0.1), draws=2)
    found = respond(spec, tmp_path / "out")
    assert [(cell.group, cell.sigma) for cell in found.cells] == [
        ("norms", 0.01), ("norms", 0.1), ("linears", 0.01), ("linears", 0.1),
    ]  # fmt: skip
    assert found.items == 3 and found.cells[0].layers == 3 and found.cells[2].layers == 7
    for one, other in (found.cells[:2], found.cells[2:]):
        assert 0 < one.kl.estimate < other.kl.estimate and one.conditional
    assert json.dumps(found.to_json(), allow_nan=False)


def test_a_stopped_response_resumes_to_the_same_numbers(tiny, tmp_path, monkeypatch):
    spec = ResponseSpec(tiny, EVALUATION, (0.01, 0.1), draws=2, groups=("norms",))
    whole = respond(spec)
    calls = []
    under = CleanAnswers.under

    def stopping(self, *given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return under(self, *given)

    monkeypatch.setattr(CleanAnswers, "under", stopping)
    with pytest.raises(KeyboardInterrupt):
        respond(spec, tmp_path / "out")
    assert respond(spec, tmp_path / "out").to_json() == whole.to_json()
    assert len(calls) == 5, "two of four draws were kept"
    monkeypatch.setattr(CleanAnswers, "under", lambda *given: pytest.fail("it is finished"))
    assert respond(spec, tmp_path / "out").to_json() == whole.to_json()
    with pytest.raises(HarnessError):
        respond(ResponseSpec(tiny, EVALUATION, (0.01, 0.2), draws=2, groups=("norms",)), tmp_path / "out")


def test_the_verb_prints_a_table_and_writes_a_plot(tiny, tmp_path, capsys):
    file = tmp_path / "kl.svg"
    given = ("--task", "arith", "--items", 2, "--max-new-tokens", 3, "--sigmas", "0.01,0.03,0.1", "--draws", 1)
    assert run("aqn", "response", tiny, *given, "--groups", "norms", "--plot", file) == 0
    out = capsys.readouterr().out
    assert "prediction of KL for norms: a power law through 2 doses" in out and "conditional on these draws" in out
    assert "stroke-dasharray" in file.read_text()


@pytest.mark.parametrize(
    "more",
    [
        ("--sigmas", "0.1,0.01"),
        ("--sigmas", "0.1"),
        ("--sigmas", "0,0.1"),
        ("--sigmas", "a,b"),
        ("--draws", "0"),
        ("--groups", "norm"),
        ("--plot", "x.png"),
        ("--mode", "percent"),
    ],
)
def test_bad_parameters_are_one_line_and_code_2(tiny, more, capsys):
    given = ("--task", "arith", "--items", 2, "--max-new-tokens", 2, "--sigmas", "0.01,0.1", "--draws", 1)
    assert run("aqn", "response", tiny, *given, *more) == 2
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1].startswith("harness: ") and not captured.out


def test_a_task_that_scores_given_texts_is_refused_before_anything_is_measured(tiny, tmp_path):
    data = tmp_path / "pairs.jsonl"
    data.write_text(json.dumps({"sentence_good": "They go.", "sentence_bad": "They goes."}) + "\n")
    spec = ResponseSpec(tiny, EvalSpec("blimp", str(data), items=1), (0.01, 0.1), draws=1)
    with pytest.raises(HarnessError, match=r"--task blimp scores given texts; .*; --task pairs takes minimal pairs"):
        respond(spec, tmp_path / "out")
    assert not (tmp_path / "out").exists()
