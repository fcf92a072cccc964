"""Noise limited to tokens: the selected rows alone change, by position in their own sequence; mutants are caught."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.engines.generation import Decoding, Prompt, generate
from harness.exceptions import NoiseSpecError
from harness.noise import NoiseSession, build_plan, frames, noisy
from harness.noise.audit.auditor import Auditor
from harness.noise.audit.check import check_audit
from harness.noise.audit.draws import Draws
from harness.noise.audit.selecting import Selected
from harness.noise.replay.forcing import Answer, replay
from harness.noise.replay.hooks import Layer
from harness.spec import parse_noise
from harness.spec.tokens import in_spans
from harness.testing import tiny_model
from suites.contract.expert_models import mixture

pytestmark = pytest.mark.contract
PROMPTS = (
    Prompt("one", 0, (3, 4, 5, 6, 7, 8, 9)),
    Prompt("two", 1, (9, 8, 7)),
    Prompt("three", 0, (10, 11, 12, 13, 14)),
)
NEW = 5
SITE = "model.layers.1.mlp.up_proj"
SELECTIONS = ("prefill", "first", "decode", "decode:2-3", "first,decode:3-", "once:2")


@functools.cache
def tiny() -> Any:
    model = tiny_model()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


@contextmanager
def watched(model: Any, noise: str, level: float) -> Iterator[tuple[NoiseSession, list[tuple[Tensor, Tensor]]]]:
    """A session on ``model``, and what one linear gave before and after its noise, forward by forward."""
    seen: list[tuple[Tensor, Tensor]] = []
    before: list[Tensor] = []
    module = model.get_submodule(SITE)
    first = module.register_forward_hook(lambda module, args, y: before.append(y.clone()))
    with NoiseSession(model, build_plan(model, parse_noise(noise))) as session:
        last = module.register_forward_hook(lambda module, args, y: seen.append((before.pop(), y.clone())))
        try:
            yield session, seen
        finally:
            first.remove()
            last.remove()


def changed_steps(words: str, level: float = 0.1, prompts: tuple[Prompt, ...] = PROMPTS) -> set[tuple[str, int]]:
    """(item, step) of every row that the noise changed while ``prompts`` are completed; counts must be as many."""
    model = tiny()
    noise = f"relative_gaussian @ op:linear{words and f' tokens:{words}'}"
    names = [prompt.item for prompt in prompts]
    found, rows = set(), 0
    with watched(model, noise, level) as (session, seen):
        lengths = [len(prompt.tokens) for prompt in prompts]
        with session.batch(names, [prompt.seed for prompt in prompts], level, None, lengths):
            generate(model, prompts, Decoding(NEW, (), 0), session)
        counts = session.ledger.counts(level)
    for number, (clean, after) in enumerate(seen):
        width = clean.shape[1]
        for row, prompt in enumerate(prompts):
            for column in range(width):
                step = number - (width - 1 - column)
                if step > -len(prompt.tokens) and not torch.equal(clean[row, column], after[row, column]):
                    found.add((prompt.item, step))
                    rows += 1
    assert not level or counts[SITE].rows == rows
    return found


def every(wanted: Callable[[int], bool] = lambda step: True) -> set[tuple[str, int]]:
    return {(prompt.item, step) for prompt in PROMPTS for step in range(1 - len(prompt.tokens), NEW) if wanted(step)}


def law(words: str) -> None:
    spans = parse_noise(f"relative_gaussian @ op:linear tokens:{words}").spans
    assert changed_steps(words) == every(lambda step: in_spans(step, spans))


@pytest.mark.parametrize("words", SELECTIONS)
def test_only_selected_rows_change(words: str) -> None:
    law(words)


def test_prefill_and_decode_are_disjoint_and_together_all() -> None:
    one, other = changed_steps("prefill"), changed_steps("decode")
    assert not one & other
    assert one | other == changed_steps("") == every()
    assert changed_steps("first") == {row for row in one if row[1] == 0}


@pytest.mark.parametrize("words", SELECTIONS)
def test_strength_zero_is_clean_and_counts_the_same_rows(words: str) -> None:
    assert changed_steps(words, 0.0) == set()


def test_a_selection_does_not_depend_on_the_batch() -> None:
    words = "first,decode:2-"
    alone = [changed_steps(words, prompts=(prompt,)) for prompt in PROMPTS]
    assert set().union(*alone) == changed_steps(words) == changed_steps(words, prompts=PROMPTS[::-1])


def unlimited(rows: frames.Rows, prompts: Tensor, spans: Any) -> frames.Rows:
    return rows


def by_column(rows: frames.Rows, prompts: Tensor, spans: Any) -> frames.Rows:
    return HONEST(rows, prompts.max().expand_as(prompts), spans)


def one_late(rows: frames.Rows, prompts: Tensor, spans: Any) -> frames.Rows:
    return HONEST(rows, prompts + 1, spans)


def counted_only(rows: frames.Rows, prompts: Tensor, spans: Any) -> frames.Rows:
    return replace(HONEST(rows, prompts, spans), chosen=None)


HONEST = frames.Rows.within
MUTANTS = (unlimited, by_column, one_late, counted_only)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_of_the_selection_are_caught(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames.Rows, "within", mutant)
    with pytest.raises(AssertionError):
        law("first")


def audited(model: Any, words: str) -> tuple[str, ...]:
    """What an audit of the prefill and of one decode step finds."""
    plan = build_plan(model, parse_noise(f"relative_gaussian @ op:linear tokens:{words}"))
    sites = [site.name for site in plan.sites]
    owners, lengths = [(prompt.item, prompt.seed) for prompt in PROMPTS], [len(prompt.tokens) for prompt in PROMPTS]
    found: list[str] = []

    @contextmanager
    def looking(step: int, rows: Any) -> Iterator[None]:
        draws = Draws(plan.spec.error, 0.1, sites)
        selected = Selected(plan.spec.spans, sites)
        selected.begin([step] * len(PROMPTS))
        draws.begin(step, owners, [length + step for length in lengths])
        with Auditor(model, None, draws, selected) as auditor:
            yield
        found.extend(check_audit(auditor, plan, 0.1))

    with NoiseSession(model, plan, in_place=True) as session:
        batch = [prompt.item for prompt in PROMPTS], [prompt.seed for prompt in PROMPTS], 0.1, None, lengths
        with session.batch(*batch):
            generate(model, PROMPTS, Decoding(2, (), 0), session, looking)
    return tuple(found)


@pytest.mark.parametrize("words", ["prefill", "first", "decode"])
def test_an_audit_finds_no_fault_in_a_selection(words: str) -> None:
    assert audited(tiny(), words) == ()
    assert audited(mixture("mixtral"), words) == ()


@pytest.mark.parametrize("mutant", MUTANTS)
def test_an_audit_finds_another_selection(mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames.Rows, "within", mutant)
    words = " ".join(audited(tiny(), "first"))
    assert ("has relative error" if mutant is by_column else "elements of tokens that the noise leaves alone") in words


@pytest.mark.parametrize("words", ["prefill", "first,decode:2-"])
@pytest.mark.parametrize(
    ("kind", "ops"), [("qwen2", "linear,qk,softmax,pv"), ("mixtral", "linear"), ("qwen3_moe", "linear")]
)
def test_a_second_implementation_selects_the_same(kind: str, ops: str, words: str) -> None:
    model = tiny() if kind == "qwen2" else mixture(kind, "eager")
    plan = build_plan(model, parse_noise(f"relative_gaussian @ op:{ops} tokens:{words}"))
    lengths = [len(prompt.tokens) for prompt in PROMPTS]
    with NoiseSession(model, plan) as session:
        batch = [prompt.item for prompt in PROMPTS], [prompt.seed for prompt in PROMPTS], 0.2, None, lengths
        with session.batch(*batch):
            made = generate(model, PROMPTS, Decoding(NEW, (), 0), session)
        counts = session.ledger.counts(0.2)
    for site in plan.sites:
        fed = [step for _, step in every(lambda step: in_spans(step, plan.spec.spans))]
        fed = [step for step in fed if step >= 0] if site.last_token_only else fed
        assert counts[site.name].rows == len(fed) * (site.per_token if site.field else 1), site.name
    answers = [
        Answer(prompt.item, prompt.seed, prompt.tokens, done.tokens, False)
        for prompt, done in zip(PROMPTS, made, strict=True)
    ]
    layers = [Layer(plan.spec, tuple(site.name for site in plan.sites))]
    unlimited = [Layer(replace(plan.spec, tokens=()), layers[0].sites)]

    def furthest(layers: list[Layer]) -> float:
        found = dict(replay(model, layers, answers, 0.2, ()))
        return max(
            abs(one - other)
            for number, done in enumerate(made)
            for one, other in zip(done.logits, found[number].logits, strict=True)
        )

    assert furthest(layers) < 2e-4
    assert furthest(unlimited) > 1e-2


def test_where_prompts_end_must_be_known() -> None:
    model = tiny()
    plan = build_plan(model, parse_noise("relative_gaussian(0.1) @ op:linear tokens:first"))
    ids = torch.ones(1, 3, dtype=torch.long)
    with NoiseSession(model, plan) as session:
        with pytest.raises(NoiseSpecError, match="where the prompts end is not known"):
            model(input_ids=ids)
        with session.batch(["a"], [0], 0.1), pytest.raises(NoiseSpecError, match="where the prompts end"):
            model(input_ids=ids)
        with pytest.raises(ValueError, match="2 lengths"), session.batch(["a"], [0], 0.1, None, [1, 2]):
            pass
    with pytest.raises(NoiseSpecError, match="where the prompts end"), noisy(model, str(plan.spec)):
        pass
