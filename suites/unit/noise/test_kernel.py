"""The fused pass: the formula, what is measured, and when it is compiled (its parity: suites/contract)."""

import logging

import pytest
import torch

from harness.noise import kernel
from harness.noise.auditor import Auditor
from harness.noise.kernel import Kernel
from harness.numerics.keyed_random import derive_key, normals, stream_keys

pytestmark = pytest.mark.unit
CPU = torch.device("cpu")


def arguments(rows=37, columns=50, dtype=torch.float32):
    y = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).to(dtype)
    keys = stream_keys(derive_key("r"), rows, CPU).view(rows, 1), stream_keys(derive_key("c"), columns, CPU).view(1, -1)
    return y, *keys, torch.tensor(0.05), torch.ones(rows, 1, dtype=torch.bool)


def test_it_is_the_formula():
    y, rows, columns, scale, real = arguments()
    after, sums = Kernel(compiled=False).perturb(y, rows, columns, scale, real)
    assert torch.equal(after, y + y * (scale * normals(rows, columns)))
    assert sums.shape == (37, 6)
    assert sums[:, 0].sum() == (after != y).sum()


def test_chunks_do_not_matter(monkeypatch):
    whole = Kernel(compiled=False).perturb(*arguments())
    monkeypatch.setattr(kernel, "EAGER_CHUNK", 120)
    parts = Kernel(compiled=False).perturb(*arguments())
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_padding_is_perturbed_but_not_measured():
    y, rows, columns, scale, real = arguments()
    real[3:] = False
    y[5, 5] = float("nan")
    after, sums = Kernel(compiled=False).perturb(y, rows, columns, scale, real)
    assert (sums[:3] != 0).any()
    assert (sums[3:] == 0).all()
    assert not torch.equal(after[10], y[10])


def test_non_finite_and_zero_elements_are_counted_apart():
    y, rows, columns, scale, real = arguments()
    y[0, 0], y[0, 1], y[1, :] = float("inf"), float("nan"), 0.0
    after, sums = Kernel(compiled=False).perturb(y, rows, columns, scale, real)
    assert sums[0, 2] == 2
    assert sums[1].tolist() == [0.0] * 6
    assert (after[1] == 0).all()


def test_a_low_precision_swallows_small_noise():
    """bf16 cannot carry a scale of 1e-4: the count must say so."""
    y, rows, columns, _, real = arguments(dtype=torch.bfloat16)
    after, sums = Kernel(compiled=False).perturb(y, rows, columns, torch.tensor(1e-4), real)
    assert torch.equal(after, y)
    assert sums[:, 0].sum() == 0


def test_without_a_compiler_it_goes_on_eagerly_and_says_so(monkeypatch, caplog):
    def broken(function):
        raise RuntimeError("no C++ compiler")

    kernel._compiler_works.cache_clear()
    monkeypatch.setattr(kernel, "_compile", broken)
    try:
        with caplog.at_level(logging.WARNING, "harness"):
            after, _ = Kernel(compiled=True).perturb(*arguments())
    finally:
        kernel._compiler_works.cache_clear()
    assert torch.equal(after, Kernel(compiled=False).perturb(*arguments())[0])
    assert "no working compiler" in caplog.text


def test_it_is_compiled_once_that_pays(monkeypatch):
    used = []
    monkeypatch.setattr(kernel, "COMPILE_FROM", 3000)
    monkeypatch.setattr(kernel, "_compiler_works", lambda: used.append("compiled"))
    running = Kernel()
    running.perturb(*arguments())
    assert used == []
    running.perturb(*arguments())
    assert used == ["compiled"]


def test_under_the_auditor_nothing_is_compiled(monkeypatch, toy):
    """Traced under its dispatch mode, the compiled pass was given up on, and every later batch ran eagerly."""
    compiled = []
    monkeypatch.setattr(kernel, "_compiler_works", lambda: compiled.append("asked"))
    with Auditor(toy()):
        Kernel(compiled=True).perturb(*arguments())
    assert compiled == []
    Kernel(compiled=True).perturb(*arguments())
    assert compiled == ["asked"]
