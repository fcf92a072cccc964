"""Runs saved cases through the Triton kernel in Triton's interpreter: ``python interpreted.py CASES RESULTS``.

A process of its own, because the variable must be set before triton is imported.
"""

import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

from harness.numerics import triton_kernel
from harness.numerics.keyed_random import Keys


def round_as_processors_do():
    """The interpreter cuts float32 off to bfloat16 and scales bfloat16 subnormals; processors do neither."""
    before = interpreter._convert_float

    def convert(data, given, wanted, mode):
        if (given, wanted) == (tl.float32, tl.bfloat16):
            return torch.from_numpy(np.ascontiguousarray(data)).bfloat16().view(torch.int16).numpy()
        if (given, wanted) == (tl.bfloat16, tl.float32):
            return torch.from_numpy(np.ascontiguousarray(data).view(np.int16)).view(torch.bfloat16).float().numpy()
        return before(data, given, wanted, mode)

    interpreter._convert_float = convert


if __name__ == "__main__":
    torch.set_num_threads(1)
    round_as_processors_do()
    results = [
        triton_kernel.perturb_rows(y, Keys(*rows), Keys(*columns), scale, real)
        for y, rows, columns, scale, real in torch.load(sys.argv[1])
    ]
    torch.save((triton_kernel.available(torch.device("cpu")), results), sys.argv[2])
