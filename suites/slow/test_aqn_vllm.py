"""AQN in a real vLLM worker: the targets, draws and dose are those of transformers, and restore is exact."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.aqn.config import AqnConfig
from harness.aqn.digest import digest
from harness.aqn.holder import ModuleHolder
from harness.aqn.schedule import Schedule
from harness.aqn.session import Aqn

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("vllm_here")]
CONFIG = AqnConfig(Schedule(0.05, 0.0005, 29, 10))


@pytest.fixture
def engine(shipped, in_process, monkeypatch):
    from vllm import LLM

    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_PLUGINS", "none_of_these")
    return LLM(
        str(shipped),
        dtype="float32",
        enforce_eager=True,
        max_model_len=256,
        enable_prefix_caching=False,
        worker_extension_cls="harness.aqn.worker.AqnWorker",
    )


def answers(engine):
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0, max_tokens=24)
    prompts = [{"prompt_token_ids": list(range(5, 5 + n))} for n in (4, 9, 14)]
    return [tuple(done.outputs[0].token_ids) for done in engine.generate(prompts, sampling, use_tqdm=False)]


def test_a_worker_gets_the_dose_of_transformers_and_is_clean_afterwards(engine, shipped):
    model = AutoModelForCausalLM.from_pretrained(shipped, dtype=torch.float32)
    aqn = Aqn(ModuleHolder(model), CONFIG)
    (told,) = engine.collective_rpc("aqn_configure", args=(CONFIG.to_json(),))
    assert told["config"] == CONFIG.to_json() and told["effective"] == aqn.effective and len(told["targets"]) == 9
    (clean,) = engine.collective_rpc("aqn_digests")
    before = answers(engine)
    for step in (3, 4, 29):
        (dose,) = engine.collective_rpc("aqn_apply", args=(step,))
        ours = aqn.apply(step)
        assert dose["sigma"] == CONFIG.schedule.sigma(step)
        wanted = {layer.name: layer.achieved for layer in ours.layers}
        assert {layer["name"]: layer["achieved"] for layer in dose["layers"]} == pytest.approx(wanted)
        (noisy,) = engine.collective_rpc("aqn_digests")
        for layer in ours.layers:
            there = noisy[f"{layer.name}.weight"]
            assert there == digest(model.get_submodule(layer.name).weight) != clean[f"{layer.name}.weight"]
    engine.collective_rpc("aqn_apply", args=(3,))
    assert answers(engine) != before, "the noise of step 3 changes an answer"
    (done,) = engine.collective_rpc("aqn_restore")
    assert len(done["restored"]) == 9 and not done["updated"]
    assert engine.collective_rpc("aqn_digests") == [clean] and answers(engine) == before


def test_packed_linears_are_refused(engine):
    from harness.aqn.targets import Targets
    from harness.exceptions import HarnessError

    with pytest.raises(HarnessError, match="packed it"):
        engine.collective_rpc("aqn_configure", args=(AqnConfig(CONFIG.schedule, Targets(("linear",))).to_json(),))
