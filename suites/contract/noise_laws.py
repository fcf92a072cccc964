"""The laws of the noise engine, each stated once: tests call them over every case, and broken engines must fail them."""

from __future__ import annotations

import contextlib
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from noise_calls import Call, tensors
from noise_models import (
    HEADS,
    ITEMS,
    LENGTHS,
    REAL,
    VISIBLE,
    VOCAB,
    WAYS,
    Run,
    batch,
    build,
    error_of,
    noisy_run,
    numbers,
    of_rows,
    passes,
    plan_of,
    same,
    same_bits,
)
from noise_toys import draws
from torch import Tensor, nn

from harness.exceptions import EvidenceError, HarnessError
from harness.ledger import merge
from harness.noise import NoiseSession, noisy
from harness.record import BACKWARD, FORWARD
from harness.spec.errors import ErrorModel


def bound(count: int, sigmas: float = 6.0) -> float:
    """How far the mean square of ``count`` draws may lie from 1: its standard deviation is sqrt(2 / count)."""
    return sigmas * (2 / count) ** 0.5


def case(way: str, error: ErrorModel) -> Any:
    """The plan of the way ``way``, as far as ``error`` can go it."""
    place, how = WAYS[way]
    return plan_of("qwen2", of_rows(place) if error.row_statistic else place, how)


def clean_at_zero(way: str = "hooks", error: str = "relative_gaussian", dtype: torch.dtype = torch.float32) -> None:
    """Law 1: at strength 0 the bits of outputs and gradients are the clean ones, and everything was counted."""
    model, chosen = build(dtype=dtype), error_of(error)
    clean = passes(model)
    zero = noisy_run(model, case(way, chosen), 0.0, chosen)
    assert same(clean, zero)
    assert zero.counts
    for label, count in zero.counts.items():
        assert count.calls > 0, label
        assert (count.changed, count.error, count.relative) == (0, 0.0, 0.0), label
    directions = {count.direction for count in zero.counts.values()}
    assert directions == ({FORWARD} if way == "weights" else {FORWARD, BACKWARD})


def changes(way: str = "hooks", error: str = "relative_gaussian", dtype: torch.dtype = torch.float32) -> None:
    """Above strength 0 outputs and gradients change, dtypes and shapes do not, and the ledger says so."""
    model, chosen = build(dtype=dtype), error_of(error)
    clean = passes(model)
    noisy_one = noisy_run(model, case(way, chosen), chosen.level, chosen)
    assert sum(count.changed for count in noisy_one.counts.values()) > 0
    assert not same_bits(clean.logits, noisy_one.logits)
    assert noisy_one.gradients.keys() == clean.gradients.keys()
    for name, gradient in noisy_one.gradients.items():
        kept = gradient.dtype, gradient.shape, gradient.stride()
        assert kept == (clean.gradients[name].dtype, clean.gradients[name].shape, clean.gradients[name].stride()), name
    assert (noisy_one.logits.dtype, noisy_one.logits.shape) == (dtype, clean.logits.shape)


def proves_something() -> None:
    """Law 1: leaving a block whose noise changed nothing raises; at strength 0, or after another error, it does not."""
    model = build(dtype=torch.bfloat16)
    for spec in ("relative_gaussian(1e-7) @ op:linear", "absolute_saturation(1e6) @ op:linear when:both"):
        with pytest.raises(EvidenceError, match="changed none"), noisy(model, spec):
            passes(model)
    with pytest.raises(EvidenceError, match="nothing was counted"), noisy(model, "relative_gaussian(0.1) @ op:linear"):
        pass
    with noisy(model, "relative_gaussian(0) @ op:linear") as control:
        passes(model)
    control.require(effective=False, sites=15)
    with pytest.raises(ZeroDivisionError), noisy(model, "relative_gaussian(1e-7) @ op:linear"):
        passes(model)
        raise ZeroDivisionError


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything that a session might leave behind."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        for field, value in module.__dict__.items():
            if isinstance(value, OrderedDict | dict):
                found[f"{name}|{field}"] = [(key, id(entry)) for key, entry in value.items()]
            else:
                found[f"{name}|{field}"] = id(value) if not isinstance(value, bool) else value
    found |= {f"{name}|bits": parameter.detach().clone() for name, parameter in model.named_parameters()}
    found["config"] = dict(vars(model.config))
    found["attention"] = model.config._attn_implementation
    found["modes"] = [id(mode) for mode in torch.overrides._get_current_function_mode_stack()]
    found["generator"] = torch.get_rng_state()
    return found


