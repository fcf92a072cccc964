"""The laws of the noise engine, each stated once: tests call them over every case, broken engines must fail them."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.exceptions import EvidenceError, HarnessError
from harness.noise import noisy
from harness.record import BACKWARD, FORWARD
from harness.spec.errors import ErrorModel
from suites.contract.noise_models import (
    WAYS,
    build,
    error_of,
    noisy_run,
    of_rows,
    passes,
    plan_of,
    same,
    same_bits,
)
from suites.contract.noise_toys import draws


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
    with failing(model.lm_head), pytest.raises(FloatingPointError), noisy(model, "relative_gaussian(1e-7) @ op:linear"):
        passes(model)  # no evidence either, but the first error is the one to see


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


def restores(place: str = WAYS["weights"][0], how: str = "auto", kind: str = "qwen2") -> None:
    """Law 2: nothing is left, after a normal end and after an exception inside the forward pass."""
    model = build(kind).train()
    with_generator = torch.get_rng_state()
    before = state_of(model)
    with noisy(model, f"relative_gaussian(0.1) @ {place}", way=how):
        passes(model)
    model.zero_grad(set_to_none=True)
    same_state(before, state_of(model))
    inner = [module for name, module in model.named_modules() if name.endswith(("mlp", "act_fn", "act"))]
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


def keyed_by_the_step() -> None:
    """Law 3: the same step and micro-batch give the same draws in another session, another one gives others."""
    runs = []
    for step in ((3, 0), (3, 0), (3, 1), (4, 0)):
        model = build()
        with noisy(model, "relative_gaussian(0.1) @ op:linear when:both") as noise:
            if len(runs) % 2:
                passes(model)  # the number of the forward is no part of the key
            with noise.step(*step):
                runs.append(passes(model))
    assert same(runs[0], runs[1])
    assert not any(same_bits(runs[0].logits, other.logits) for other in runs[2:])


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
