"""fp32: noisy vLLM gives the tokens of noisy transformers, and its own tokens whatever the batch."""

from __future__ import annotations

import random

import pytest

from harness.record import FORWARD
from suites.agreeing import apart
from suites.slow.conftest import answers, batch_of, running, spec_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_process")]
LEVELS = (0.0, 0.05, 0.10)


def test_tokens_and_counts_are_those_of_transformers(shipped):
    given = {}
    for engine_name in ("transformers", "vllm"):
        with running(shipped, spec_of(engine_name, items=64)) as (prepared, engine):
            given[engine_name] = answers(engine, *(batch_of(prepared, level, audited=True) for level in LEVELS))
    (theirs, no_problems, counts), (ours, problems, found) = given["transformers"], given["vllm"]
    assert len(ours) == 64 * len(LEVELS)
    assert ours == theirs
    assert problems == no_problems == []
    assert all(count.direction == FORWARD for count in found)
    assert apart(found, counts) == []
    clean, ten = ({key[0]: tokens for key, tokens in ours.items() if key[1] == level} for level in (0.0, 0.10))
    assert sum(clean[item] != ten[item] for item in clean) > 5  # the noise was there to be agreed upon


@pytest.mark.parametrize(
    ("noise", "quantize", "max_new"),
    [
        ("relative_gaussian @ op:linear,rms_norm,silu,sdpa", None, None),
        ("relative_gaussian @ op:linear layers:1-2", None, 24),
        ("relative_gaussian @ op:linear exclude:q_proj,gate_proj", None, 24),
        ("relative_gaussian @ op:rms_norm,silu layers:1-2", None, 24),
        ("spike @ op:sdpa", None, 24),
        ("relative_gaussian @ op:linear", "weights=mxfp4,activations=mxfp8", None),
        ("relative_gaussian @ op:linear", "weights=nvfp4", 24),
        ("relative_gaussian @ op:linear tokens:first,decode:3-", "activations=mxfp8", 24),
        ("relative_gaussian @ op:linear", "fake_quant(mxfp4) @ op:linear at:weight include:lm_head", 24),
        (
            "relative_gaussian @ op:linear",
            "fake_quant(mxfp8, rounding=stochastic) @ op:linear at:weight;fake_quant(nvfp4) @ op:linear at:input",
            24,
        ),
    ],
)
def test_other_operators_and_quantization_agree(shipped, noise, quantize, max_new):
    given = {}
    for engine_name in ("transformers", "vllm"):
        spec = spec_of(engine_name, noise, quantize, items=16, max_new_tokens=max_new)
        with running(shipped, spec) as (prepared, engine):
            given[engine_name] = answers(engine, *(batch_of(prepared, level) for level in (0.0, 0.10)))
    (theirs, _, counts), (ours, problems, found) = given["transformers"], given["vllm"]
    assert ours == theirs
    assert problems == []
    # transformers books a quantized weight in every forward, vLLM once for every chunk
    assert weights(found) == weights(counts)
    products = ([count for count in given if not count.op.endswith(":weight")] for given in (found, counts))
    assert apart(*products, changed=not quantize and "gaussian" in noise) == []
    if quantize:
        assert any(count.changed for count in found if ":" in count.op)


def weights(counts):
    """Where a weight was quantized."""
    return {(count.level, count.site) for count in counts if count.op.endswith(":weight")}


def test_batched_single_and_shuffled_agree(shipped):
    with running(shipped, spec_of(items=24), batch_size=16) as (prepared, engine):
        together, _, _ = answers(engine, batch_of(prepared, 0.10))
        shuffled = list(prepared.items)
        random.Random(3).shuffle(shuffled)
        mixed, _, _ = answers(engine, batch_of(prepared, 0.10, items=shuffled))
        single = {}
        for item in prepared.items[:8]:
            single |= answers(engine, batch_of(prepared, 0.10, items=[item]))[0]
    assert mixed == together
    assert single == {key: together[key] for key in single}


def test_mixed_levels_and_seeds_equal_separate_runs(shipped):
    with running(shipped, spec_of(items=12, noise_seeds=2)) as (prepared, engine):
        cells = [(0.0, 0), (0.05, 0), (0.05, 1), (0.10, 1)]
        mixed, problems, counts = answers(engine, *(batch_of(prepared, level, seed=seed) for level, seed in cells))
        alone, other_counts = {}, []
        for level, seed in cells:
            found, _, more = answers(engine, batch_of(prepared, level, seed=seed))
            alone |= found
            other_counts += more
    assert mixed == alone
    assert problems == []
    assert apart(counts, other_counts) == []
    assert {key[1:] for key in mixed} == set(cells)
    seeds = [{k[0]: v for k, v in mixed.items() if k[1:] == cell} for cell in ((0.05, 0), (0.05, 1))]
    assert seeds[0] != seeds[1]


