"""W4A16, W16A4 and W4A4 evaluations of the lower half of the shipped checkpoint: certified, exact, not to be fooled."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.gates import GatePolicy, gate
from harness.noise import kernel
from harness.noise.injector import Injector
from harness.noise.ways import modules, weights
from harness.numerics import fake_quantize
from harness.record import CERTIFIED, INVALID_EVIDENCE
from harness.runs.loaded import load_run
from harness.spec import EvalSpec, parse_quantization

pytestmark = pytest.mark.contract
SPEC = EvalSpec("arith", items=4, levels=(0.0, 0.05), noise_seeds=1, max_new_tokens=6, positive_control=False)
CASES = {
    "W4A16": "weights=mxfp4",
    "W16A4": "activations=nvfp4",
    "W4A4": "weights=nvfp4,activations=mxfp4:even",
    "stochastic": "fake_quant(mxfp4, rounding=stochastic) @ op:linear at:weight;"
    "fake_quant(mxfp8, rounding=stochastic) @ op:linear at:input",
    "tiles": "fake_quant(mxfp4_32x32) @ op:linear at:weight layers:1",
}


def quantizing(text, path):
    return prepare(path, replace(SPEC, quantization=parse_quantization(text)), "cpu")


def stored(prepared, out, batch_size=64):
    evaluate(prepared, out, batch_size)
    return load_run(out)


def problems(run):
    return [words for level in run.arm.certificate.levels for words in level.problems]


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_a_quantized_run_is_certified_whatever_the_batch(text, two_layers, tmp_path):
    prepared = quantizing(text, two_layers)
    run = stored(prepared, tmp_path / "whole")
    assert problems(run) == [] and run.arm.certificate.status == CERTIFIED
    for level in run.arm.certificate.levels:
        assert len(level.quantization) == len(prepared.quantizers)
    in_twos = stored(prepared, tmp_path / "twos", 2)
    assert in_twos.arm.certificate.status == CERTIFIED
    assert [r.tokens for r in in_twos.results] == [r.tokens for r in run.results]


def test_quantized_weights_give_what_a_quantized_checkpoint_gives(two_layers, tmp_path):
    copied = tmp_path / "quantized"
    shutil.copytree(two_layers, copied)
    prepared = quantizing("weights=mxfp4", two_layers)
    tensors = load_file(copied / "model.safetensors")
    for site in prepared.quantizers[0].sites:
        name = f"{site.module}.weight"
        wide = tensors[name].float()
        tensors[name] = fake_quantize(wide, "mxfp4").to(tensors[name].dtype)
        assert torch.equal(tensors[name].float(), fake_quantize(wide, "mxfp4"))  # exact in the stored dtype
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    shown, written = stored(prepared, tmp_path / "a"), stored(prepare(copied, SPEC, "cpu"), tmp_path / "b")
    assert [r.tokens for r in shown.results] == [r.tokens for r in written.results]

    again = stored(quantizing("weights=mxfp4", copied), tmp_path / "c")
    assert again.arm.certificate.status == INVALID_EVIDENCE
    assert all("lie on its grid" in words or "was quantized" in words for words in problems(again))


def skipped_weight(monkeypatch):
    honest = weights._before

    def skip(site, session):
        return (lambda *_: None) if "layers.1.mlp.up_proj" in site.name else honest(site, session)

    monkeypatch.setattr(weights, "_before", skip)


def skipped_input(monkeypatch):
    honest = modules._before

    def skip(site, session, fields):
        last = "layers.1.mlp.up_proj" in site.name
        return (lambda module, args, kwargs: (args, kwargs)) if last else honest(site, session, fields)

    monkeypatch.setattr(modules, "_before", skip)


def counted_but_not_used(monkeypatch):
    honest = Injector.inject

    def pretend(self, site, part, y, frame):
        after = honest(self, site, part, y, frame)
        return y if "layers.1.mlp.up_proj:" in site.name else after

    monkeypatch.setattr(Injector, "inject", pretend)


def another_format(monkeypatch):
    honest = kernel.quantized

    def other(x, recipe, *rest):
        return honest(x, type(recipe).of("mxfp4", "even"), *rest)

    monkeypatch.setattr(kernel, "quantized", other)


@pytest.mark.parametrize(
    ("text", "sabotage", "words"),
    [
        ("weights=mxfp4", skipped_weight, "up_proj:weight quantized 0 elements"),
        ("activations=mxfp4", skipped_input, "up_proj:input quantized 0 elements"),
        (
            "weights=mxfp4",
            counted_but_not_used,
            "elements that fake_quant(format=mxfp4, scale_rule=floor) does not give",
        ),
        ("activations=mxfp4", counted_but_not_used, "elements that fake_quant"),
        ("weights=mxfp4", another_format, "elements that fake_quant(format=mxfp4, scale_rule=floor) does not give"),
    ],
    ids=["weight", "input", "unused weight", "unused input", "format"],
)
def test_quantization_that_is_lost_is_invalid_and_named(text, sabotage, words, two_layers, tmp_path, monkeypatch):
    prepared = quantizing(text, two_layers)
    sabotage(monkeypatch)
    run = stored(prepared, tmp_path / "run")
    assert run.arm.certificate.status == INVALID_EVIDENCE
    assert any(words in problem for problem in problems(run)), problems(run)


def test_quantized_and_not_are_compared_only_along_the_declared_axis(two_layers, tmp_path):
    plain = stored(prepare(two_layers, SPEC, "cpu"), tmp_path / "plain")
    run = stored(quantizing("weights=int4_g128", two_layers), tmp_path / "quantized")
    refused = gate(run.arm, plain.arm, GatePolicy(margin=0.5))
    assert refused.exit_code == 4 and "measurement keys differ in quantization" in refused.reasons[0]
    allowed = gate(run.arm, plain.arm, GatePolicy(margin=0.5, floor=0.0, across="quantization"))
    assert any(reason.startswith("across quantization: candidate") for reason in allowed.reasons)
    assert not any("measurement keys" in reason for reason in allowed.reasons)


def test_a_stopped_run_resumes_and_another_quantization_is_another_run(two_layers, tmp_path):
    prepared = quantizing("weights=mxfp4", two_layers)
    calls = []

    def stop(count):
        calls.append(count)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(prepared, tmp_path / "run", 2, stop)
    whole = stored(prepared, tmp_path / "run", 2)
    assert whole.arm.certificate.status == CERTIFIED and whole.complete
    with pytest.raises(Exception, match="belongs to another evaluation: quantization"):
        evaluate(quantizing("weights=nvfp4", two_layers), tmp_path / "run", 2)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["measurement_key"]["quantization"].startswith("fake_quant(format=mxfp4, scale_rule=floor)")
