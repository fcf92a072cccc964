"""Noise under torch.compile: the bits, the counts and the evidence of eager mode, and no second compilation."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.backends.registry import lookup_backend

from harness.exceptions import EvidenceError, NoiseSpecError
from harness.noise import NoiseSession, build_plan, noisy
from harness.noise.kernel import Kernel
from harness.record import BACKWARD
from harness.spec import parse_noise
from suites.contract.noise_models import ITEMS, Run, batch, build, digest, numbers, passes, plan_of, same, same_bits
from suites.contract.noise_toys import ByHand

pytestmark = pytest.mark.contract
SMALL = {"input_ids": torch.arange(12).view(3, 4)}
BOTH = "op:linear,silu when:both"


@pytest.fixture(autouse=True)
def afresh():
    """Nothing that an earlier test compiled."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counting:
    """A backend that counts what it compiles."""

    def __init__(self, backend="aot_eager"):
        self.graphs = 0
        self._compile = lookup_backend(backend)

    def __call__(self, graph, inputs):
        self.graphs += 1
        return self._compile(graph, inputs)


def compiled(model, backend=None, whole=True):
    return torch.compile(model, backend=backend or Counting(), fullgraph=whole)


def with_noise(model, spec, call=None, inputs=None):
    """:func:`passes` in a fresh session, with its counts."""
    with noisy(model, f"relative_gaussian(0.1) @ {spec}") as noise:
        run = passes(model, call, inputs)
        return Run(run.logits, run.gradients, {count.label: count for count in noise.counts()})


@pytest.mark.parametrize("place", ["profile:all-ops when:both", "op:linear at:weight"])
def test_a_compiled_model_is_the_eager_one(place):
    """No graph break, the same bits of outputs and gradients, the same ledger, and clean when the block is left."""
    model = build()
    clean, eager = passes(model), with_noise(model, place)
    call = compiled(model)
    found = with_noise(model, place, call)
    assert same(found, eager)
    assert found.counts == eager.counts
    assert (BACKWARD in {count.direction for count in found.counts.values()}) == ("both" in place)
    assert same(passes(model, call), clean)


@pytest.mark.parametrize(
    "place", [BOTH, "op:linear when:forward", "op:linear when:backward", "op:linear at:input when:both"]
)
def test_a_compiled_toy_is_the_eager_one(place):
    model = ByHand()
    eager = with_noise(model, place, None, SMALL)
    found = with_noise(model, place, compiled(model), SMALL)
    assert same(found, eager)
    assert found.counts == eager.counts


def test_every_error_model_goes_through_the_same_graph():
    """Error model, strength and seed are read at run time: named batches need no second compilation."""
    model, backend = ByHand(), Counting()
    plan = build_plan(model, parse_noise(f"relative_gaussian @ {BOTH}"))
    call = compiled(model, backend)
    cases = [(0.0, 0, None), (0.1, 0, None), (0.2, 0, None), (0.1, 1, None), (0.1, 0, parse_noise("spike(0.1)").error)]
    found, graphs = [], []
    with NoiseSession(model, plan) as session:
        for scale, seed, error in cases:
            runs = []
            for way in (model, call):
                with session.batch(ITEMS, [seed] * 3, scale, error), session.step(0):
                    runs.append(passes(model, way, SMALL))
            assert same(*runs)
            found.append(digest(runs[0].logits, *runs[0].gradients.values()))
            graphs.append(backend.graphs)
    assert graphs == [2] * len(cases), "one graph for the start of a forward, one for the model"
    assert len(set(found)) == len(found)


def test_another_session_is_not_silently_without_noise():
    """A model compiled in one session serves the next, or leaving that raises; here it serves it."""
    model = ByHand()
    call = compiled(model)
    first, second = (with_noise(model, BOTH, call, SMALL) for _ in range(2))
    assert same(first, second)
    assert first.counts == second.counts


def test_a_model_compiled_before_the_session_is_refused_on_leaving():
    """torch.compile takes no notice of hooks that come later: the ledger does."""
    model = build()
    call = compiled(model)
    clean = passes(model, call)
    with pytest.raises(EvidenceError, match="nothing was counted"), noisy(model, f"relative_gaussian(0.1) @ {BOTH}"):
        unchanged = passes(model, call)
    assert same(clean, unchanged)


