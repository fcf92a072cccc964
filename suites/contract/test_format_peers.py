"""Known defects and choices of other quantizers, pinned: these tests fail when a peer changes, not when we do.

Each says what the peer does, and what ours does instead.
"""

import math

import gfloat
import ml_dtypes
import numpy as np
import pytest
import torch

from harness.numerics import fake_quantize
from suites.contract.format_checks import assert_same, differing, ours
from suites.contract.format_data import normals
from suites.contract.format_peers import (
    MX_OF_TORCHAO,
    gfloat_element,
    gfloat_mx,
    torchao,
    torchao_element,
    torchao_mx,
    torchao_nvfp4,
)
from suites.contract.format_reference import MX, element, labels, two_levels

pytestmark = pytest.mark.contract
NAN, INF = math.nan, math.inf


@pytest.fixture(scope="module")
def ao():
    modules = torchao()
    if modules is None:
        pytest.skip("torchao is neither installed nor in the folder oracles of this environment")
    return modules


def cast(value, dtype):
    with np.errstate(all="ignore"):
        return float(np.float32(value).astype(dtype))


def test_casts_of_ml_dtypes_out_of_range():
    """Ours clips first, and makes the block of NaN or infinity NaN."""
    e4m3, e5m2, e2m1 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float4_e2m1fn
    assert cast(464, e4m3) == 448 and math.isnan(cast(465, e4m3)) and math.isnan(cast(INF, e4m3))
    assert cast(61439, e5m2) == 57344 and cast(61440, e5m2) == INF
    assert cast(100, e2m1) == 6 == cast(INF, e2m1)
    assert math.copysign(1, cast(NAN, e2m1)) == -1 and cast(NAN, e2m1) == 0, "NaN becomes -0"
    x = torch.tensor([[465.0, 61440.0, 100.0]])
    assert [fake_quantize(x, f"fp{name}")[0, at].item() for at, name in enumerate(("8_e4m3", "8_e5m2", "4_e2m1"))] == [
        *(448, 57344, 6)
    ]


def test_casts_of_torch_out_of_range():
    """E4M3 saturates from torch 2.12 on and gave NaN before; E5M2 never does."""
    saturates = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 12)
    after = torch.tensor([465.0, INF]).to(torch.float8_e4m3fn).float()
    assert after.tolist() == [448, 448] if saturates else after.isnan().all()
    assert torch.tensor(61440.0).to(torch.float8_e5m2).float() == INF


def test_casts_to_e8m0_are_no_scale_rule():
    """They round to nearest; the rules take the exponent and round it down or up."""
    for given, found in ((1.5, 2), (3.0, 4), (1.4, 1), (2.9, 2)):
        assert cast(given, ml_dtypes.float8_e8m0fnu) == found
        assert torch.tensor(given).to(torch.float8_e8m0fnu).float() == found
    assert math.isnan(cast(0, ml_dtypes.float8_e8m0fnu)) and math.isnan(cast(-1, ml_dtypes.float8_e8m0fnu))
    assert torch.tensor([0.0, -1.0]).to(torch.float8_e8m0fnu).float().tolist() == [2.0**-127, 1.0]


def test_torchao_elements_that_are_not_finite(ao):
    """Infinity is clipped, NaN becomes a number (1.5 or 1 by its sign); ours: NaN."""
    for name, top in (("fp4_e2m1", 6.0), ("fp6_e2m3", 7.5), ("fp6_e3m2", 28.0)):
        after = torchao_element(ao, torch.tensor([INF, -INF, NAN]), name)
        assert after[:2].tolist() == [top, -top] and after[2].isfinite() and after[2] != 0
        assert ours(torch.tensor([[INF, -INF, NAN]]), name).isnan().all()


@pytest.mark.parametrize("name", MX_OF_TORCHAO)
def test_torchao_halves_blocks_whose_scale_is_the_least(name, ao):
    """It stores 2**-127 and divides by 2**-126: every value comes out halved (RCEIL: as zero). Ours has no such gap."""
    largest = {"mxfp8_e4m3": 2.0**-119, "mxfp8_e5m2": 2.0**-112}.get(name, 2.0**-126)
    x = (normals(50, 32, 21).clamp(-3, 3) * largest / 4).float()
    halved = element(MX[name][0], x.numpy() * np.float32(2.0**126)) * 2.0**-127
    for rule in ("floor", "even", "ceil"):
        assert_same(torchao_mx(ao, x, name, rule), torch.from_numpy(np.copysign(halved, x.numpy())).float(), x, rule)
        assert differing(torchao_mx(ao, x, name, rule), ours(x, name, rule)).any()
    assert (torchao_mx(ao, x, name, "rceil") == 0).all()
    if name.startswith("mxfp8"):
        error = (ours(x, name) - x).double().square().sum() / x.double().square().sum()
        assert error < 0.01


def test_torchao_and_gfloat_on_infinity(ao):
    """torchao keeps infinity and zeroes the rest of the block; gfloat the same; ours: the block is NaN."""
    x = torch.linspace(-1, 1, 64).view(2, 32).clone()
    x[0, 3] = INF
    after = torchao_mx(ao, x, "mxfp8_e4m3", "floor")
    assert not (after[0].nan_to_num(0, 0, 0) != 0).any() and not after[0].isfinite().all()
    with np.errstate(all="ignore"):
        theirs = gfloat_mx(x.numpy(), "fp8_e4m3")
    assert (np.delete(theirs[0], 3) == 0).all()
    mine = ours(x, "mxfp8_e4m3")
    assert mine[0].isnan().all() and mine[1].isfinite().all()


def test_gfloat_refuses_nan_in_formats_without_one():
    x = np.full((1, 32), NAN)
    with pytest.raises(ValueError, match="No NaN in format ocp_e2m1"), np.errstate(all="ignore"):
        gfloat_mx(x, "fp4_e2m1")
    assert gfloat_element(np.array([INF]), "fp4_e2m1").tolist() == [6.0]
    assert gfloat.RoundMode.TiesToEven


def test_torchao_clamps_nvfp4_block_scales_to_normal_numbers(ao):
    """Its least block scale is 2**-6, ours 2**-9 (subnormal in E4M3): blocks far below the largest lose less."""
    x = normals(64, 256, 22).float()
    x[:, 16:] *= 2.0**-16
    x[:, 0] = 6
    outer = x.abs().max().item()
    label = labels(x.shape, 1, 16)
    amax = x.reshape(-1, 16).abs().amax(1).numpy()
    clamped = np.copysign(two_levels(x.numpy(), amax, label, outer, least=2.0**-6), x.numpy())
    assert_same(torchao_nvfp4(ao, x), torch.from_numpy(clamped), x)
    small = slice(16, None)
    theirs, mine = ((after - x)[:, small].square().sum() for after in (torchao_nvfp4(ao, x), ours(x, "nvfp4")))
    assert mine < theirs / 2


def test_torchao_nvfp4_of_what_has_no_scale(ao):
    """The tensor scale takes NaN or infinity to every block, and 0/0 makes a zero tensor NaN; ours does neither."""
    x = normals(4, 64, 23).float()
    x[2, 5] = NAN
    assert torchao_nvfp4(ao, x).isnan().all()
    assert ours(x, "nvfp4").isnan().nonzero().tolist() == [[2, column] for column in range(16)]
    zeros = torch.zeros(2, 32)
    assert torchao_nvfp4(ao, zeros).isnan().all()
    assert_same(ours(zeros, "nvfp4"), zeros, zeros)
