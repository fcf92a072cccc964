"""Law 9 on bare function calls: every spelling, any shape, any value."""

from __future__ import annotations

import itertools
import operator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.noise import noisy
from harness.noise.ways import functions
from harness.record import BACKWARD, FORWARD
from harness.spec.errors import ERROR_MODELS
from suites.contract import noise_value_laws as value_laws
from suites.contract.noise_calls import CALLS, EVERY, IN_PLACE, tensors
from suites.contract.noise_models import error_of, same_bits

pytestmark = pytest.mark.contract
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
UNREACHED = {
    f"Tensor.__{name}__" for name in ("add", "radd", "iadd", "mul", "rmul", "imul", "truediv", "itruediv", "div")
}
"""Slots that torch itself hands on to ``Tensor.add``, ``add_``, ``mul`` ... before any mode sees them."""

quick = settings(max_examples=20, deadline=None)
many = settings(max_examples=200, deadline=None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("call", EVERY, ids=str)
def test_every_spelling_counts_once_and_keeps_its_form(call, dtype):
    value_laws.keeps_the_call(call, dtype, 0.1)
    value_laws.keeps_the_call(call, dtype, 0.0)


def test_no_spelling_of_the_table_is_left_out(monkeypatch):
    seen = set()
    honest = functions.FunctionMode.__torch_function__

    def noting(self, func, types, args=(), kwargs=None):
        seen.add(func)
        return honest(self, func, types, args, kwargs)

    monkeypatch.setattr(functions.FunctionMode, "__torch_function__", noting)
    for call in EVERY:
        with noisy(None, f"relative_gaussian(0.1) @ op:{call.op}", checked=False):
            call.run(tensors())
    unreached = {operator.attrgetter(name)(torch) for name in UNREACHED | {"Tensor.__matmul__"}}
    assert set(functions.spellings()) - seen <= unreached


@pytest.mark.parametrize("call", CALLS + IN_PLACE, ids=str)
def test_gradients_of_every_spelling(call):
    """Each operand's gradient is perturbed once; at strength 0 outputs and gradients have the clean bits."""
    clean, zero, noised = (tensors(gradients=True) for _ in range(3))
    expected = call.run(clean)
    seed = torch.ones_like(expected)
    expected.backward(seed)
    for given_tensors, scale in ((zero, 0.0), (noised, 0.1)):
        with noisy(None, f"relative_gaussian({scale}) @ op:{call.op} when:both", checked=False) as noise:
            result = call.run(given_tensors)
            result.backward(seed)
        directions = sorted((count.direction, count.operand, count.calls) for count in noise.counts())
        assert directions == sorted([(FORWARD, "", 1), *((BACKWARD, operand, 1) for operand in call.operands)])
        if call.written:
            assert result is getattr(given_tensors, call.written)
        for first, second in zip(_leaves(clean), _leaves(given_tensors), strict=True):
            assert (first.grad is None) == (second.grad is None)
            if first.grad is not None and scale == 0:
                assert same_bits(first.grad, second.grad)
        assert same_bits(result, expected) == (scale == 0)


def _leaves(given_tensors):
    for value in vars(given_tensors).values():
        for tensor in value if isinstance(value, list) else [value]:
            if tensor.is_leaf and tensor.requires_grad:
                yield tensor


def test_an_in_place_result_may_be_written_again():
    """What noise returns is a tensor like any other: user code may go on in place, with gradients."""
    weight = torch.linspace(0.1, 1.6, 16).view(4, 4).requires_grad_()
    with noisy(None, "relative_gaussian(0.1) @ op:matmul,add,relu when:both") as noise:
        hidden = weight @ torch.ones(4, 4)
        hidden += 1
        hidden = torch.relu_(hidden)
        hidden.mul_(2)
        hidden.sum().backward()
    assert weight.grad is not None and weight.grad.any()
    assert [count.calls for count in noise.counts() if count.direction == FORWARD] == [1, 1, 1]


def test_values_that_are_no_numbers_stay():
    value_laws.keeps_what_is_no_number()


@pytest.mark.parametrize("error", ERROR_MODELS)
def test_each_error_model_is_the_one_asked_for(error):
    value_laws.is_the_error_model(error)


def layouts(draw, shape, dtype):
    """A tensor of ``shape``: contiguous, transposed, sliced or expanded."""
    kind = draw(st.sampled_from(["plain", "transposed", "sliced", "expanded"]))
    seed = torch.Generator().manual_seed(draw(st.integers(0, 99)))

    def make(*sizes):
        if not dtype.is_floating_point and not dtype.is_complex:
            return torch.randint(0, 2, sizes, generator=seed).to(dtype)
        real = torch.randn(sizes, generator=seed)
        return torch.complex(real, real.flip(-1) if sizes else real).to(dtype) if dtype.is_complex else real.to(dtype)

    if kind == "transposed" and len(shape) > 1:
        return make(*reversed(shape)).permute(*reversed(range(len(shape))))
    if kind == "sliced" and shape:
        return make(*(2 * size for size in shape))[tuple(slice(None, None, 2) for _ in shape)]
    if kind == "expanded" and shape:
        return make(1, *shape[1:]).expand(*shape)
    return make(*shape)


@st.composite
def operands(draw):
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    kinds = (*DTYPES, torch.complex64, torch.complex128, torch.int64, torch.int8, torch.bool)
    dtype = draw(st.sampled_from(kinds))
    return layouts(draw, shape, dtype), layouts(draw, shape, dtype)


def law_of_shapes(pair, op, error):
    first, second = pair
    function = {"add": torch.add, "mul": torch.mul}[op]
    clean = function(first, second)
    chosen = error_of(error)
    with noisy(None, f"{chosen} @ op:{op}", checked=False) as noise:
        result = function(first, second)
    kept = result.dtype, result.shape, result.stride(), result.device
    assert kept == (clean.dtype, clean.shape, clean.stride(), clean.device)
    if not clean.is_floating_point() and not clean.is_complex():
        assert torch.equal(result, clean)
        assert not noise.counts()
        return
    (count,) = noise.counts()
    parts = 2 if clean.is_complex() else 1
    assert (count.op, count.calls, count.elements) == (op, 1, parts * clean.numel())
    before, after = (torch.view_as_real(x) if parts == 2 else x for x in (clean, result))
    assert count.changed == (before != after).sum() or clean.dtype in (torch.float64, torch.complex128)
    assert count.nonzero == (before != 0).sum()


@pytest.mark.parametrize(("op", "error"), list(itertools.product(["add", "mul"], ["relative_gaussian", "truncation"])))
@quick
@given(pair=operands())
def test_any_shape_and_layout(op, error, pair):
    law_of_shapes(pair, op, error)


@pytest.mark.thorough
@pytest.mark.parametrize(("op", "error"), list(itertools.product(["add", "mul"], ERROR_MODELS)))
@many
@given(pair=operands())
def test_any_shape_and_layout_thoroughly(op, error, pair):
    law_of_shapes(pair, op, error)


def law_of_values(values, error, dtype, scale):
    """Strength 0 keeps every bit; above it NaN and infinity stay, and a zero stays the zero it is."""
    given_tensor = torch.tensor(values, dtype=torch.float64).to(dtype)
    clean = given_tensor * torch.ones((), dtype=dtype)
    chosen = error_of(error)
    spec = f"{chosen.at(chosen.level * scale)} @ op:mul"
    with noisy(None, spec, checked=False) as noise:
        result = given_tensor * torch.ones((), dtype=dtype)
    (count,) = noise.counts()
    assert count.nonfinite >= (~clean.isfinite()).sum()
    assert torch.equal(result.isnan() & clean.isnan(), clean.isnan())
    assert same_bits(result[clean.isinf()], clean[clean.isinf()])
    if scale == 0 and chosen.strength is not None:
        assert same_bits(result, clean)
    if error in ("relative_gaussian", "relative_bias", "systematic_bias", "nondeterministic"):
        assert same_bits(result[clean == 0], clean[clean == 0])


values_of_all_kinds = st.lists(st.floats(width=32) | st.sampled_from([0.0, -0.0]), min_size=1, max_size=12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("error", ERROR_MODELS)
@settings(max_examples=5, deadline=None)
@given(values=values_of_all_kinds, scale=st.sampled_from([0, 1]))
def test_any_value(error, dtype, values, scale):
    law_of_values(values, error, dtype, scale)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("error", ERROR_MODELS)
@many
@given(values=values_of_all_kinds, scale=st.sampled_from([0, 1]))
def test_any_value_thoroughly(error, dtype, values, scale):
    law_of_values(values, error, dtype, scale)
