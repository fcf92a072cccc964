"""Log-likelihoods of vLLM are those of transformers, under noise as without, and its runs are certified."""

from __future__ import annotations

import contextlib
import json

import pytest

from harness.distributions import Distribution
from harness.engines.protocol import Batch
from harness.evaluate.run import evaluate
from harness.evaluate.tasks.answers import distributions_of
from harness.record import CERTIFIED
from harness.runs.choice import Choice, Trail
from harness.runs.loaded import load_run
from harness.spec import EvalSpec, parse_noise
from suites.agreeing import apart
from suites.slow.conftest import running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("in_process")]
LEVELS = (0.0, 0.05, 0.10)
NATS = 1e-4
ROWS = [
    {"question": f"Mia has {n} pens. She buys {n}. How many pens now?", "choices": [str(2 * n), "7", "none of them"]}
    for n in range(10, 22)
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "choice.jsonl"
    path.write_text("".join(json.dumps({**row, "answer": 0}) + "\n" for row in ROWS))
    return path


def scored(engine, prepared, level):
    """(results by item and seed, problems, counts) of an audited batch of all items under two seeds."""
    prompts = tuple(prepared.prompt(item.key, seed) for item in prepared.items for seed in (0, 1))
    (ran,) = engine.stream([Batch(level, prompts, Choice(level, 0, 1, Trail(0, "")))])
    problems = [words for audit in ran.audits for words in audit.problems]
    return {(result.item, result.seed): result for result in ran.results}, problems, ran.counts


@pytest.mark.parametrize("tokens", ["", " tokens:first,decode:2-"])
def test_log_likelihoods_counts_and_certificate_agree(shipped, data, tmp_path, tokens):
    given = {}
    noise = parse_noise(f"relative_gaussian @ op:linear{tokens}")
    for name in ("transformers", "vllm"):
        spec = EvalSpec("choice", str(data), len(ROWS), noise=noise, levels=LEVELS, noise_seeds=2, engine=name)
        with running(shipped, spec) as (prepared, engine):
            given[name] = [scored(engine, prepared, level) for level in LEVELS]
            if name == "vllm":
                evaluate(prepared, tmp_path / "run", 8, engine=contextlib.nullcontext(engine))
    for (theirs, fine, counts), (ours, problems, found) in zip(given["transformers"], given["vllm"], strict=True):
        assert fine == problems == []
        assert apart(found, counts) == []
        assert ours.keys() == theirs.keys()
        for key, result in ours.items():
            assert result.logits == pytest.approx(theirs[key].logits, abs=NATS)
            assert [each.greedy for each in result.requests] == [each.greedy for each in theirs[key].requests]
            assert (result.fed, result.tokens, result.answer) == (
                theirs[key].fed,
                theirs[key].tokens,
                theirs[key].answer,
            )
    clean, noisy = (next(iter(given["vllm"][place][0].values())) for place in (0, 2))
    assert clean.logits != pytest.approx(noisy.logits, abs=0.1)  # the noise was there to be agreed upon
    certificate = load_run(tmp_path / "run").arm.certificate
    assert [*certificate.problems, *(words for level in certificate.levels for words in level.problems)] == []
    assert certificate.status == CERTIFIED and not certificate.nondeterministic


def test_distributions_agree_on_the_most_probable_tokens_and_on_given_ones(shipped, tmp_path):
    """What transformers recorded is kept again by vLLM, token by token; and vLLM's own is a reference too."""
    path = tmp_path / "answers.jsonl"
    text = list(range(40, 60))
    rows = [
        {"item": f"a{n}", "question": f"q{n}", "context": text[:9], "answer": text[n : n + 6], "places": [0, 3, 5]}
        for n in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, found = EvalSpec("answers", str(path), None, levels=(0.0, 0.10), noise_seeds=1), {}
    with running(shipped, first) as (prepared, engine):
        evaluate(prepared, tmp_path / "first", 8, engine=contextlib.nullcontext(engine))
    for name, data in (("again", tmp_path / "first"), ("own", path)):
        spec = EvalSpec("answers", str(data), None, levels=(0.0, 0.10), noise_seeds=1, engine="vllm")
        with running(shipped, spec) as (prepared, engine):
            evaluate(prepared, tmp_path / name, 8, engine=contextlib.nullcontext(engine))
        run = load_run(tmp_path / name)
        problems = [words for level in run.arm.certificate.levels for words in level.problems]
        assert ([*run.arm.certificate.problems, *problems], run.arm.certificate.status) == ([], CERTIFIED)
        found[name] = distributions_of(run)
    wanted = distributions_of(load_run(tmp_path / "first"))
    for name, own in found.items():
        assert own.keys() == wanted.keys()
        for key, theirs in wanted.items():
            assert near(own[key], theirs), (name, key)
    assert not near(wanted["a0", 0.0, 0], wanted["a0", 0.10, 0], ids=False)


def near(ours: Distribution, theirs: Distribution, ids: bool = True) -> bool:
    same = not ids or (ours.ids == theirs.ids).all()
    apart = (abs(getattr(ours, name) - getattr(theirs, name)).max() for name in ("logprobs", "rest", "least"))
    return bool(same) and (ours.best == theirs.best).all() and max(apart) <= NATS
