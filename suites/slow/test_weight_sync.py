"""Weights that are loaded anew into a running vLLM, as a trainer does: quantized anew everywhere, and counted anew."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.checkpoints.outline import build_outline
from harness.integrations.vllm_plugin.payload import KEY, METHOD, Payload
from harness.integrations.vllm_plugin.worker import counts_of
from harness.noise.planner import build_plan
from harness.numerics import fake_quantize
from harness.spec import parse_noise
from harness.training.injection import QuantizationPart
from harness.training.verl_plugin.obstacles import weights_stay_loadable
from harness.training.verl_plugin.plans import SILENT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_here")]
FORMAT = "mxfp4"
PART = QuantizationPart(weights=FORMAT, head=True)


@pytest.fixture
def engine(shipped, in_process, monkeypatch):
    from vllm import LLM
    from vllm.model_executor.layers import utils

    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setattr(utils, "dispatch_cpu_unquantized_gemm", utils.dispatch_cpu_unquantized_gemm)
    weights_stay_loadable()
    outline = build_outline(shipped)
    quantizers = tuple(build_plan(outline, spec) for spec in PART.specs())
    payload = Payload.of(outline, build_plan(outline, parse_noise(SILENT)), quantizers, "a test")
    return LLM(
        str(shipped),
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        enable_prefix_caching=False,
        async_scheduling=False,
        quantization=METHOD,
        additional_config={KEY: payload.to_json()},
        worker_extension_cls="harness.integrations.vllm_plugin.worker.RobustnessWorker",
    )


def loaded(worker, weights, processed=True):
    """What verl does with the weights of a step."""
    from vllm.model_executor.model_loader.utils import process_weights_after_loading

    runner = worker.model_runner
    worker.robustness_reload()
    runner.model.load_weights(weights.items())
    if processed:
        process_weights_after_loading(runner.model, runner.vllm_config.model_config, torch.device("cpu"))


def weights_in(worker):
    """The head, and the fused input of attention of the first layer."""
    named = dict(worker.model_runner.model.named_modules())
    head, fused = named["lm_head"].weight, named["model.layers.0.self_attn.qkv_proj"].weight
    return head.detach().clone(), fused.detach().clone()


def quantized_sites(engine):
    """(site, calls) of the weights that were quantized, by the counts of the only worker."""
    (report,) = engine.collective_rpc("robustness_drain", args=([0.0],))
    return sorted((count.site, count.calls) for count in counts_of(report["counts"]) if count.op == "linear:weight")


def test_every_sync_is_quantized_anew_with_the_head_and_what_is_not_is_missing(engine, shipped):
    engine.collective_rpc("robustness_attach")
    state = AutoModelForCausalLM.from_pretrained(shipped, dtype=torch.float32).state_dict()
    first = quantized_sites(engine)
    assert len(first) == 29 and {calls for _, calls in first} == {1}
    vocabulary = state["lm_head.weight"].shape[0]
    for factor in (0.7, 1.3):
        # a power of two would only move the scales
        given = {name: value * factor if value.ndim == 2 else value for name, value in state.items()}
        engine.collective_rpc(loaded, args=(given,))
        ((head, fused),) = engine.collective_rpc(weights_in)
        assert torch.equal(head[:vocabulary], fake_quantize(given["lm_head.weight"], FORMAT))
        parts = [given[f"model.layers.0.self_attn.{name}_proj.weight"] for name in "qkv"]
        assert torch.equal(fused, torch.cat([fake_quantize(part, FORMAT) for part in parts]))
        assert quantized_sites(engine) == first
    engine.collective_rpc(loaded, args=(given, False))
    assert quantized_sites(engine) == []