def test_requests_that_name_nothing_take_what_was_set_by_rpc(shipped):
    """As a rollout server's do, whose requests come from elsewhere."""
    from vllm import SamplingParams

    from harness.integrations.vllm_plugin.rows import prompt_item

    with running(shipped, spec_of(items=4)) as (prepared, engine):
        prompts = [{"prompt_token_ids": list(prepared.prompts[item.key])} for item in prepared.items]
        plain = SamplingParams(temperature=0.0, max_tokens=24, detokenize=False)
        llm = engine._llm

        def tokens():
            return [list(output.outputs[0].token_ids) for output in llm.generate(prompts, plain, use_tqdm=False)]

        given = []
        for level, seed in ((0.0, 0), (0.2, 0), (0.2, 1), (0.2, 0)):
            llm.collective_rpc("robustness_set", args=(level, seed))
            given.append(tokens())
        (drained,) = llm.collective_rpc("robustness_drain", args=([0.0, 0.2],))
    clean, noisy, other, again = given
    assert noisy == again
    assert len({str(each) for each in (clean, noisy, other)}) == 3
    assert {row[2] for row in drained["counts"]} == {0.0, 0.2}
    assert prompt_item(prompts[0]["prompt_token_ids"]) != prompt_item(prompts[1]["prompt_token_ids"])


@pytest.mark.parametrize(
    ("overrides", "happened"),
    [
        ({"max_num_batched_tokens": 48, "max_num_seqs": 16}, "chunks"),
        ({"num_gpu_blocks_override": 20, "block_size": 32}, "preempted"),
    ],
)
def test_chunked_prefill_and_preemption_keep_tokens_and_counts(shipped, monkeypatch, overrides, happened):
    from harness.integrations.vllm_plugin.session import EngineSession

    seen = {"chunks": 0, "preempted": 0}
    honest = EngineSession.begin

    def watched(self, scheduled, device):
        for name, _, computed, tokens, prompt in scheduled:
            seen["chunks"] += computed < prompt and computed + tokens < prompt
            seen["preempted"] += computed < self._fed.get(name, 0)
        return honest(self, scheduled, device)

    monkeypatch.setattr(EngineSession, "begin", watched)
    with running(shipped, spec_of(items=16), overrides={"max_num_batched_tokens": 8192}) as (prepared, engine):
        wanted, _, counts = answers(engine, batch_of(prepared, 0.05))
    assert seen == {"chunks": 0, "preempted": 0}
    with running(shipped, spec_of(items=16), batch_size=16, overrides=overrides) as (prepared, engine):
        found, problems, others = answers(engine, batch_of(prepared, 0.05))
    assert seen[happened] > 0
    assert found == wanted
    assert problems == []
    assert apart(others, counts) == []


def test_sampled_tokens_are_those_of_transformers_whatever_the_batch(shipped):
    """Also where requests are preempted and begin again: the step of an answer is what vLLM has of it."""
    sampled = {"items": 12, "noise_seeds": 2, "temperature": 1.7, "top_p": 0.95}
    cells = [(0.0, 0), (0.0, 1), (0.10, 1)]
    given = {}
    for name, more in {
        "transformers": {},
        "vllm": {"overrides": {"max_num_batched_tokens": 8192}},
        "preempted": {"batch_size": 16, "overrides": {"num_gpu_blocks_override": 20, "block_size": 32}},
    }.items():
        spec = spec_of("transformers" if name == "transformers" else "vllm", **sampled)
        with running(shipped, spec, **more) as (prepared, engine):
            given[name] = answers(engine, *(batch_of(prepared, level, seed=seed) for level, seed in cells))
    theirs, no_problems, _ = given["transformers"]
    assert len(theirs) == 12 * len(cells)
    assert given["vllm"][0] == theirs == given["preempted"][0]
    assert given["vllm"][1] == no_problems == given["preempted"][1] == []
    draws = [{key[0]: tokens for key, tokens in theirs.items() if key[1:] == cell} for cell in cells]
    assert sum(draws[0][item] != draws[1][item] for item in draws[0]) > 2  # there was something to agree upon
