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


PROMPTS = [list(range(5, 5 + n)) for n in (4, 9, 14)]


def answers(engine):
    """The tokens of each greedy answer, and their log-probabilities."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0, max_tokens=24, logprobs=1)
    done = engine.generate([{"prompt_token_ids": prompt} for prompt in PROMPTS], sampling, use_tqdm=False)
    outputs = [each.outputs[0] for each in done]
    return [
        (
            tuple(output.token_ids),
            [step[token].logprob for step, token in zip(output.logprobs, output.token_ids, strict=True)],
        )
        for output in outputs
    ]


@torch.inference_mode()
def logprobs_of(model, prompt, answer):
    """What ``model`` of transformers gives the tokens of ``answer`` to ``prompt``."""
    logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0].tolist()


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
    aqn.apply(3)
    for prompt, (tokens, found), (_, clean_found) in zip(PROMPTS, answers(engine), before, strict=True):
        # greedy tokens may survive sigma 0.05: what they are given has to move, and as far as in transformers
        assert found == pytest.approx(logprobs_of(model, prompt, tokens), abs=1e-4)
        assert max(abs(one - other) for one, other in zip(found, clean_found, strict=True)) > 1e-3
    (done,) = engine.collective_rpc("aqn_restore")
    assert len(done["restored"]) == 9 and not done["updated"]
    assert engine.collective_rpc("aqn_digests") == [clean] and answers(engine) == before


def test_packed_linears_are_refused(engine):
    from harness.aqn.targets import Targets
    from harness.exceptions import HarnessError

    with pytest.raises(HarnessError, match="packed it"):
        engine.collective_rpc("aqn_configure", args=(AqnConfig(CONFIG.schedule, Targets(("linear",))).to_json(),))
