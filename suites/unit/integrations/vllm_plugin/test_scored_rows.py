"""Prompts that are scored inside an engine process, without an engine: which rows count, and whose draws they get."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.integrations.vllm_plugin.auditor import EngineAuditor, Looked
from harness.integrations.vllm_plugin.payload import Payload
from harness.integrations.vllm_plugin.rows import Bases, Request, Scheduled, build_step, request_of
from harness.integrations.vllm_plugin.session import EngineSession, Product, Slice, Work
from harness.noise import NoiseSession, build_plan
from harness.spec import RelativeGaussian, parse_noise
from harness.spec.tokens import in_spans

pytestmark = pytest.mark.unit
HEAD = "lm_head"


def request(item="a", scored=True):
    return Request(item, 0, 0.1, None, scored)


@pytest.fixture
def plan(toy):
    return build_plan(toy(), parse_noise("relative_gaussian @ op:linear"))


@pytest.fixture
def session(toy, plan):
    made = EngineSession(Payload.of(toy(), plan, ()))
    site = next(each for each in plan.sites if each.name == HEAD)
    made.register(Product("lm_head", (Slice(site, 0, 64),), head=True))
    made.open()
    yield made
    made.close()


def test_a_request_that_is_scored_says_so():
    assert request_of({"k": request().to_json()}, "k", "r") == request()
    old = {name: value for name, value in request(scored=False).to_json().items() if name != "scored"}
    assert request_of({"k": old}, "k", "r") == request(scored=False)


def test_the_last_token_of_a_scored_prompt_and_its_sampled_row_do_not_count():
    mixed = [Scheduled(request("a"), 0, 5, 5, 0), Scheduled(request("b", scored=False), 0, 3, 3, 0)]
    step = build_step(mixed, RelativeGaussian(), Bases("item"))
    assert step.uncounted == (1, 1)
    (body,), (head,) = step.body, step.head
    assert body.frame.rows.real.tolist() == [[True] * 4 + [False] + [True] * 3]
    assert head.frame.rows.real.tolist() == [[False, True]]


def test_a_prompt_in_chunks_counts_each_token_once():
    bases = Bases("item")
    steps = [
        build_step([Scheduled(request(), start, tokens, 7, start)], RelativeGaussian(), bases)
        for start, tokens in ((0, 3), (3, 3), (6, 1))
    ]
    assert [step.uncounted for step in steps] == [(0, 1), (0, 1), (1, 1)]


def test_scored_rows_get_the_draws_of_their_positions(toy, plan, session):
    """Two requests in one forward: the head computes the prompt of each by itself, after the rows that are sampled."""
    logits = torch.randn(4, 64)
    session.begin([("r1", request("a"), 0, 5, 5), ("r2", request("b"), 0, 5, 5)], "cpu")
    step = session.frame_of(0)
    sampled = session.inject(session.products["lm_head"], "", torch.randn(2, 64), step)
    found = {}
    for name, item in (("r1", "a"), ("r2", "b")):
        with session.scoring(name, 4):
            found[item] = session.inject(session.products["lm_head"], "", logits, step)
    assert sampled.shape == (2, 64) and session.troubles() == []
    site = next(each for each in plan.sites if each.name == HEAD)
    for item, after in found.items():
        with NoiseSession(toy(), plan) as noisy, noisy.batch([item], [0], 0.1):
            noisy.begin((1, 4), None, 0, torch.device("cpu"))
            assert torch.equal(after, noisy.inject(site, "", logits[None], noisy.frame(site))[0])
    (count,) = session.drain([0.1])
    assert count.rows == 8  # not the two sampled rows
    assert session.take_work() == Work(forwards=1, body=2, head=2, scored=2)


def test_rows_that_nobody_announced_are_noted(session):
    session.begin([("r1", request(), 0, 5, 5)], "cpu")
    y = torch.randn(4, 64)
    assert session.inject(session.products["lm_head"], "", y, session.frame_of(0)) is y
    assert "cannot be told apart" in session.troubles()[0]
    with session.scoring("unknown", 4):
        pass
    assert "outside its forward" in session.troubles()[0]
    with session.scoring("r1", 3):
        assert session.inject(session.products["lm_head"], "", y, session.frame_of(0)) is y
    assert "4 rows in a forward of 3" in session.troubles()[0]


def test_another_error_model_is_that_of_the_request(session):
    session.begin([("r1", replace(request(), error="relative_bias"), 0, 5, 5)], "cpu")
    y = torch.ones(4, 64)
    with session.scoring("r1", 4):
        after = session.inject(session.products["lm_head"], "", y, session.frame_of(0))
    assert torch.allclose(after, torch.full_like(y, 1.1))


SELECTIONS = ("prefill", "first", "decode", "decode:2-", "first,decode:2")


@pytest.mark.parametrize("words", SELECTIONS)
@pytest.mark.parametrize("chunks", [(7,), (3, 4), (5, 7)])
def test_a_selection_is_counted_from_the_end_of_the_context(toy, words, chunks):
    """Three tokens of context and four scored, in one piece, in two, or preempted and fed again from the start."""
    plan = build_plan(toy(), parse_noise(f"relative_gaussian @ op:linear tokens:{words}"))
    made = EngineSession(Payload.of(toy(), plan, ()))
    sites = {site.name: site for site in plan.sites}
    body = next(site for name, site in sites.items() if name != HEAD)
    made.register(Product("body", (Slice(body, 0, body.columns),)))
    made.register(Product(HEAD, (Slice(sites[HEAD], 0, 64),), head=True))
    made.open()
    y, logits = torch.randn(7, body.columns), torch.randn(7, 64)
    wanted = [in_spans(position - 2, plan.spec.spans) for position in range(7)]
    work, computed = [0, 0], 0
    for tokens in chunks:
        computed = 0 if computed + tokens > 7 else computed
        known, end = made._fed.get("r", 0), computed + tokens
        made.begin([("r", replace(request(), context=3), computed, tokens, 7)], "cpu")
        step = made.frame_of(0)
        after = made.inject(made.products["body"], "", y[computed:end], step)
        for number, position in enumerate(range(computed, end)):
            assert torch.equal(after[number], y[position]) is not wanted[position]
        count = min(tokens, 6 - computed)
        with made.scoring("r", count):
            found = made.inject(made.products[HEAD], "", logits[computed : computed + count], step)
        for number, position in enumerate(range(computed, computed + count)):
            assert torch.equal(found[number], logits[position]) is not wanted[position]
            work[1] += not wanted[position] or position < known
        work[0] += sum(not wanted[at] or at < known or at == 6 for at in range(computed, end))
        work[1] += 1  # the sampled row
        computed = end
    counts = {count.site: count for count in made.drain([0.1])}
    assert made.troubles() == []
    assert counts[body.name].rows == counts[HEAD].rows == sum(wanted[:6])
    done = made.take_work()
    assert (done.body, done.head, done.scored) == (*work, len(chunks))
    made.close()


def test_an_auditor_counts_the_steps_of_a_scored_prompt_from_its_context():
    looked = Looked(0.1, RelativeGaussian(), False, 0, parse_noise("relative_gaussian @ op:linear tokens:decode").spans)
    auditor = EngineAuditor(0, lambda number: (), (), looked)
    auditor.begin([("r", replace(request(), context=3), 0, 7, 7), ("s", request("b", scored=False), 0, 2, 2)])
    assert auditor._picked[False].tolist() == [False] * 3 + [True] * 4 + [False] * 2
    auditor.scoring(replace(request(), context=3), 0, 6)
    assert auditor._picked[True].tolist() == [False] * 3 + [True] * 3
