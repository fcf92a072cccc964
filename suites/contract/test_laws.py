"""Laws of the noise engine on a toy model, over dtypes and profiles."""

from __future__ import annotations

import pytest
import torch

from harness.noise.planner import build_plan
from harness.noise.session import NoiseSession
from harness.spec import parse_noise
from harness.thresholds import effect_bounds

pytestmark = pytest.mark.contract
SPECS = (
    *("op:linear", "op:qk", "op:pv", "op:rotary", "profile:matmul", "profile:all-ops"),
    *("op:softmax,embedding,rms_norm,silu", "op:add,mul", "scope:mlp", "class:Qwen2DecoderLayer"),
)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def forward(model, spec, scale):
    """(logits with noise, ledger)."""
    ids = torch.randint(0, 64, (4, 40), generator=torch.Generator().manual_seed(0))
    plan = build_plan(model, parse_noise(f"relative_gaussian @ {spec}"))
    items = [f"item{row}" for row in range(4)]
    with torch.no_grad(), NoiseSession(model, plan) as session, session.batch(items, [0] * 4, scale):
        logits = model(input_ids=ids).logits
        return logits, session.ledger.drain(scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", SPECS)
def test_scale_zero_is_bitwise_clean_and_still_counted(toy, spec, dtype):
    model = toy("eager", dtype)
    ids = torch.randint(0, 64, (4, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        clean = model(input_ids=ids).logits
    logits, counts = forward(model, spec, 0.0)
    assert torch.equal(logits, clean)
    assert logits.dtype == dtype
    assert all(count.calls == 1 and count.changed == 0 and count.error == 0 for count in counts.values())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.02, 0.05, 0.10, 1.0])
@pytest.mark.parametrize("spec", ["profile:matmul", "profile:all-ops"])
def test_achieved_error_is_the_requested_one(toy, spec, scale, dtype):
    _, counts = forward(toy("eager", dtype), spec, scale)
    for count in counts.values():
        low, high = effect_bounds(count.nonzero)
        assert low <= count.relative_rms / scale <= high, count
        assert (count.error / count.signal) ** 0.5 == pytest.approx(scale, rel=0.35), count


@pytest.mark.parametrize(("dtype", "scale"), [(torch.bfloat16, 3e-4), (torch.bfloat16, 1e-3), (torch.float16, 1e-4)])
def test_a_dtype_that_cannot_carry_the_scale_is_seen(toy, dtype, scale):
    _, counts = forward(toy("eager", dtype), "op:linear", scale)
    outside = 0
    for count in counts.values():
        low, high = effect_bounds(count.nonzero)
        outside += not low <= count.relative_rms / scale <= high
    assert outside == len(counts)


@pytest.mark.parametrize("spec", SPECS)
def test_eager_attention_with_exposed_products_is_eager_attention(toy, spec):
    """The registered attention at scale 0 is bitwise the model's own, mask included."""
    model = toy("eager")
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[0, :5] = 0
    given = {"input_ids": torch.arange(24).view(2, 12), "attention_mask": mask}
    plan = build_plan(model, parse_noise(f"relative_gaussian @ {spec}"))
    with torch.no_grad():
        clean = model(**given).logits
        with NoiseSession(model, plan) as session, session.batch(["a", "b"], [0, 0], 0.0):
            assert torch.equal(model(**given).logits[mask.bool()], clean[mask.bool()])


def test_ledgers_of_two_halves_add_up_to_the_whole(toy):
    model = toy("eager")
    plan = build_plan(model, parse_noise("relative_gaussian @ profile:matmul"))
    ids = torch.randint(0, 64, (4, 10), generator=torch.Generator().manual_seed(0))

    def ledger(rows):
        with torch.no_grad(), NoiseSession(model, plan) as session:
            with session.batch([f"item{row}" for row in rows], [0] * len(rows), 0.05):
                model(input_ids=ids[rows])
            return session.ledger.drain(0.05)

    whole, first, second = ledger([0, 1, 2, 3]), ledger([0, 1]), ledger([2, 3])
    for name, count in whole.items():
        merged = first[name] + second[name]
        for field in ("rows", "elements", "changed", "nonzero", "nonfinite"):
            assert getattr(merged, field) == getattr(count, field)
        assert merged.signal == pytest.approx(count.signal, rel=1e-4)
        assert merged.relative == pytest.approx(count.relative, rel=1e-3)


def test_shape_dtype_and_device_are_kept(toy):
    for dtype in DTYPES:
        logits, _ = forward(toy("eager", dtype), "profile:matmul", 0.05)
        assert (logits.shape, logits.dtype, logits.device.type) == ((4, 40, 64), dtype, "cpu")


def test_negative_zero_nan_and_infinity_are_kept():
    from harness.numerics.error_models import relative_gaussian

    y = torch.tensor([-0.0, 0.0, float("inf"), float("-inf"), float("nan"), 2.0])
    assert torch.equal(relative_gaussian(y, torch.zeros(6)).view(torch.int32), y.view(torch.int32))
    for draws in (torch.zeros(6), torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0, 0.0])):
        after = relative_gaussian(y, draws)
        assert torch.equal(after[2:4], y[2:4])
        assert after[4].isnan()
        assert after[5] == 2.0
