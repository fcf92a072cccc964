"""What a run is: resumed by other code, with other places, without its control, its records are no evidence."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest

from harness import revision
from harness.evaluate import prepared as prepared_module
from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import NotComparableError
from harness.gates import INVALID, GatePolicy, gate
from harness.record import CERTIFIED
from harness.runs.loaded import load_run
from harness.runs.store import Store
from harness.spec import EvalSpec

pytestmark = pytest.mark.contract
SPEC = EvalSpec("arith", items=3, levels=(0.0, 0.1), noise_seeds=1, max_new_tokens=4)
POLICY = GatePolicy(margin=0.2)


class Stopped(Exception):
    """The run ends here, as by Ctrl-C."""


def started(shipped, out):
    """A run of which the first record is stored."""

    def stop(count):
        if count:
            raise Stopped

    with pytest.raises(Stopped):
        evaluate(prepare(shipped, SPEC, "cpu"), out, 1, stop)
    return out


def records(out):
    with Store.read(out) as store:
        return len(store.results())


def another_version(package):
    def plant(monkeypatch):
        honest = revision.version
        monkeypatch.setattr(revision, "version", lambda name: "0.0.1" if name == package else honest(name))

    return plant


def other_sources(monkeypatch):
    monkeypatch.setattr(revision, "revision", lambda *given: "0" * 16)


def other_instructions(monkeypatch):
    import torch

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")


CODE = {
    "harness": another_version("robustness-harness"),
    "torch": another_version("torch"),
    "transformers": another_version("transformers"),
    "tokenizers": another_version("tokenizers"),
    "sources": other_sources,
    "cpu_capability": other_instructions,
}


@pytest.mark.parametrize("part", CODE)
def test_a_run_is_not_resumed_by_other_code(shipped, tmp_path, monkeypatch, part):
    out = started(shipped, tmp_path / "run")
    CODE[part](monkeypatch)
    with pytest.raises(NotComparableError, match=f"made by other code: .*{part}") as refused:
        evaluate(prepare(shipped, SPEC, "cpu"), out)
    assert refused.value.exit_code == 4
    assert records(out) == 1


def test_mixed_code_that_is_allowed_is_said_in_every_report(shipped, tmp_path, monkeypatch):
    out = started(shipped, tmp_path / "run")
    CODE["torch"](monkeypatch)
    evaluate(prepare(shipped, SPEC, "cpu"), out, mixed_code=True)
    monkeypatch.undo()
    run = load_run(out)
    assert any("mixed code" in note and "torch" in note for note in run.arm.certificate.notes)
    assert any("mixed code" in note for note in gate(run.arm, run.arm, POLICY).notes)


def run_of(shipped, out, spec=SPEC):
    evaluate(prepare(shipped, spec, "cpu"), out)
    return load_run(out)


def test_a_layer_that_is_listed_as_left_out_is_another_coverage(shipped, tmp_path, monkeypatch):
    """22 sites against 29, both with the same noise in their key: each is sound, and they are not compared."""
    whole = run_of(shipped, tmp_path / "whole")
    honest = prepared_module.build_plan

    def without_layer_3(model, spec, *way):
        plan = honest(model, spec, *way)
        dropped = {site.name: "listed as excluded" for site in plan.sites if site.layer == 3}
        sites = tuple(site for site in plan.sites if site.layer != 3)
        return dataclasses.replace(plan, sites=sites, excluded={**plan.excluded, **dropped})

    monkeypatch.setattr(prepared_module, "build_plan", without_layer_3)
    part = run_of(shipped, tmp_path / "part")
    monkeypatch.undo()
    assert [level.sites for level in part.arm.certificate.levels] == [22, 22]
    judged = gate(part.arm, whole.arm, POLICY)
    assert (judged.verdict, judged.exit_code) == (INVALID, 4)
    assert any("coverage" in reason and "22" in reason for level in judged.levels for reason in level.reasons)


def test_most_of_a_model_that_is_not_reached_is_invalid(shipped, tmp_path, monkeypatch):
    """A plan of few sites whose specification names nothing that it leaves out."""
    honest = prepared_module.build_plan

    def queries(model, spec, *way):
        plan = honest(model, spec, *way)
        return dataclasses.replace(plan, sites=tuple(site for site in plan.sites if "q_proj" in site.name))

    monkeypatch.setattr(prepared_module, "build_plan", queries)
    certificate = run_of(shipped, tmp_path / "run").arm.certificate
    assert certificate.status != CERTIFIED
    assert any("% of the floating-point operations" in words for words in certificate.problems)


def test_no_positive_control_is_no_verdict(shipped, tmp_path):
    run = run_of(shipped, tmp_path / "run", replace(SPEC, positive_control=False))
    judged = gate(run.arm, run.arm, POLICY)
    assert (judged.verdict, judged.exit_code) == (INVALID, 4)
    assert any("positive control" in reason for level in judged.levels for reason in level.reasons)


def test_a_policy_without_positive_control_is_said_first(shipped, tmp_path):
    run = run_of(shipped, tmp_path / "run", replace(SPEC, positive_control=False))
    judged = gate(run.arm, run.arm, replace(POLICY, positive_control=False))
    assert any("positive_control = false" in words for words in judged.reasons)
