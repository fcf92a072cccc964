"""The fused pass: the formula, what is measured, and when it is compiled (its parity: suites/contract)."""

import logging

import pytest
import torch

from harness.noise import kernel
from harness.noise.audit.auditor import Auditor
from harness.noise.kernel import Kernel
from harness.numerics import compiled_c, native
from harness.numerics.error_models import perturb
from harness.numerics.keyed_random import DrawKey, derive_key, normals, stream_keys
from harness.spec.errors import (
    AbsoluteGaussian,
    Deadzone,
    FakeQuant,
    Nondeterministic,
    RelativeGaussian,
    Spike,
    Truncation,
)

pytestmark = pytest.mark.unit
CPU = torch.device("cpu")
OTHERS = (
    (AbsoluteGaussian(), 0.05),
    (Nondeterministic(), 0.05),
    (Deadzone(), 0.1),
    (Truncation(), 0.25),
    (Spike(), 0.1),
    (FakeQuant(), 1.0),
)


def arguments(rows=37, columns=50, dtype=torch.float32, error=None, level=0.05):
    y = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).to(dtype)
    row_keys, column_keys = (stream_keys(derive_key(name), count, CPU) for name, count in (("r", rows), ("c", columns)))
    key = DrawKey(row_keys.view(rows, 1), column_keys.view(1, -1))
    return error or RelativeGaussian(), y, key, level, torch.ones(rows, 1, dtype=torch.bool)


def test_it_is_the_formula():
    error, y, key, level, real = arguments()
    after, sums = Kernel(compiled=False).perturb(error, y, key, level, real)
    assert torch.equal(after, y + y * (level * normals(*key)))
    assert sums.shape == (37, 6)
    assert sums[:, 0].sum() == (after != y).sum()


@pytest.mark.parametrize(("error", "level"), OTHERS, ids=lambda given: getattr(given, "name", None))
def test_every_other_error_model_is_its_formula_and_measured_alike(error, level):
    _, y, key, strength, real = arguments(error=error, level=level)
    y[0, 0], y[1] = float("nan"), 0.0
    real[4] = False
    after, sums = Kernel().perturb(error, y, key, strength, real)
    expected = perturb(error, y, key, level)
    if error.breaks:
        expected[4] = y[4]  # padding: a fault there would reach real tokens
    assert torch.equal(after.nan_to_num(7), expected.nan_to_num(7))
    counted = real[:, 0] & torch.isfinite(y).all(1)
    difference = (expected - y)[counted]
    assert sums[counted, 0].tolist() == (difference != 0).sum(1).tolist()
    assert sums[counted, 1].tolist() == (y[counted] != 0).sum(1).tolist()
    torch.testing.assert_close(sums[counted, 4], difference.square().sum(1))
    assert sums[:, 0].sum() > 0
    assert (sums[4] == 0).all()
    assert sums[0, 2] == 1


@pytest.mark.parametrize(
    ("error", "level"), [(RelativeGaussian(), 0.05), *OTHERS], ids=lambda given: getattr(given, "name", None)
)
def test_chunks_do_not_matter(monkeypatch, error, level):
    given = arguments(error=error, level=level)
    whole = Kernel(compiled=False).perturb(*given)
    monkeypatch.setattr(kernel, "EAGER_CHUNK", {"cpu": 120})
    parts = Kernel(compiled=False).perturb(*given)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_padding_is_perturbed_but_not_measured():
    error, y, key, level, real = arguments()
    real[3:] = False
    y[5, 5] = float("nan")
    after, sums = Kernel(compiled=False).perturb(error, y, key, level, real)
    assert (sums[:3] != 0).any()
    assert (sums[3:] == 0).all()
    assert not torch.equal(after[10], y[10])


def test_non_finite_and_zero_elements_are_counted_apart():
    error, y, key, level, real = arguments()
    y[0, 0], y[0, 1], y[1, :] = float("inf"), float("nan"), 0.0
    after, sums = Kernel(compiled=False).perturb(error, y, key, level, real)
    assert sums[0, 2] == 2
    assert sums[1].tolist() == [0.0] * 6
    assert (after[1] == 0).all()


def test_a_low_precision_swallows_small_noise():
    """bf16 cannot carry a scale of 1e-4: the count must say so."""
    error, y, key, _, real = arguments(dtype=torch.bfloat16)
    after, sums = Kernel(compiled=False).perturb(error, y, key, 1e-4, real)
    assert torch.equal(after, y)
    assert sums[:, 0].sum() == 0


@pytest.fixture
def fresh():
    """The compiled functions are found anew, and again afterwards."""
    for cached in (native._functions, compiled_c.library):
        cached.cache_clear()
    yield
    for cached in (native._functions, compiled_c.library):
        cached.cache_clear()


@pytest.mark.usefixtures("fresh")
def test_without_a_compiler_it_goes_on_eagerly_and_says_so(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with caplog.at_level(logging.WARNING, "harness"):
        after, _ = Kernel().perturb(*arguments())
    assert torch.equal(after, Kernel(compiled=False).perturb(*arguments())[0])
    assert "the C compiler failed" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_a_compiled_kernel_of_other_bits_is_not_used(monkeypatch, caplog, tmp_path):
    wrong = tmp_path / "keyed.h"
    wrong.write_text(compiled_c.HEADER.read_text().replace("0x846CA68Bu", "0x846CA68Du"))
    (tmp_path / "perturb.c").write_text((compiled_c.FOLDER / "perturb.c").read_text())
    monkeypatch.setattr(compiled_c, "FOLDER", tmp_path)
    monkeypatch.setattr(compiled_c, "HEADER", wrong)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with caplog.at_level(logging.WARNING, "harness"):
        assert not any(native.available(dtype) for dtype in native.FUNCTIONS)
    assert "differs from the eager one" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_the_library_is_compiled_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.available(torch.float32)
    (made,) = (tmp_path / "robustness-harness").iterdir()
    before = made.stat().st_mtime_ns
    native._functions.cache_clear()
    compiled_c.library.cache_clear()
    assert native.available(torch.float32)
    assert made.stat().st_mtime_ns == before


def test_a_tensor_is_overwritten_only_if_both_sides_allow_it():
    for in_place, own, same in ((True, True, True), (True, False, False), (False, True, False)):
        given = arguments()
        before = given[1].clone()
        after, _ = Kernel(in_place=in_place).perturb(*given, own)
        assert (after.data_ptr() == given[1].data_ptr()) is same
        assert torch.equal(given[1], before) is not same


def test_under_the_auditor_the_path_is_the_same(toy):
    """It copies what it compares, so that an audited forward may overwrite what any other does."""
    given = arguments()
    with Auditor(toy()):
        after, _ = Kernel(in_place=True).perturb(*given, True)
    assert after.data_ptr() == given[1].data_ptr()
