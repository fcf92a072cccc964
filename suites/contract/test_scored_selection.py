"""Noise limited to tokens where continuations are scored: the rows of a generation of the same tokens, no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from harness.engines import likelihood
from harness.engines.generation import Decoding, Forced, Prompt, generate
from harness.engines.likelihood import Part, score
from harness.noise import NoiseSession, build_plan
from harness.noise.replay.forcing import Answer, replay
from harness.noise.replay.hooks import Layer
from harness.record import LikelihoodResult
from harness.runs.evidence import Fed
from harness.spec import parse_noise
from harness.spec.tokens import in_spans
from suites.contract.test_token_selection import PROMPTS, SITE, tiny, watched

pytestmark = pytest.mark.contract
LEVEL = 0.2
WORDS = ("prefill", "first", "decode", "decode:2-3", "first,decode:3-", "once:2", "")
SCORED = (
    Prompt("one", 0, (), (Forced((3, 4, 5, 6, 7, 8, 9), (4, 4)), Forced((3,), (9, 8, 7, 6)))),
    Prompt("two", 1, (), (Forced((9, 8, 7), (5, 6, 7, 8, 9)),)),
    Prompt("three", 0, (), (Forced((10, 11), (12,)), Forced((10, 11, 12, 13, 14), (3, 3, 3)))),
)


def noise(words: str) -> Any:
    return parse_noise(f"relative_gaussian @ op:linear{words and f' tokens:{words}'}")


def scored(words: str, level: float = LEVEL, prompts: tuple[Prompt, ...] = SCORED) -> tuple[Any, Any, Any]:
    """(log-likelihoods by item, counts by site, ((item, request, step) of every row that one linear changed))."""
    model = tiny()
    parts = likelihood.parts_of(prompts, model.config.vocab_size)
    with watched(model, str(noise(words)), level) as (session, seen):
        with session.batch([p.item for p in prompts], [p.seed for p in prompts], level):
            found = score(model, prompts, 0, session)
        counts = session.ledger.counts(level)
    changed = set()
    for part, (clean, after) in zip(parts, seen, strict=True):
        for row, number in enumerate(part.rows):
            forced = prompts[number].forced[part.request]
            for back in range(len(forced.fed)):
                column = clean.shape[1] - 1 - back
                if not torch.equal(clean[row, column], after[row, column]):
                    changed.add((prompts[number].item, part.request, len(forced.continuation) - 1 - back))
    return {p.item: own for p, own in zip(prompts, found, strict=True)}, counts, changed


def every(wanted: Callable[[int], bool]) -> set[tuple[str, int, int]]:
    return {
        (prompt.item, request, step)
        for prompt in SCORED
        for request, forced in enumerate(prompt.forced)
        for step in range(1 - len(forced.context), len(forced.continuation))
        if wanted(step)
    }


def law(words: str) -> None:
    """Selected rows change and no others; every site, the head too, counts as many."""
    spans = noise(words).spans
    _, counts, changed = scored(words)
    wanted = every(lambda step: not spans or in_spans(step, spans))
    assert changed == wanted
    assert {count.rows for count in counts.values()} == {len(wanted)}
    assert counts[SITE].changed


@pytest.mark.parametrize("words", WORDS)
def test_selected_rows_alone_change_and_are_counted(words: str) -> None:
    law(words)


@pytest.mark.parametrize("words", WORDS)
def test_counts_are_those_that_the_records_lead_to_expect(make_likelihood: Any, words: str) -> None:
    _, counts, _ = scored(words)
    tokens = tuple(words.split(",")) if words else ()
    fed = Fed.of([make_likelihood(prompt) for prompt in SCORED], tokens)
    assert {count.rows for count in counts.values()} == {fed.tokens} == {fed.steps}


@pytest.fixture
def make_likelihood() -> Callable[[Prompt], LikelihoodResult]:
    from harness.likelihoods import Scored, written

    def make(prompt: Prompt) -> LikelihoodResult:
        rows = [Scored(len(each.context), len(each.continuation), -1.0, False) for each in prompt.forced]
        tokens = tuple(token for each in prompt.forced for token in each.continuation)
        context = sum(len(each.context) for each in prompt.forced)
        return LikelihoodResult(prompt.item, LEVEL, 0, 1.0, "right", "", {}, context, tokens, written(rows), True)

    return make


@pytest.mark.parametrize("words", [words for words in WORDS if words])
def test_a_continuation_is_scored_as_it_would_be_generated(words: str) -> None:
    """The logits by which an answer was generated under a selection give its log-probabilities scored under it."""
    model, new = tiny(), 5
    names, seeds = [p.item for p in PROMPTS], [p.seed for p in PROMPTS]
    with NoiseSession(model, build_plan(model, noise(words))) as session:
        with session.batch(names, seeds, LEVEL, None, [len(p.tokens) for p in PROMPTS]):
            made = generate(model, PROMPTS, Decoding(new, (), 0), session)
        asked = tuple(
            Prompt(p.item, p.seed, (), (Forced(p.tokens, done.tokens),)) for p, done in zip(PROMPTS, made, strict=True)
        )
        with session.batch(names, seeds, LEVEL):
            found = score(model, asked, 0, session)
    clean = score(model, asked, 0)
    layers = [Layer(noise(words), tuple(site.name for site in build_plan(model, noise(words)).sites))]
    answers = [Answer(p.item, p.seed, p.tokens, d.tokens, False) for p, d in zip(PROMPTS, made, strict=True)]
    again = dict(replay(model, layers, answers, LEVEL, ()))
    for number, (own,) in enumerate(found):
        assert own.greedy
        assert own.logprobs == pytest.approx(again[number].logprobs, abs=2e-4)
    moved = [
        max(abs(a - b) for a, b in zip(f.logprobs, c.logprobs, strict=True))
        for (f,), (c,) in zip(found, clean, strict=True)
    ]
    assert max(moved) > 1e-2


def test_a_selection_does_not_depend_on_the_batch() -> None:
    words = "first,decode:2-"
    together, _, changed = scored(words)
    alone = [scored(words, prompts=(prompt,)) for prompt in SCORED]
    assert set().union(*(rows for _, _, rows in alone)) == changed
    for found, _, _ in alone:
        for item, own in found.items():
            for one, other in zip(own, together[item], strict=True):
                assert one.logprobs == pytest.approx(other.logprobs, abs=2e-5)


def test_strength_zero_changes_nothing_and_counts_the_same_rows() -> None:
    clean, noisy = scored("decode:2-", 0.0), scored("decode:2-")
    assert clean[2] == set()
    assert {name: count.rows for name, count in clean[1].items()} == {n: count.rows for n, count in noisy[1].items()}


def whole_prompt(honest: Any, self: NoiseSession, kept: Any, prompts: Any = None) -> Any:
    """As if everything that is fed were the prompt."""
    return honest(self, kept, [length + 100 for length in prompts])


def first_request(honest: Any, self: NoiseSession, kept: Any, prompts: Any = None) -> Any:
    """The contexts of the first requests for all."""
    return honest(self, kept, [len(SCORED[int(row)].forced[0].context) for row in kept])


def one_late(honest: Any, self: NoiseSession, kept: Any, prompts: Any = None) -> Any:
    return honest(self, kept, [length + 1 for length in prompts])


def other_row(honest: Any, self: NoiseSession, kept: Any, prompts: Any = None) -> Any:
    """The contexts of the batch in another order."""
    return honest(self, kept, prompts[::-1])


@pytest.mark.parametrize("mutant", [whole_prompt, first_request, one_late, other_row])
@pytest.mark.parametrize("words", ["first", "decode:2-3"])
def test_mutants_of_the_selection_are_caught(mutant: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = NoiseSession.narrowed

    def narrowed(self: NoiseSession, *given: Any) -> Any:
        return mutant(honest, self, *given)

    monkeypatch.setattr(NoiseSession, "narrowed", narrowed)
    with pytest.raises(AssertionError):
        law(words)


def test_a_part_knows_the_steps_of_its_last_tokens() -> None:
    assert Part(0, (0, 1, 2)).last_steps(SCORED) == [1, 4, 0]
    assert Part(1, (2, 0)).last_steps(SCORED) == [2, 3]