def test_layers_compiled_one_by_one():
    model, backend = build(), Counting()
    plan = plan_of("qwen2", "op:linear,qk when:both", "auto")
    found = []
    for whole in (True, False):
        with NoiseSession(model, plan) as session:
            for layer in () if whole else model.model.layers:
                layer.compile(backend=backend, fullgraph=True)
            for seed in (0, 1):
                with session.batch(ITEMS, [seed] * 3, 0.05):
                    run = passes(model)
                    found.append(Run(run.logits, run.gradients, session.ledger.drain(0.05)))
    for first, second in zip(found[:2], found[2:], strict=True):
        assert same(first, second)
        assert numbers(first.counts) == numbers(second.counts)
    assert backend.graphs == 2


def test_a_function_mode_is_refused_under_a_compiler():
    model = build()
    call = compiled(model, whole=False)
    with pytest.raises(NoiseSpecError, match=r"torch\.compile"), noisy(model, "relative_gaussian(0.1) @ op:linear,add"):
        passes(model, call)


@pytest.mark.parametrize("place", ["op:linear", pytest.param("op:linear when:both", marks=pytest.mark.thorough)])
def test_compiled_checkpointing(place):
    """Recomputed regions carry the number of their forward; backward noise breaks the graph, and keeps the bits."""
    runs = []
    for call in (None, "compiled"):
        model = build().train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
        runs.append(with_noise(model, place, compiled(model, whole="both" not in place) if call else None))
    assert same(*runs)
    for label, count in runs[1].counts.items():
        assert numbers({label: count}) == numbers({label: runs[0].counts[label]})
    assert {label for label in runs[0].counts if "recompute" not in label} <= runs[1].counts.keys()


def test_inductor_draws_the_same_bits(monkeypatch):
    """Compiled products differ in the last bits; the keys of the draws, and the masks of padding, do not."""
    model, seen = ByHand(), []
    honest = Kernel.perturb

    def recording(self, error, y, key, level, real, *rest):
        keys = [half for keys in key for half in keys]
        seen.append((tuple(y.shape), level, digest(*(half.broadcast_to(y.shape) for half in keys)), digest(real)))
        return honest(self, error, y, key, level, real, *rest)

    monkeypatch.setattr(Kernel, "perturb", recording)
    eager = with_noise(model, BOTH, None, SMALL)
    wanted, seen[:] = sorted(seen), []
    found = with_noise(model, BOTH, torch.compile(model, backend="inductor", fullgraph=True), SMALL)
    assert sorted(seen) == wanted
    assert found.counts.keys() == eager.counts.keys()
    assert torch.allclose(found.logits, eager.logits, rtol=1e-4, atol=1e-5)
    for name, gradient in eager.gradients.items():
        assert torch.allclose(found.gradients[name], gradient, rtol=1e-3, atol=1e-4), name


def test_shapes_may_change():
    model = ByHand()
    with noisy(model, "relative_gaussian(0.1) @ op:linear") as noise:
        call = torch.compile(model, backend=Counting(), fullgraph=True, dynamic=True)
        for rows, tokens in ((2, 3), (3, 5), (4, 7)):
            ids = torch.randint(0, 16, (rows, tokens))
            with torch.no_grad():
                assert call(input_ids=ids).logits.isfinite().all()
        noise.require(site="blocks.0.0", calls=3, elements=8 * (6 + 15 + 28))


def test_padding_is_known_to_compiled_code():
    model, plan = build(), plan_of("qwen2", "op:linear", "auto")
    with NoiseSession(model, plan) as session, session.batch(ITEMS, [0] * 3, 0.1):
        call = compiled(model)
        with torch.no_grad():
            found = call(**batch(), use_cache=False).logits
            counts = session.ledger.drain(0.1)
            assert same_bits(found, model(**batch(), use_cache=False).logits)
    assert {count.rows for count in counts.values()} == {15}
