"""The injector: what it perturbs, what it counts, and what it refuses."""

import pytest
import torch

from harness.exceptions import NoiseSpecError
from harness.noise.planner import build_plan
from harness.noise.session import NoiseSession
from harness.noise.ways.attention import EAGER
from harness.spec import parse_noise
from harness.spec.errors import RelativeBias

pytestmark = pytest.mark.long
LAYERS, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, MLP, VOCAB = 2, 4, 2, 8, 32, 48, 64
LENGTHS = (9, 5, 7)
ITEMS, SEEDS = ("a", "b", "c"), (0, 1, 0)


def padded():
    ids = torch.randint(0, VOCAB, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(3, 9, dtype=torch.long)
    for row, length in enumerate(LENGTHS):
        mask[row, : 9 - length] = 0
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def noisy(model, spec, scale=0.05, inputs=None, items=ITEMS, seeds=SEEDS):
    """(logits, counts by site)."""
    plan = build_plan(model, parse_noise(spec))
    with NoiseSession(model, plan) as session, torch.no_grad(), session.batch(items, seeds, scale):
        logits = model(**(inputs or padded())).logits
        return logits, session.ledger.drain(scale)


def test_counts_equal_the_analytic_ones(toy):
    _, counts = noisy(toy("eager"), "relative_gaussian @ op:linear,matmul,rotary")
    tokens = sum(LENGTHS)
    widths = {"q_proj": HIDDEN, "k_proj": KV_HEADS * HEAD_DIM, "v_proj": KV_HEADS * HEAD_DIM, "o_proj": HIDDEN}
    widths |= {"gate_proj": MLP, "up_proj": MLP, "down_proj": HIDDEN, "lm_head": VOCAB}
    assert len(counts) == LAYERS * (7 + 2) + 1 + 1
    for name, count in counts.items():
        leaf = name.rpartition(".")[2]
        if count.op == "linear":
            wanted = tokens * widths[leaf]
        elif count.op == "qk":
            wanted = HEADS * sum(n * (n + 1) // 2 for n in LENGTHS)
        else:
            wanted = tokens * (HIDDEN if count.op == "pv" else HEAD_DIM // 2)
        assert (count.calls, count.rows, count.elements) == (1, tokens, wanted), name
        assert 0 < count.changed <= count.nonzero <= count.elements


def test_energies_are_those_of_the_elements(toy):
    """Recomputed from the tensors themselves, padding left out."""
    model, inputs = toy(), padded()
    seen = {}

    def keep(name):
        def hook(module, args, output):
            seen.setdefault(name, []).append(output[inputs["attention_mask"].bool()].double())

        return hook

    head = model.lm_head
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear"))
    before = head.register_forward_hook(keep("before"))
    with NoiseSession(model, plan) as session, torch.no_grad(), session.batch(ITEMS, SEEDS, 0.05):
        after = head.register_forward_hook(keep("after"))
        model(**inputs)
        count = session.ledger.drain(0.05)["lm_head"]
    before.remove(), after.remove()
    y, changed = seen["before"][0], seen["after"][0]
    assert count.signal == pytest.approx((y**2).sum().item(), rel=1e-5)
    assert count.error == pytest.approx(((changed - y) ** 2).sum().item(), rel=1e-4)
    assert count.relative == pytest.approx((((changed - y) / y) ** 2).sum().item(), rel=1e-4)
    assert count.changed == (changed != y).sum()


@pytest.mark.parametrize("spec", ["op:linear", "op:qk", "op:pv", "op:rotary", "profile:matmul"])
def test_only_what_was_asked_for_is_counted(toy, spec):
    _, counts = noisy(toy("eager"), f"relative_gaussian @ {spec}")
    wanted = {"op:linear": {"linear"}, "profile:matmul": {"linear", "qk", "pv"}}.get(spec, {spec[3:]})
    assert {count.op for count in counts.values()} == wanted


@pytest.mark.parametrize("spec", ["op:linear", "op:qk", "op:pv", "op:rotary"])
def test_noise_reaches_the_output(toy, spec):
    model = toy("eager")
    with torch.no_grad():
        clean = model(**padded()).logits
    logits, _ = noisy(model, f"relative_gaussian @ {spec}", 0.2)
    difference = (logits - clean)[padded()["attention_mask"].bool()].norm() / clean.norm()
    assert difference > 1e-4


def test_a_forward_without_items_and_without_a_strength_is_refused(toy):
    model = toy()
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear"))
    refused = pytest.raises(NoiseSpecError, match=r"no strength.*session\.batch")
    with NoiseSession(model, plan), refused, torch.no_grad():
        model(**padded())


def unnamed(model, spec, forwards):
    """(logits of each of ``forwards`` forwards without items, counts by site)."""
    with NoiseSession(model, build_plan(model, parse_noise(spec))) as session, torch.no_grad():
        return [model(**padded()).logits for _ in range(forwards)], session.ledger.drain(0.05)


def test_a_forward_without_items_is_keyed_by_its_number_and_the_seed(toy):
    model = toy()
    (first, second), counts = unnamed(model, "relative_gaussian(0.05) @ op:linear", 2)
    assert not torch.equal(first, second)
    assert {(count.calls, count.rows) for count in counts.values()} == {(2, 2 * sum(LENGTHS))}
    (again, _), _ = unnamed(model, "relative_gaussian(0.05) @ op:linear", 2)
    assert torch.equal(again, first)
    (other,), _ = unnamed(model, "relative_gaussian(0.05) @ op:linear seed:1", 1)
    assert not torch.equal(other, first)


def test_a_named_batch_overrides_strength_and_error_and_ends_with_its_block(toy):
    model = toy()
    plan = build_plan(model, parse_noise("relative_gaussian(0.05) @ op:linear"))
    with NoiseSession(model, plan) as session, torch.no_grad():
        with session.batch(ITEMS, SEEDS, 0.2, RelativeBias()):
            with session.batch(ITEMS, SEEDS, 0.0):
                model(**padded())
            silent = session.ledger.drain(0.0)
            model(**padded())
            biased = session.ledger.drain(0.2)
        model(**padded())
        own = session.ledger.drain(0.05)
    assert {count.changed for count in silent.values()} == {0}
    first = "model.layers.0.self_attn.q_proj"
    assert biased[first].relative_rms == pytest.approx(0.2, rel=1e-6), "a bias is the same everywhere"
    assert own[first].relative_rms == pytest.approx(0.05, rel=0.1)


def test_a_batch_of_another_size_is_refused(toy):
    with pytest.raises(NoiseSpecError, match="2 item keys"):
        noisy(toy(), "relative_gaussian @ op:linear", items=("a", "b"), seeds=(0, 0))


def test_items_and_seeds_must_pair(toy):
    with pytest.raises(ValueError, match="3 items but 2 seeds"):
        noisy(toy(), "relative_gaussian @ op:linear", seeds=(0, 0))


def test_everything_is_restored_after_an_exception(toy):
    model = toy("eager")
    with torch.no_grad():
        clean = model(**padded()).logits
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear,matmul,rotary"))
    inside = NoiseSession(model, plan)
    with inside:
        assert model.config._attn_implementation == EAGER
    with pytest.raises(ZeroDivisionError), inside:
        1 / 0  # noqa: B018
    assert model.config._attn_implementation == "eager"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert "forward" not in model.model.rotary_emb.__dict__
    with torch.no_grad():
        assert torch.equal(model(**padded()).logits, clean)


EVERY_WAY = (
    ("eager", "op:linear,matmul,rotary,softmax,rms_norm,add"),
    ("sdpa", "op:sdpa,linear,embedding when:both"),
    ("eager", "op:linear at:weight exclude:lm_head"),
    ("eager", "op:linear at:input"),
    ("eager", "scope:mlp when:both"),
)


@pytest.mark.parametrize(("attention", "spec"), EVERY_WAY)
@pytest.mark.parametrize("training", [False, True])
def test_an_exception_inside_the_forward_leaves_no_trace(toy, attention, spec, training):
    model = toy(attention)
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    plan = build_plan(model, parse_noise(f"relative_gaussian(0.1) @ {spec}"))

    def fail(module, args):
        raise ZeroDivisionError

    broken = model.model.layers[1].mlp.down_proj.register_forward_pre_hook(fail)
    with torch.set_grad_enabled(training), pytest.raises(ZeroDivisionError), NoiseSession(model, plan):
        model(**padded())
    broken.remove()
    assert model.config._attn_implementation == attention
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert torch.overrides._get_current_function_mode_stack() == []


def test_sessions_nest_and_their_noise_adds(toy):
    model = toy()
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear"))
    with NoiseSession(model, plan) as outer, NoiseSession(model, plan) as inner, torch.no_grad():
        with outer.batch(ITEMS, SEEDS, 0.05), inner.batch(ITEMS, (7, 8, 9), 0.05):
            model(**padded())
        one, two = outer.ledger.drain(0.05), inner.ledger.drain(0.05)
    assert one["lm_head"].changed > 0
    assert two["lm_head"].changed > 0
    with NoiseSession(model, plan) as again, torch.no_grad(), again.batch(ITEMS, SEEDS, 0.05):
        model(**padded())
        alone = again.ledger.drain(0.05)
    first = "model.layers.0.self_attn.q_proj"  # sees the same input in both
    assert alone[first] == one[first]
    assert alone["lm_head"].signal != one["lm_head"].signal


@pytest.mark.parametrize("noise", ["relative_gaussian @ op:linear at:input", "relative_gaussian @ op:linear"])
def test_nothing_is_overwritten_that_another_module_reads(toy, noise):
    """Queries, keys and values share their input: each is given its own error on it, not those of the others too."""
    model, logits = toy(), []
    for in_place in (False, True):
        plan = build_plan(model, parse_noise(noise))
        session = NoiseSession(model, plan, in_place=in_place)
        with session, torch.no_grad(), session.batch(ITEMS, SEEDS, 0.1):
            logits.append(model(**padded()).logits)
    assert torch.equal(*logits)


def test_shared_keys_leave_the_item_out(toy):
    """One chip: at the same position two items see the same draws."""
    model, ids = toy(), torch.tensor([[1, 2, 3], [1, 2, 3]])
    inputs = {"input_ids": ids}
    shared, _ = noisy(model, "relative_gaussian @ op:linear key:shared", 0.05, inputs, ("a", "b"), (0, 0))
    by_item, _ = noisy(model, "relative_gaussian @ op:linear", 0.05, inputs, ("a", "b"), (0, 0))
    assert torch.equal(shared[0], shared[1])
    assert not torch.equal(by_item[0], by_item[1])


@pytest.mark.parametrize("op", ["mul", "add", "sdpa", "qk", "pv", "softmax", "rms_norm"])
@pytest.mark.parametrize("tokens", [HEADS, HEADS + 1])
def test_as_many_tokens_as_heads_are_still_told_apart(toy, op, tokens):
    """(batch, heads, tokens, dim) and (batch, tokens, heads, dim) then have the same shape."""
    # an eager mask is added: a row of padding with few keys may overflow to minus infinity throughout
    model = toy("sdpa" if op in ("sdpa", "add") else "eager")
    plan = build_plan(model, parse_noise(f"relative_gaussian @ op:{op}"))
    ids = torch.arange(1, 4)[None]
    left = torch.zeros(1, tokens - 3, dtype=torch.long)
    padded_ids, mask = torch.cat([left, ids], 1), torch.cat([left, torch.ones_like(ids)], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = []
    for inputs in (
        {"input_ids": ids},
        {"input_ids": padded_ids, "attention_mask": mask, "position_ids": positions},
    ):
        with NoiseSession(model, plan) as session, session.batch(("a",), (0,), 0.2), torch.no_grad():
            logits.append(model(**inputs).logits[:, -3:])
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)


def test_generate_of_transformers_works_inside_a_session(toy):
    """A user's own loop: the item keys are named once, positions follow from mask and cache."""
    model, inputs = toy("eager"), padded()
    plan = build_plan(model, parse_noise("relative_gaussian @ profile:matmul"))
    given = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with NoiseSession(model, plan) as session, session.batch(ITEMS, SEEDS, 0.1):
        together = model.generate(**given, max_new_tokens=6, do_sample=False, pad_token_id=0)
    alone = {"input_ids": inputs["input_ids"][1:2, 4:], "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    with NoiseSession(model, plan) as session, session.batch(("b",), (1,), 0.1):
        single = model.generate(**alone, max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert together[1, -6:].tolist() == single[0, -6:].tolist()
