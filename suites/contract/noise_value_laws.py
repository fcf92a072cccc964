"""The laws of what noise does to values and of what the ledger says about it, each stated once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.ledger import merge
from harness.noise import NoiseSession, noisy
from harness.numerics.error_models import perturb
from harness.numerics.keyed_random import DrawKey, Keys
from harness.record import BACKWARD, FORWARD, SiteCount
from suites.contract.noise_calls import Call, tensors
from suites.contract.noise_laws import bound, case
from suites.contract.noise_models import (
    HEADS,
    ITEMS,
    LENGTHS,
    REAL,
    VISIBLE,
    VOCAB,
    batch,
    build,
    error_of,
    noisy_run,
    passes,
    plan_of,
    same_bits,
)


def moments(error: str = "relative_gaussian", dtype: torch.dtype = torch.float32, scale: float = 0.05) -> None:
    """Law 4: the achieved relative error is the requested one, in forward and backward."""
    chosen = error_of(error).at(scale)
    wanted = chosen.expected_relative_rms(scale)
    assert wanted is not None
    run = noisy_run(build(dtype=dtype), case("hooks", chosen), scale, chosen)
    total = {FORWARD: [0.0, 0], BACKWARD: [0.0, 0]}
    for label, count in run.counts.items():
        slack = 0.02 if dtype == torch.float32 else 0.1  # gradients below the normal range of float16 round coarsely
        if count.nonzero:
            assert abs((count.relative_rms / wanted) ** 2 - 1) < bound(count.nonzero) + slack, label
        total[count.direction][0] += count.relative
        total[count.direction][1] += count.nonzero
    for direction, (relative, nonzero) in total.items():
        assert abs(relative / nonzero / wanted**2 - 1) < bound(nonzero) + 0.02, direction


def result_carries_the_error(scale: float = 0.1) -> None:
    """Law 4, without the ledger: what a linear with a large bias lets out differs from its clean result, bias and
    all, by the requested fraction."""
    model, plan = build("phi"), plan_of("phi", "op:linear include:model.layers.0.self_attn.q_proj", "auto")
    module = model.get_submodule("model.layers.0.self_attn.q_proj")
    seen: list[Tensor] = []
    with torch.no_grad():
        module.bias.fill_(10.0)
        handle = module.register_forward_hook(lambda m, a, output: seen.append(output.detach().clone()), prepend=True)
        with handle, NoiseSession(model, plan) as session, session.batch(ITEMS, [0] * 3, scale):
            after = module.register_forward_hook(lambda m, a, output: seen.append(output.detach().clone()))
            with after:
                model(**batch(padded=False), use_cache=False)
    clean, noised = seen
    ratio = (noised - clean) / clean
    assert abs(ratio.square().mean().item() / scale**2 - 1) < bound(ratio.numel())


def counts_are_analytic() -> None:
    """Law 5: calls, rows and elements per operator and operand are those that a 2-layer Qwen2 has on paper."""
    run = noisy_run(build(), plan_of("qwen2", "profile:all-ops when:both", "auto"))
    hidden, kv, mlp, dim, tokens = 16, 8, 24, 4, max(LENGTHS)
    outputs = {"q_proj": hidden, "k_proj": kv, "v_proj": kv, "o_proj": hidden}
    outputs |= {"gate_proj": mlp, "up_proj": mlp, "down_proj": hidden, "lm_head": VOCAB}
    inputs = dict.fromkeys(outputs, hidden) | {"down_proj": mlp}
    square, all_rows = VISIBLE * HEADS, len(LENGTHS) * HEADS
    forward = {"qk": square, "softmax": square, "pv": REAL * hidden, "rms_norm": REAL * hidden, "silu": REAL * mlp}
    backward = {
        ("qk", "input"): (REAL, REAL * hidden),
        ("qk", "other"): (all_rows * dim, all_rows * dim * tokens),
        ("softmax", "input"): (REAL, square),
        ("pv", "input"): (REAL, REAL * HEADS * tokens),
        ("pv", "other"): (REAL, REAL * hidden),
        ("rms_norm", "input"): (REAL, REAL * hidden),
        ("rms_norm", "weight"): (1, hidden),
        ("silu", "input"): (REAL, REAL * mlp),
    }
    sites = {"linear": 15, "rms_norm": 5, "silu": 2, "qk": 2, "softmax": 2, "pv": 2}
    wanted = {(op, FORWARD, ""): number for op, number in sites.items()}
    wanted |= {("linear", BACKWARD, operand): 15 for operand in ("input", "weight")}
    wanted |= {(op, BACKWARD, operand): sites[op] for op, operand in backward}
    assert run.calls() == wanted
    for label, count in run.counts.items():
        leaf = count.site.rpartition(".")[2]
        inside = re.search(r"layers\.(\d)", count.site)
        assert count.layer == (int(inside[1]) if inside else None), label
        if count.op == "linear":
            numbered = {"": (REAL, REAL * outputs[leaf]) if leaf in outputs else (), "input": (), "weight": ()}
            numbered["input"] = REAL, REAL * inputs[leaf]
            numbered["weight"] = outputs[leaf], outputs[leaf] * inputs[leaf]
            rows, elements = numbered[count.operand]
        elif count.direction == FORWARD:
            rows, elements = REAL, forward[count.op]
        else:
            rows, elements = backward[count.op, count.operand]
        assert (count.calls, count.rows, count.elements) == (1, rows, elements), label
        assert count.changed <= count.nonzero <= count.elements, label


def keeps_the_call(call: Call, dtype: torch.dtype = torch.float32, scale: float = 0.05) -> None:
    """Law 9: a spelling counts one call of its operator and keeps dtype, shape, strides, device and identity."""
    clean = call.run(tensors(dtype))
    given = tensors(dtype)
    with noisy(None, f"relative_gaussian({scale}) @ op:{call.op}", checked=False) as noise:
        result = call.run(given)
    assert [(count.op, count.calls, count.elements) for count in noise.counts()] == [(call.op, 1, clean.numel())]
    kept = result.dtype, result.shape, result.stride(), result.device
    assert kept == (clean.dtype, clean.shape, clean.stride(), clean.device)
    assert same_bits(result, clean) == (scale == 0)
    if call.written:
        assert result is getattr(given, call.written)


def keeps_what_is_no_number() -> None:
    """Law 9: NaN and infinity stay, and are counted; -0.0 stays; integers and bools are left alone, uncounted."""
    values = torch.tensor([float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 1.5, -2.0])
    with noisy(None, "relative_gaussian(0.5) @ op:mul,add,relu") as noise:
        result = values * torch.ones(7)
        whole = torch.arange(5) + torch.arange(5)
        answers = torch.tensor([True, False]).add(torch.tensor([True, True]))
        rectified = torch.relu(torch.tensor([-3, 4]))
    assert same_bits(result[:5], (values * torch.ones(7))[:5])
    assert not torch.equal(result[5:], values[5:])
    (count,) = noise.counts()
    assert (count.op, count.calls, count.elements, count.nonfinite) == ("mul", 1, 7, 3)
    assert whole.tolist() == [0, 2, 4, 6, 8]
    assert answers.tolist() == [True, True]
    assert rectified.tolist() == [0, 4]


def halves_add_up() -> None:
    """Law 10: the ledgers of two sets of items, merged, are the ledger of both together, backward counts too."""
    model, plan = build(), plan_of("qwen2", "op:linear,qk,pv when:both", "auto")
    given = batch(padded=False)
    whole = noisy_run(model, plan, inputs=given)
    parts: list[Any] = []
    for rows in (slice(0, 2), slice(2, 3)):
        with NoiseSession(model, plan) as session, session.batch(ITEMS[rows], [0] * len(ITEMS[rows]), 0.05):
            passes(model, None, {"input_ids": given["input_ids"][rows]})
            parts += session.ledger.drain(0.05).values()
    same_totals(merge(parts, across_processes=True), whole.counts)


def same_totals(merged: Iterable[SiteCount], whole: Mapping[str, SiteCount]) -> None:
    """The counts ``merged`` of two parts are those of the ``whole``, with twice the calls."""
    found = {count.label: count for count in merged}
    assert found.keys() == whole.keys()
    for label, count in found.items():
        if count.operand != "weight" and not label.endswith("qk backward:other"):  # rows of no item come twice
            assert (count.rows, count.elements) == (whole[label].rows, whole[label].elements), label
        if count.direction == FORWARD:
            for field in ("changed", "nonzero", "nonfinite"):
                assert getattr(count, field) == pytest.approx(getattr(whole[label], field), abs=3), label
            assert count.signal == pytest.approx(whole[label].signal, rel=1e-3), label
            assert count.error == pytest.approx(whole[label].error, rel=1e-2), label
        assert count.calls == 2 * whole[label].calls, label


def is_the_error_model(name: str) -> None:
    """What a site lets out is the error model that was asked for: its very formula, or what its draws promise."""
    chosen = error_of(name)
    y = torch.randn(400, 50, generator=torch.Generator().manual_seed(0))
    with noisy(None, f"{chosen} @ op:mul") as noise:
        after = y * torch.ones(())
    assert noise.counts()[0].changed == (after != y).sum()
    error, share = after - y, (after != y).double().mean().item()
    if not chosen.random:
        keys = DrawKey(Keys.of(torch.zeros(400, 1, dtype=torch.long)), Keys.of(torch.zeros(1, 50, dtype=torch.long)))
        assert same_bits(after, perturb(chosen, y, keys))
    elif name in ("relative_gaussian", "nondeterministic"):
        assert abs((error / y).square().mean().item() / chosen.level**2 - 1) < bound(y.numel())
    elif name == "absolute_gaussian":
        assert abs(error.square().mean().item() / chosen.level**2 - 1) < bound(y.numel())
    elif name == "stuck_at":
        stuck = (after == chosen.value).all(0)
        assert 0 < stuck.sum() < 20
        assert torch.equal(after[:, ~stuck], y[:, ~stuck])
    elif name == "stuck_lane":
        struck = (after == chosen.value).any(1)
        where = (after == chosen.value)[struck]
        assert abs(struck.double().mean().item() - chosen.level) < 6 * (chosen.level / 400) ** 0.5
        assert bool((where == where[0]).all()) and where[0].nonzero()[:, 0].diff().unique().tolist() == [3]
        assert torch.equal(after[after != chosen.value], y[after != chosen.value])
    else:
        assert abs(share - chosen.level) < 6 * (chosen.level / y.numel()) ** 0.5
        flipped = (after.view(torch.int32) ^ y.view(torch.int32))[after != y]
        assert bool((flipped == 1 << 6).all()) == (name == "bit_flip")