def same_state(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Asserts equal states of :func:`state_of`, naming what differs."""
    assert before.keys() == after.keys(), set(before) ^ set(after)
    for name, value in before.items():
        equal = same_bits(value, after[name]) if isinstance(value, Tensor) else value == after[name]
        assert equal, name


@contextlib.contextmanager
def failing(module: nn.Module) -> Iterator[None]:
    """``module`` raises in the middle of its forward pass."""

    def hook(*ignored: Any) -> None:
        raise FloatingPointError

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def restores(way: str = "weights", kind: str = "qwen2") -> None:
    """Law 2: nothing is left, after a normal end and after an exception inside the forward pass."""
    model = build(kind).train()
    with_generator = torch.get_rng_state()
    place, how = WAYS[way]
    before = state_of(model)
    with noisy(model, f"relative_gaussian(0.1) @ {place}", way=how):
        passes(model)
    model.zero_grad(set_to_none=True)
    same_state(before, state_of(model))
    inner = [module for name, module in model.named_modules() if name.endswith(("mlp", "act_fn"))]
    for module in inner[-2:]:
        with failing(module):
            armed = state_of(model)
            with (
                pytest.raises(FloatingPointError),
                noisy(model, f"relative_gaussian(0.1) @ {place}", way=how),
            ):
                passes(model)
            same_state(armed, state_of(model))
    same_state(before, state_of(model))
    assert torch.equal(with_generator, torch.get_rng_state())


def keyed_by_everything() -> None:
    """Law 3: seed, item, position, feature, site, head and the key's position each give another draw."""

    def repeats(first: Tensor, second: Tensor) -> float:
        return (first == second).double().mean().item()

    two = draws(("a", "b"), tokens=8)
    again, other = draws(("a", "b"), tokens=8), draws(("a", "b"), seed=1, tokens=8)
    for name, drawn in two.items():
        assert torch.equal(drawn, again[name]), name
        assert repeats(drawn, other[name]) < 0.1, f"{name}: seed"
        assert repeats(drawn[0], drawn[1]) < 0.1, f"{name}: item"
        assert repeats(drawn[..., :-1, :], drawn[..., 1:, :]) < 0.1, f"{name}: position"
        assert repeats(drawn[..., :-1], drawn[..., 1:]) < 0.1, f"{name}: feature"
    assert repeats(two["first"], two["second"]) < 0.1, "site"
    for name in ("qk", "pv"):
        assert repeats(two[name][:, 0], two[name][:, 1]) < 0.1, f"{name}: head"
    assert repeats(two["qk"][:, 0, :, :4], two["pv"][:, 0]) < 0.1, "site of attention"


def keyed_by_nothing_else() -> None:
    """Law 3: order, size and padding of the batch, and the global generator, change no draw."""
    mask = torch.ones(3, 6, dtype=torch.long)
    mask[1, :2] = 0
    before = torch.get_rng_state()
    alone = draws(("b",), tokens=4)
    torch.rand(7)
    padded = draws(("c", "b", "a"), mask=mask, tokens=6)
    torch.set_rng_state(before)
    for name in ("first", "second"):
        assert torch.equal(alone[name][0], padded[name][1, 2:]), name
    assert torch.equal(alone["qk"][0], padded["qk"][1, :, 2:, 2:])
    # results of PV are 1 up to the rounding of 1 / tokens
    assert torch.allclose(alone["pv"][0], padded["pv"][1, :, 2:], atol=1e-5)
    swapped, ordered = draws(("b", "a")), draws(("a", "b"))
    for name, drawn in swapped.items():
        assert torch.equal(drawn.flip(0), ordered[name]), name


def leaves_generator_alone() -> None:
    """Law 3: the global generator is neither read nor moved."""
    model = build("gpt2").train()
    runs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        with noisy(model.eval(), "relative_gaussian(0.1) @ op:linear when:both"):
            runs.append(passes(model))
        assert torch.equal(before, torch.get_rng_state())
    assert same(*runs)


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
    merged = Run(whole.logits, {}, {count.label: count for count in merge(parts, across_processes=True)})
    assert merged.counts.keys() == whole.counts.keys()
    for label, count in merged.counts.items():
        if not count.operand == "weight" and not label.endswith("qk backward:other"):  # rows of no item come twice
            assert numbers(merged.counts)[label][1:3] == numbers(whole.counts)[label][1:3], label
        if count.direction == FORWARD:
            assert count.signal == pytest.approx(whole.counts[label].signal, rel=1e-3), label
        assert count.calls == 2 * whole.counts[label].calls, label


def refuses_what_matches_nothing() -> None:
    """Law 8: a name that matches nothing raises and names the nearest; so does a place that is perturbed twice."""
    model = build()
    for spec, words in (
        ("relative_gaussian(0.1) @ op:gelu", "rms_norm"),
        ("relative_gaussian(0.1) @ module:q_porj", "q_proj"),
        ("relative_gaussian(0.1) @ op:linear layers:7", "0-1"),
        ("relative_gaussian(0.1) @ op:linaer", "linear"),
        ("relative_gaussian(0.1) @ op:linear; relative_bias(0.1) @ module:lm_head", "twice"),
        ("relative_gaussian(0.1) @ op:linear when:both; relative_bias(0.1) @ op:linear when:backward", "twice"),
    ):
        with pytest.raises(HarnessError, match=words), noisy(model, spec):
            pass
    with (
        pytest.raises(HarnessError, match="twice"),
        noisy(None, "relative_gaussian(0.1) @ op:matmul; relative_bias(0.1) @ op:matmul,add"),
    ):
        pass
