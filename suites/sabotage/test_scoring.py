"""Ways to lose the noise, or to score something else, where continuations are scored: each makes the run INVALID."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch

from harness.engines import auditing, likelihood
from harness.engines.generation import Forced
from harness.engines.transformers import TransformersEngine
from harness.evaluate import replaying, scoring
from harness.evaluate import run as run_module
from harness.evaluate.prepared import prepare
from harness.evaluate.run import evaluate
from harness.exceptions import HarnessError
from harness.gates import INVALID, PASS, GatePolicy, gate
from harness.noise.frames import Rows
from harness.noise.session import NoiseSession
from harness.record import CERTIFIED, INVALID_EVIDENCE
from harness.runs.evidence import Fed
from harness.runs.loaded import load_run
from harness.spec import EvalSpec, parse_noise, parse_quantization

pytestmark = pytest.mark.contract
ANY_ANSWER = GatePolicy(margin=0.4, floor=0.0)
ROWS = [
    {"question": f"What is {n} plus {n}?", "choices": [str(2 * n), str(2 * n + 1), "none of them"], "answer": n % 3}
    for n in range(12)
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "choice.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture(scope="module")
def asked(two_layers, data):
    """12 items of three choices on two layers of the shipped checkpoint, at 0 and 5 %."""
    spec = EvalSpec("choice", data=str(data), items=12, levels=(0.0, 0.05), noise_seeds=1)
    return prepare(two_layers, spec, "cpu")


@pytest.fixture
def evaluated(asked, tmp_path):
    """Evaluates it as it stands and returns the stored run."""

    def run(prepared=None, batch_size=4):
        out = tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        evaluate(prepared or asked, out, batch_size)
        return load_run(out)

    return run


def problems(run):
    certificate = run.arm.certificate
    return [*certificate.problems, *(words for level in certificate.levels for words in level.problems)]


def test_an_honest_run_is_certified(evaluated, asked):
    run = evaluated()
    assert problems(run) == []
    assert run.arm.certificate.status == CERTIFIED
    assert gate(run.arm, run.arm, ANY_ANSWER).verdict == PASS
    for result in run.results:
        own = asked.requests[result.item]
        assert result.fed == sum(len(each.fed) for each in own) == result.head_rows
        assert result.seen == sum(len(each.fed) * (len(each.fed) + 1) // 2 for each in own)


def test_other_noise_than_on_linears_is_certified(evaluated, asked, two_layers):
    for noise in ("relative_gaussian @ profile:matmul", "relative_gaussian @ op:linear key:shared"):
        spec = replace(asked.spec, noise=parse_noise(noise), positive_control=False)
        assert problems(evaluated(prepare(two_layers, spec, "cpu"))) == []


@pytest.mark.parametrize("words", ["first", "decode:2-", "prefill"])
def test_noise_at_some_tokens_is_certified(evaluated, asked, two_layers, words):
    run = evaluated(limited(asked, two_layers, words))
    assert problems(run) == []
    assert run.arm.certificate.status == CERTIFIED
    own = Fed.of([result for result in run.results if result.level], (words,))
    assert 0 < own.tokens < Fed.of([result for result in run.results if result.level]).tokens
    assert run.arm.certificate.notes[0].startswith(f"noise at tokens:{words} alone: {own.tokens:,} of ")


def limited(asked, two_layers, words):
    """The evaluation with noise at some tokens alone."""
    spec = replace(asked.spec, noise=parse_noise(f"relative_gaussian @ op:linear tokens:{words}"), levels=(0.0, 0.2))
    return prepare(two_layers, spec, "cpu")


def steps_from_elsewhere(monkeypatch):
    honest = NoiseSession.narrowed
    shifted = lambda self, kept, prompts=None: honest(self, kept, prompts and [length + 1 for length in prompts])  # noqa: E731
    monkeypatch.setattr(NoiseSession, "narrowed", shifted)


def noise_at_every_token(monkeypatch):
    monkeypatch.setattr(Rows, "within", lambda self, prompts, spans: self)


def contexts_of_other_requests(monkeypatch):
    honest = NoiseSession.narrowed
    turned = lambda self, kept, prompts=None: honest(self, kept, prompts and [*prompts[1:], prompts[0]])  # noqa: E731
    monkeypatch.setattr(NoiseSession, "narrowed", turned)


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        (steps_from_elsewhere, "elements of tokens that the noise leaves alone"),
        (noise_at_every_token, "wrong injection count"),
        (contexts_of_other_requests, "elements of tokens that the noise leaves alone|replay: item"),
    ],
    ids=lambda value: getattr(value, "__name__", "-"),
)
def test_noise_at_other_tokens_is_invalid(sabotage, words, evaluated, asked, two_layers, monkeypatch):
    with monkeypatch.context() as patched:
        sabotage(patched)
        run = evaluated(limited(asked, two_layers, "first"))
    found = problems(run)
    assert run.arm.certificate.status == INVALID_EVIDENCE
    assert any(re.search(words, each) for each in found), found


def test_a_selection_of_nothing_is_refused_before_anything_runs(asked, two_layers):
    """No choice here has as many tokens as the selection asks for."""
    longest = max(len(each.continuation) for own in asked.requests.values() for each in own)
    limited(asked, two_layers, f"decode:{longest - 1}-")
    words = f"none of 36 sequences has such a token: their decode steps end at {longest - 1}"
    with pytest.raises(HarnessError, match=words):
        limited(asked, two_layers, f"decode:{longest}-")


def test_quantized_weights_are_certified(evaluated, asked, two_layers):
    spec = replace(asked.spec, quantization=parse_quantization("weights=mxfp4"))
    assert problems(evaluated(prepare(two_layers, spec, "cpu"))) == []


def test_results_do_not_depend_on_the_batch(asked):
    """Forwards of one record, of all records, and in another order; two requests that are equal have equal draws."""

    prompts = [asked.prompt(item.key, seed) for item in asked.items[:5] for seed in (0, 1)]
    prompts = [replace(prompt, forced=(*prompt.forced, prompt.forced[0])) for prompt in prompts]
    found = []
    with TransformersEngine(asked) as engine:
        for groups in ([prompts], [[prompt] for prompt in prompts], [prompts[::-3], prompts[1::3], prompts[2::3]]):
            logprobs = {}
            for group in groups:
                session = engine._session
                items, seeds = [p.item for p in group], [p.seed for p in group]
                with session.batch(items, seeds, 0.1, asked.plan.spec.error):
                    model = asked.checkpoint.model
                    for prompt, own in zip(group, likelihood.score(model, group, 0, session), strict=True):
                        logprobs[prompt.item, prompt.seed] = own
            found.append(logprobs)
    whole = found[0]
    for other in found[1:]:
        for name, own in other.items():
            for one, two in zip(whole[name], own, strict=True):
                assert one.logprobs == pytest.approx(two.logprobs, abs=2e-5)
                assert one.greedy == two.greedy
    for own in whole.values():
        assert own[0].logprobs == pytest.approx(own[-1].logprobs, abs=2e-5)
    first = asked.items[0].key
    assert whole[first, 0][0].logprobs != pytest.approx(whole[first, 1][0].logprobs, abs=1e-3)


def no_noise(monkeypatch):
    honest = likelihood._forward
    monkeypatch.setattr(likelihood, "_forward", lambda *given: honest(*given[:-1], None))
    monkeypatch.setattr(NoiseSession, "inject", lambda self, site, part, y, frame: y)


def noise_of_the_first_request_alone(monkeypatch):
    honest = likelihood._forward

    def forward(model, forced, part, pad, session):
        if part.request == 0:
            return honest(model, forced, part, pad, session)
        with session.narrowed(torch.tensor(part.rows)), session.noise.paused():
            return honest(model, forced, part, pad, None)

    monkeypatch.setattr(likelihood, "_forward", forward)


def keys_of_another_item(monkeypatch):
    honest_narrowed = NoiseSession.narrowed

    def narrowed(self, kept, prompts=None):
        return honest_narrowed(self, kept.flip(0), prompts)

    monkeypatch.setattr(NoiseSession, "narrowed", narrowed)


def a_continuation_shifted_by_one(monkeypatch):
    honest = likelihood._read

    def read(logits, *rest):
        return honest(logits.roll(1, 1), *rest)

    monkeypatch.setattr(likelihood, "_read", read)


def another_prefix(monkeypatch):
    honest = likelihood._forward

    def forward(model, forced, *rest):
        other = [Forced((7, *each.context[1:]), each.continuation) for each in forced]
        return honest(model, other, *rest)

    monkeypatch.setattr(likelihood, "_forward", forward)


def another_text(monkeypatch):
    honest = scoring._sum
    monkeypatch.setattr(scoring, "_sum", lambda values: honest(values) + 0.5)


def another_greedy(monkeypatch):
    honest = scoring.Scored
    monkeypatch.setattr(
        scoring, "Scored", lambda context, tokens, nats, greedy, *rest: honest(context, tokens, nats, True, *rest)
    )


def no_audit(monkeypatch):
    monkeypatch.setattr(auditing.ScoringWatch, "_chosen", lambda self, choice: iter(()))


def no_replay(monkeypatch):
    monkeypatch.setattr(run_module, "replay_records", lambda prepared, store: None)


def nothing_twice(monkeypatch):
    monkeypatch.setattr(run_module, "repeat_clean", lambda *given: None)


@pytest.mark.parametrize(
    ("sabotage", "words"),
    [
        (no_noise, "wrong injection count"),
        (noise_of_the_first_request_alone, "wrong injection count"),
        (keys_of_another_item, "that the draws of their keys do not give"),
        (a_continuation_shifted_by_one, "replay: item .* the logit of token"),
        (another_prefix, "replay: item .* the logit of token"),
        (another_text, "is not the sum of what its engine left"),
        (another_greedy, "replay: item .* in the record and"),
        (no_audit, "was not audited"),
        (no_replay, "were not replayed"),
        (nothing_twice, "were to be generated twice"),
    ],
    ids=lambda value: getattr(value, "__name__", "-"),
)
def test_every_way_to_cheat_is_invalid(sabotage, words, evaluated, monkeypatch):
    with monkeypatch.context() as patched:
        sabotage(patched)
        run = evaluated()
    found = problems(run)
    assert run.arm.certificate.status == INVALID_EVIDENCE
    assert any(re.search(words, each) for each in found), found
    verdict = gate(run.arm, run.arm, ANY_ANSWER).verdict
    assert verdict == INVALID


def test_a_control_that_changes_nothing_is_invalid(evaluated, monkeypatch):
    """Scored at scale 0 in place of the lethal one."""
    honest = run_module.Batch

    def batch(level, prompts, **other):
        return honest(0.0 if other.get("error") else level, prompts, **other)

    monkeypatch.setattr(run_module, "Batch", batch)
    assert any("outputs changed (all must)" in words for words in problems(evaluated()))


@pytest.mark.parametrize("drifts", [False, True])
def test_an_engine_that_does_not_repeat_itself_is_called_so(evaluated, monkeypatch, drifts):
    """Its answers move by a tenth of a nat from call to call, or stay as they are."""
    honest, calls = replaying._answers, iter(range(1, 9))

    def answers(engine, prompts):
        off = 0.1 * next(calls) * drifts
        return {
            item: replace(result, logits=tuple(value + off for value in result.logits))
            for item, result in honest(engine, prompts).items()
        }

    monkeypatch.setattr(replaying, "_answers", answers)
    assert ("other tokens" in evaluated().arm.certificate.nondeterministic) is drifts


def test_a_log_likelihood_that_is_not_finite_is_no_score(evaluated, monkeypatch):
    honest = likelihood._read

    def read(logits, *rest):
        logits[0, -1] = float("nan")
        return honest(logits, *rest)

    monkeypatch.setattr(likelihood, "_read", read)
    run = evaluated()
    assert {result.reason for result in run.results} >= {"unparsed"}
    assert all(result.score is None for result in run.results if result.reason == "unparsed")
    assert run.arm.certificate.status == INVALID_EVIDENCE
