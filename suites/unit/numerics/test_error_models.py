"""The laws that hold for every error model: what is kept, what decides a draw, what is refused."""

import pytest
import torch

from harness.exceptions import NoiseSpecError
from harness.numerics.error_models import perturb
from harness.spec.errors import (
    ERROR_MODELS,
    BitFlip,
    ErrorModel,
    FakeQuant,
    RelativeBias,
    RelativeGaussian,
    Spike,
    StuckAt,
)
from harness.spec.faults import BitFlips, FaultMix
from harness.spec.formats import FORMATS
from suites.unit.numerics.perturbing import DTYPES, MODELS, all_sorts, key_for, label, same_bits

pytestmark = pytest.mark.unit
every_model = pytest.mark.parametrize("model", MODELS, ids=label)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def some(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def test_the_laws_are_tried_on_every_model():
    assert {type(model) for model in MODELS} == set(ERROR_MODELS.values())


@every_dtype
@every_model
def test_strength_0_changes_no_bit(model, dtype):
    """Every pattern of the 16-bit dtypes, NaN with any payload, infinity and -0.0 included."""
    x = all_sorts(dtype)
    for level in (0, 0.0, torch.tensor(0.0)):
        assert same_bits(perturb(model, x, key_for(256, 256), level), x)
    assert same_bits(perturb(model.at(0), x, key_for(256, 256), level=0.0), x)


@every_dtype
@every_model
def test_nan_and_infinity_keep_their_bits(model, dtype):
    x = all_sorts(dtype)
    after = perturb(model, x, key_for(256, 256))
    untouchable = ~torch.isfinite(x)
    assert untouchable.sum() >= 256
    assert same_bits(after[untouchable], x[untouchable])
    format_of_x = f"torch.{FORMATS[model.format].element.dtype}" if isinstance(model, FakeQuant) else None
    assert same_bits(after, x) == (str(dtype) == format_of_x)


@every_dtype
@every_model
def test_shape_and_dtype_are_kept_and_x_is_not_modified(model, dtype):
    for shape in ((5,), (3, 40), (2, 3, 40), (2, 2, 3, 40), (0, 5), (3, 0)):
        x = some(*shape, dtype=dtype)
        before = x.clone()
        after = perturb(model, x, key_for(*shape))
        assert (after.shape, after.dtype) == (x.shape, dtype)
        assert same_bits(x, before)
        assert after is not x
        assert after.numel() == 0 or after.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("model", [m for m in MODELS if not isinstance(m, BitFlip | BitFlips | FaultMix)], ids=label)
def test_lower_precisions_compute_in_float32_and_round_once(model, dtype):
    x = some(64, 96, dtype=dtype)
    key = key_for(64, 96)
    assert same_bits(perturb(model, x, key), perturb(model, x.float(), key).to(dtype))


@every_dtype
@every_model
def test_rows_can_be_given_in_chunks(model, dtype):
    x = some(13, 257, dtype=dtype)
    x[2, 5], x[7, :] = float("inf"), float("nan")
    key = key_for(13, 257)
    whole = perturb(model, x, key)
    for step in (1, 2, 5):
        parts = [
            perturb(model, x[at : at + step], key._replace(rows=type(key.rows)(*(k[at : at + step] for k in key.rows))))
            for at in range(0, 13, step)
        ]
        assert same_bits(torch.cat(parts), whole)


@every_dtype
@every_model
def test_strides_do_not_matter(model, dtype):
    dense = some(24, 36, dtype=dtype)
    key = key_for(24, 36)
    want = perturb(model, dense, key)
    spread_out = torch.zeros(24, 72, dtype=dtype)
    spread_out[:, ::2] = dense
    for x in (dense.t().contiguous().t(), spread_out[:, ::2]):
        assert not x.is_contiguous()
        assert same_bits(perturb(model, x, key).contiguous(), want)
    expanded = dense[:1].expand(24, 36)
    assert same_bits(perturb(model, expanded, key), perturb(model, expanded.contiguous(), key))
    assert same_bits(expanded.contiguous()[7:8], dense[:1])


@every_model
def test_only_the_key_decides_and_the_global_generator_is_untouched(model):
    x = some(20, 30)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = perturb(model, x, key_for(20, 30))
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    assert same_bits(perturb(model, x, key_for(20, 30)), first)


@every_model
def test_other_keys_give_other_draws(model):
    """Of models that draw; a stuck feature does not ask for the row, and models without draws for neither."""
    x = some(40, 50)
    first = perturb(model, x, key_for(40, 50))
    drawing = model.random and not isinstance(model, StuckAt)
    other_rows = perturb(model, x, key_for(40, 50, rows="other"))
    other_columns = perturb(model, x, key_for(40, 50, columns="other"))
    assert same_bits(other_rows, first) != drawing
    assert same_bits(other_columns, first) != (drawing or isinstance(model, StuckAt))
    assert model.random == (drawing or isinstance(model, StuckAt))


@every_dtype
@every_model
def test_a_level_replaces_the_strength(model, dtype):
    x = some(30, 40, dtype=dtype)
    key = key_for(30, 40)
    want = perturb(model, x, key)
    exact = torch.tensor(model.level, dtype=torch.float64)
    for level in (model.level, exact):
        assert same_bits(perturb(model.without_level, x, key, level), want)
        assert same_bits(perturb(model.at(0.9), x, key, level), want)
    if model.strength is not None:
        assert not same_bits(perturb(model, x, key, 0.9), want)


@every_model
def test_a_level_of_its_own_for_every_row(model):
    x = some(6, 40)
    levels = torch.tensor([[0.0], [0.1], [0.2], [0.5], [0.7], [0.9]])
    key = key_for(6, 40)
    together = perturb(model, x, key, levels)
    for row, level in enumerate(levels):
        rows = type(key.rows)(*(half[row : row + 1] for half in key.rows))
        assert same_bits(perturb(model, x[row : row + 1], key._replace(rows=rows), level[0]), together[row : row + 1])


@pytest.mark.parametrize("model", [m for m in MODELS if m.strength], ids=label)
def test_without_a_strength_there_is_no_error(model):
    with pytest.raises(ValueError, match=f"no {model.strength} for {model.name}"):
        perturb(model.without_level, some(2, 3), key_for(2, 3))


@pytest.mark.parametrize("level", [-0.1, float("nan"), float("inf")])
def test_a_level_that_the_model_refuses(level):
    with pytest.raises(NoiseSpecError, match="relative_gaussian"):
        perturb(RelativeGaussian(0.1), some(2, 3), key_for(2, 3), level)


def test_a_rate_is_at_most_1():
    with pytest.raises(NoiseSpecError, match="fraction"):
        perturb(Spike(), some(2, 3), key_for(2, 3), 1.5)


def test_what_cannot_be_perturbed():
    key = key_for(2, 3)
    for dtype in (torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn):
        with pytest.raises(TypeError, match=f"dtype {dtype}"):
            perturb(RelativeBias(0.1), torch.ones(2, 3).to(dtype), key)
    with pytest.raises(ValueError, match="without dimensions"):
        perturb(RelativeBias(0.1), torch.tensor(1.0), key)
    with pytest.raises(TypeError, match="error model ErrorModel"):
        perturb(ErrorModel(), torch.ones(2, 3), key)


def test_keys_and_levels_must_not_be_larger_than_x():
    with pytest.raises(ValueError, match=r"shape \(4, 3\); x has only \(1, 3\)"):
        perturb(RelativeGaussian(0.1), torch.ones(1, 3), key_for(4, 3))
    with pytest.raises(ValueError, match=r"shape \(4, 3\); x has only \(3,\)"):
        perturb(RelativeBias(0.1), torch.ones(3), key_for(1, 3), torch.zeros(4, 1))


@pytest.mark.parametrize(
    ("dtype", "bit", "top"), [(torch.bfloat16, 16, 15), (torch.float16, 31, 15)], ids=["bf16", "fp16"]
)
def test_a_bit_that_the_dtype_does_not_have(dtype, bit, top):
    with pytest.raises(ValueError, match=f"bit {bit} of bit_flip; {dtype} has the bits 0 to {top}"):
        perturb(BitFlip(0.1, bit), some(2, 3, dtype=dtype), key_for(2, 3))
    perturb(BitFlip(0.1, top), some(2, 3, dtype=dtype), key_for(2, 3))
