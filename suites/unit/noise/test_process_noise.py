"""The noise of a whole process: which calls get it, and which are refused."""

import copy
import gc
import re
import threading

import pytest
import torch
from torch import nn

from harness.exceptions import NoiseSpecError
from harness.noise import build_plan, noisy
from harness.noise.environment import parse
from harness.noise.process_noise import ProcessNoise, _compile_after
from harness.spec import parse_noise

pytestmark = pytest.mark.long
IDS = torch.arange(6)[None]
LINEAR = "relative_gaussian(0.05) @ op:linear"


@pytest.fixture
def process():
    """Switches noise on as ``HARNESS_NOISE`` would, and off after the test."""
    handles = []

    def switch_on(text=LINEAR):
        noise = ProcessNoise()
        handles.extend(noise.watch(parse(text)))
        return noise

    yield switch_on
    for handle in handles:
        handle.remove()


class Own(nn.Module):
    """A model with an argument of its own."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(64, 8), nn.Linear(8, 64)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


class Wrapper(nn.Module):
    """Hands every call on, as data parallelism does."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


class Named(nn.Module):
    """A model by the names of its arguments."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.value = inner, nn.Linear(64, 1)

    def forward(self, input_ids=None, **kwargs):
        return self.value(self.inner(input_ids=input_ids, **kwargs).logits)


def calls(noise):
    return {count.label: count.calls for count in noise.counts()}


@pytest.mark.parametrize(
    ("wrap", "model", "sites"),
    [
        (lambda toy: toy, "Qwen2ForCausalLM", 15),
        (lambda toy: toy.model, "Qwen2Model", 14),
        (Wrapper, "Qwen2ForCausalLM", 15),
        (lambda toy: torch.compile(toy, backend="eager"), "Qwen2ForCausalLM", 15),
        (Named, "Named", 16),
        (lambda toy: Own(), "Own", 1),
    ],
    ids=["model", "base model", "wrapper", "compiled", "by its arguments", "by its input"],
)
@pytest.mark.filterwarnings("ignore:Using `torch.compile")
def test_the_outermost_model_is_perturbed(process, toy, wrap, model, sites):
    noise, called = process(), wrap(toy("eager"))
    for number in (1, 2):
        with torch.no_grad():
            called(IDS)
        assert set(calls(noise).values()) == {number}
        assert len(calls(noise)) == sites
    assert [type(session.model).__name__ for session in noise.sessions()] == [model]
    assert f"at {sites} sites of 1 model ({model})" in noise.summary()


def test_a_model_that_compiles_itself(process, toy, monkeypatch):
    """No global hook sees its calls."""
    noise, model = process(), toy("eager")
    monkeypatch.setattr(nn.Module, "compile", _compile_after(noise._compiled, nn.Module.compile))
    model.compile(backend="eager")
    for number in (1, 2):
        with torch.no_grad():
            model(IDS)
        assert set(calls(noise).values()) == {number}
    assert "at 15 sites of 1 model" in noise.summary()


def test_what_is_no_model_is_left_alone(process, toy):
    noise = process()
    nn.Embedding(64, 8)(IDS)
    nn.Linear(8, 8)(torch.ones(2, 8))
    build_plan(toy("eager"), parse_noise("relative_gaussian @ op:linear"))  # its probe is no use of the model
    assert noise.sessions() == ()
    assert noise.summary() == "injected NOTHING: no model was called"


@pytest.mark.parametrize("text", ["op:add,mul", "op:softmax,qk,pv", "op:linear when:both", "op:linear at:weight"])
def test_the_first_call_is_like_every_other(process, toy, text):
    """Hooks that are registered during a call are no part of it; function calls of the outermost module least."""
    noise, model = process(f"relative_gaussian(0.05) @ {text}"), toy("eager")
    with torch.no_grad():
        model(input_ids=IDS, labels=IDS)
        first = calls(noise)
        model(input_ids=IDS, labels=IDS)
    assert calls(noise) == {label: 2 * number for label, number in first.items()}
    assert torch.overrides._get_current_function_mode_stack() == []


def test_the_first_call_has_the_mask_that_was_passed_by_name(process, toy):
    noise = process()
    with torch.no_grad():
        toy("eager")(input_ids=IDS, attention_mask=torch.tensor([[0, 0, 1, 1, 1, 1]]))
    assert {count.rows for count in noise.counts()} == {4}


def test_draws_are_those_of_a_session(process, toy):
    model = toy("eager")
    with torch.no_grad(), noisy(model, LINEAR):
        expected = model(IDS).logits
    process()
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, expected)


def in_threads(run, count=4):
    """What ``run`` raised in each of the threads."""
    failed = []

    def guarded():
        try:
            run()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def test_threads_share_one_session(process, toy):
    noise, model = process(), toy("eager")
    model(IDS)
    assert in_threads(lambda: model(input_ids=IDS)) == []
    assert len(noise.sessions()) == 1
    assert set(calls(noise).values()) == {5}


def test_a_first_call_in_two_threads_is_refused(process, toy, monkeypatch):
    """Its hooks cannot be the right ones; the others go on."""
    noise, model, inside, go = process(), toy("eager"), threading.Event(), threading.Event()
    honest = noise._attach_alone

    def slow(model):
        inside.set()
        go.wait(60)
        honest(model)

    monkeypatch.setattr(noise, "_attach_alone", slow)
    first = threading.Thread(target=model, args=(IDS,))
    first.start()
    inside.wait(60)
    (error,) = in_threads(lambda: model(IDS), 1)
    go.set()
    first.join()
    assert "by two threads for the first time" in str(error)
    model(IDS)
    assert set(calls(noise).values()) == {2}


def test_models_are_not_kept_alive_and_their_counts_are(process, toy):
    noise, model = process(), toy("eager")
    model(IDS)
    before = calls(noise)
    del model
    gc.collect()
    assert noise.sessions() == ()
    assert calls(noise) == before


def test_a_session_of_somebody_else_is_refused(process, toy):
    def within(perturbed):
        with noisy(perturbed, LINEAR, checked=False):
            perturbed(IDS)

    noise, model, late = process(), toy("eager"), toy("eager")
    late(IDS)
    for perturbed in (model, late):
        with pytest.raises(NoiseSpecError, match="HARNESS_NOISE would perturb it a second time"):
            within(perturbed)
    with pytest.raises(NoiseSpecError, match="a second time"), noisy(None, LINEAR, checked=False):
        late(IDS)
    with noisy(toy("eager"), LINEAR, checked=False):
        late(IDS)
    model(IDS)
    assert len(noise.sessions()) == 2


def test_parts_of_a_model_on_their_own(process, toy):
    process()
    model, other = toy("eager"), toy("eager")
    model(IDS)
    with pytest.raises(NoiseSpecError, match="ran outside the model's forward"):
        model.model(IDS)
    other.model(IDS)
    with pytest.raises(NoiseSpecError, match="call the whole model first"):
        other(IDS)


def test_a_model_cannot_be_copied_any_more(process, toy):
    process()
    model = toy("eager")
    copy.deepcopy(model)
    model(IDS)
    with pytest.raises(NoiseSpecError, match="copy it before"):
        copy.deepcopy(model)


def test_a_model_that_does_not_fit_is_refused(process, toy):
    process("relative_gaussian(0.05) @ op:linear layers:7")
    with pytest.raises(NoiseSpecError, match="HARNESS_NOISE on Qwen2ForCausalLM: layers:7 matches nothing"):
        toy("eager")(IDS)


def test_a_model_that_cannot_be_probed_is_refused(process):
    class Broken(Own):
        def forward(self, tokens):
            raise ZeroDivisionError("as ever")

    process()
    with pytest.raises(NoiseSpecError, match="HARNESS_NOISE on Broken: ZeroDivisionError in a probe forward: as ever"):
        Broken()(IDS)


def test_the_summary_names_what_changed_nothing(process, toy):
    noise = process("relative_gaussian(0.05) @ op:linear; relative_gaussian(1e-30) @ op:embedding")
    with torch.no_grad():
        toy("eager")(IDS)
    assert re.match(
        r"changed \d+ of \d+ elements at 16 sites of 1 model .*; NOTHING by .*op:embedding", noise.summary()
    )


def test_strength_zero_is_said_to_change_nothing(process, toy):
    noise = process("relative_gaussian(0) @ op:linear")
    with torch.no_grad():
        toy("eager")(IDS)
    assert re.match(r"injected NOTHING: changed 0 of \d+ elements at 15 sites of 1 model", noise.summary())
