"""The Triton kernel in Triton's interpreter gives the bits of the eager kernel; compiled, it contracts nothing."""

import itertools
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from harness.numerics import triton_kernel
from harness.numerics.keyed_random import Keys
from suites.unit.numerics.triton_cases import CPU, arguments, bits, check

pytestmark = pytest.mark.long
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="no triton")
ROOT = Path(__file__).parents[3]

SHAPES = ((1, 1), (3, 7), (5, 1000))
TALL = (torch.bfloat16, (64, 130), 0.05)  # one only: the interpreter takes 40 ms a row
PLAIN = (*itertools.product(triton_kernel.DTYPES, SHAPES, (0.0, 0.05, 1.0)), TALL)
BLOCKS = (torch.bfloat16, (2, 9000), 0.05)  # wide enough for rows cut into blocks
CASES = (*PLAIN, BLOCKS)


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """(whether the kernel is available there, y' and sums by case), from one process."""
    folder = tmp_path_factory.mktemp("triton")
    given = [
        (y, tuple(rows), tuple(columns), *rest) for y, rows, columns, *rest in (arguments(*case) for case in CASES)
    ]
    torch.save(given, folder / "cases.pt")
    script = Path(__file__).with_name("interpreted.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(folder / "cases.pt"), str(folder / "results.pt")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    available, results = torch.load(folder / "results.pt")
    return available, dict(zip(CASES, results, strict=True))


@needs_triton
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_bits_and_sums_of_the_eager_kernel(interpreted, case):
    check(*interpreted[1][case], *arguments(*case))


@needs_triton
@pytest.mark.parametrize("dtype", triton_kernel.DTYPES, ids=str)
def test_what_the_cases_contain(interpreted, dtype):
    """Padding is perturbed and not measured; noise changes most elements, scale 0 none; overflow becomes infinite."""
    y, *_, real = arguments(dtype, (5, 1000), 1.0)
    after, sums = interpreted[1][dtype, (5, 1000), 1.0]
    finite = torch.isfinite(y)
    assert (after != y)[finite].float().mean() > 0.95
    assert (after != y)[~real].any() and not sums[~real].any()
    assert torch.isinf(after)[finite].any() and sums[0, 2] > 3
    assert torch.equal(bits(interpreted[1][dtype, (5, 1000), 0.0][0]), bits(y))


@needs_triton
def test_it_is_available_where_it_gives_these_bits(interpreted):
    assert interpreted[0] is True


def test_it_is_not_available_on_a_cpu():
    assert not triton_kernel.available(CPU)
    assert not triton_kernel.available(torch.device("meta"))


@pytest.mark.parametrize("element_size", [2, 4])
@pytest.mark.parametrize("count", [1, 64, 2048, 16384])
@pytest.mark.parametrize("width", [1, 7, 256, 1536, 8960, 151936])
def test_the_layout_covers_every_row_once(count, width, element_size):
    warps, tile, steps, blocks = triton_kernel.layout(count, width, element_size)
    assert (blocks - 1) * steps * tile < width <= blocks * steps * tile
    assert tile == warps * 32 * 16 // element_size
    assert blocks == 1 or count * warps < triton_kernel.BUSY_WARPS
    few = count * blocks * warps < triton_kernel.BUSY_WARPS
    assert not few or steps <= triton_kernel.LEAST_STEPS, "few wide rows occupy the device"


def test_the_wide_case_is_cut_into_blocks():
    (count, width), size = BLOCKS[1], BLOCKS[0].itemsize
    assert triton_kernel.layout(count, width, size)[3] > 1
    assert all(triton_kernel.layout(*shape, dtype.itemsize)[3] == 1 for dtype, shape, _ in PLAIN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.ones(6)}, "two dimensions"),
        ({"y": torch.ones(2, 3, dtype=torch.float64)}, "float64"),
        ({"y": torch.ones(2, 3, requires_grad=True)}, "gradient"),
        ({"scale": torch.ones(2)}, "scale of 2"),
        ({"scale": torch.ones((), dtype=torch.float64)}, "float64 on cpu; one"),
        ({"real": torch.ones(3, dtype=torch.bool)}, "needs 2 torch.bool"),
        ({"rows": Keys.of(torch.arange(3))}, "needs 2 torch.int32"),
        ({"columns": Keys(torch.arange(3), torch.arange(3))}, "needs 3 torch.int32"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_what_does_not_fit_is_refused(change, message):
    given = {
        "y": torch.ones(2, 3),
        "rows": Keys.of(torch.arange(2)),
        "columns": Keys.of(torch.arange(3)),
        "scale": torch.tensor(0.1),
        "real": torch.ones(2, dtype=torch.bool),
    }
    with pytest.raises(ValueError, match=message):
        triton_kernel.perturb_rows(**given | change)


def test_an_empty_tensor_stays_empty():
    for shape in ((0, 3), (2, 0)):
        rows, columns = (Keys.of(torch.arange(n)) for n in shape)
        real = torch.ones(shape[0], dtype=torch.bool)
        after, sums = triton_kernel.perturb_rows(torch.ones(shape), rows, columns, torch.tensor(0.1), real)
        assert after.shape == shape
        assert sums.shape == (shape[0], triton_kernel.SUMS) and not sums.any()


@needs_triton
@pytest.mark.parametrize(("name", "vector"), [("fp32", 4), ("bf16", 8), ("fp16", 8)])
def test_compiled_for_a_gpu_it_contracts_nothing(name, vector, tmp_path, monkeypatch):
    """The code for an H100 (no GPU is needed to compile it): a product and a sum stay two roundings."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    ptx = compiled(name, vector, **triton_kernel.OPTIONS)
    assert ptx.count("fma.rn.f32") == 4 * vector, "those that are written as such, see the source"
    assert "mul.f32" not in ptx and "add.f32" not in ptx, "without .rn the assembler may contract them"
    assert ptx.count("dp4a.u32.u32") == vector
    assert compiled(name, vector, enable_fp_fusion=True).count("fma.rn.f32") > 4 * vector, "or nothing is shown"


def compiled(name, vector, **options):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from harness.numerics.triton_source import perturb_tiles

    pointers = dict.fromkeys(("y", "after"), f"*{name}") | {"sums": "*fp32"}
    pointers |= dict.fromkeys(("row_low", "row_high", "column_low", "column_high"), "*i32")
    signature = pointers | {"scale": "*fp32", "real": "*i1", "columns": "i32", "steps": "i32"}
    aligned = {(number,): [["tt.divisibility", 16]] for number in (*range(len(pointers)), len(pointers) + 2)}
    signature |= {"TILE": "constexpr", "DOT": "constexpr"}
    source = ASTSource(perturb_tiles, signature, {"TILE": 32 * vector, "DOT": True}, aligned)
    target = GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=target, options={"num_warps": 1, **options}).asm["ptx"]
