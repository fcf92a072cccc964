"""The injector: what it perturbs, what it counts, and what it refuses."""

import pytest
import torch

from harness.exceptions import NoiseSpecError
from harness.noise.attention import IMPLEMENTATION
from harness.noise.plan import build_plan
from harness.noise.session import NoiseSession
from harness.spec import parse_noise

pytestmark = pytest.mark.unit
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


def test_a_forward_without_item_keys_is_refused(toy):
    model = toy()
    plan = build_plan(model, parse_noise("relative_gaussian @ op:linear"))
    with NoiseSession(model, plan), pytest.raises(NoiseSpecError, match="without item keys"), torch.no_grad():
        model(**padded())


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
        assert model.config._attn_implementation == IMPLEMENTATION
    with pytest.raises(ZeroDivisionError), inside:
        1 / 0  # noqa: B018
    assert model.config._attn_implementation == "eager"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert "forward" not in model.model.rotary_emb.__dict__
    with torch.no_grad():
        assert torch.equal(model(**padded()).logits, clean)


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


def test_shared_keys_leave_the_item_out(toy):
    """One chip: at the same position two items see the same draws."""
    model, ids = toy(), torch.tensor([[1, 2, 3], [1, 2, 3]])
    inputs = {"input_ids": ids}
    shared, _ = noisy(model, "relative_gaussian @ op:linear key:shared", 0.05, inputs, ("a", "b"), (0, 0))
    by_item, _ = noisy(model, "relative_gaussian @ op:linear", 0.05, inputs, ("a", "b"), (0, 0))
    assert torch.equal(shared[0], shared[1])
    assert not torch.equal(by_item[0], by_item[1])


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
