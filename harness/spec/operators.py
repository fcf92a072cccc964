"""The one table of operator names: canonical name, the spellings it stands for, and the groups of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Operand:
    """An argument whose gradient backward noise perturbs: its name in ledgers, its position among the arguments, and
    further names under which it may be passed."""

    name: str
    position: int
    keywords: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operator:
    """A canonical operator.

    ``functions`` are the spellings under which torch offers it (dotted names below ``torch``), ``operands`` the
    arguments of its result that have a gradient; ``shifted`` says of spellings by how many positions their operands
    stand elsewhere. ``modules`` are glob patterns of the class names of the modules that compute it, ``fields`` the
    parameters of such a module that are operands. ``selects`` lists further canonical operators that the name stands
    for.
    """

    name: str
    functions: tuple[str, ...] = ()
    operands: tuple[Operand, ...] = (Operand("input", 0),)
    modules: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    selects: tuple[str, ...] = ()
    note: str = ""
    shifted: tuple[tuple[str, int], ...] = ()


_INPUT = Operand("input", 0, ("self", "dividend", "batch1"))
_TWO = (_INPUT, Operand("other", 1, ("mat2", "vec", "tensor", "divisor", "batch2")))
_TABLE = (
    Operator(
        "linear",
        ("nn.functional.linear",),
        (_INPUT, Operand("weight", 1)),
        ("Linear", "NonDynamicallyQuantizableLinear"),
        ("weight",),
        ("conv1d",),
    ),
    Operator(
        "conv1d",
        ("addmm", "Tensor.addmm", "Tensor.addmm_"),
        (Operand("input", 1, ("mat1",)), Operand("weight", 2, ("mat2",))),
        ("Conv1D",),
        ("weight",),
        note="GPT-2's linear: addmm of bias, input and weight",
    ),
    Operator(
        "matmul",
        (
            *("matmul", "Tensor.matmul", "Tensor.__matmul__", "Tensor.__rmatmul__", "linalg.matmul"),
            *("mm", "Tensor.mm", "mv", "Tensor.mv", "dot", "Tensor.dot"),
        ),
        _TWO,
        selects=("qk", "pv"),
        note="attention's products QK and PV included, the rotary product excluded",
    ),
    Operator("qk", note="attention's scores, before scaling and mask"),
    Operator("pv", note="attention's weights times values"),
    Operator("rotary", note="the rotary embedding's angle product; noise on it alone destroys a model"),
    Operator(
        "bmm",
        ("bmm", "Tensor.bmm", "baddbmm", "Tensor.baddbmm", "Tensor.baddbmm_"),
        _TWO,
        shifted=(("baddbmm", 1), ("Tensor.baddbmm", 1), ("Tensor.baddbmm_", 1)),
    ),
    Operator("einsum", ("einsum", "functional.einsum"), ()),
    Operator(
        "softmax", ("softmax", "Tensor.softmax", "nn.functional.softmax", "special.softmax"), modules=("Softmax",)
    ),
    Operator(
        "relu",
        ("relu", "relu_", "Tensor.relu", "Tensor.relu_", "nn.functional.relu", "nn.functional.relu_"),
        modules=("ReLU",),
    ),
    Operator("silu", ("nn.functional.silu",), modules=("SiLU", "SiLUActivation")),
    Operator(
        "gelu",
        ("nn.functional.gelu",),
        modules=(
            *("GELU", "GELUActivation", "GELUTanh", "NewGELUActivation", "PytorchGELUTanh"),
            *("FastGELUActivation", "QuickGELUActivation", "ClippedGELUActivation", "AccurateGELUActivation"),
        ),
        note="the exact and the tanh form; composites of transformers by module",
    ),
    Operator(
        "layer_norm",
        ("nn.functional.layer_norm", "layer_norm", "native_layer_norm"),
        (_INPUT, Operand("weight", 2)),
        ("LayerNorm", "OPTLayerNorm"),
        ("weight",),
    ),
    Operator(
        "rms_norm",
        ("nn.functional.rms_norm", "rms_norm"),
        (_INPUT, Operand("weight", 2)),
        ("*RMSNorm", "*RMSNormGated", "T5LayerNorm"),
        ("weight",),
        note="also the composite that transformers runs, by module",
    ),
    Operator(
        "sdpa",
        ("nn.functional.scaled_dot_product_attention",),
        (Operand("query", 0), Operand("key", 1), Operand("value", 2)),
        note="the output of fused attention",
    ),
    Operator("add", ("add", "Tensor.add", "Tensor.add_", "Tensor.__add__", "Tensor.__radd__", "Tensor.__iadd__"), _TWO),
    Operator(
        "mul",
        (
            *("mul", "multiply", "Tensor.mul", "Tensor.mul_", "Tensor.multiply", "Tensor.multiply_"),
            *("Tensor.__mul__", "Tensor.__rmul__", "Tensor.__imul__"),
        ),
        _TWO,
    ),
    Operator(
        "div",
        (
            *("div", "divide", "true_divide", "Tensor.div", "Tensor.div_", "Tensor.divide"),
            *("Tensor.true_divide", "Tensor.true_divide_", "Tensor.divide_"),
            *("Tensor.__truediv__", "Tensor.__rtruediv__", "Tensor.__itruediv__", "Tensor.__div__"),
        ),
        _TWO,
    ),
    Operator(
        "embedding",
        ("nn.functional.embedding", "embedding"),
        (Operand("weight", 1),),
        ("Embedding",),
        ("weight",),
        shifted=(("embedding", -1),),
    ),
)
OPS: Mapping[str, Operator] = MappingProxyType({operator.name: operator for operator in _TABLE})
"""Canonical name -> operator, in the order in which specifications list them."""

PROFILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "linear": ("linear",),
        "matmul": ("linear", "matmul", "bmm", "einsum"),
        "all-ops": (
            *("linear", "matmul", "bmm", "einsum", "softmax", "relu", "silu", "gelu", "layer_norm", "rms_norm"),
            "sdpa",
        ),
    }
)
"""Profile -> operators; those that a model does not have are skipped. ``linear`` is the default of everything."""

SCOPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "minimal": ("rms_norm",),
        "mlp": ("rms_norm", "mlp"),
        "linear": ("linear",),
        "all": ("rms_norm", "linear"),
    }
)
"""Module scopes of the sources -> kinds of modules: an operator name, or ``mlp`` for whole MLP blocks.

Expected for Qwen2.5-1.5B: 57 norms; 57 + 28 MLP blocks = 85; 197 linears (196 without the head); 57 + 197 = 254.
"""


def selected(names: tuple[str, ...]) -> frozenset[str]:
    """Return the canonical operators that ``names`` stand for."""
    return frozenset(name for given in names for name in (given, *OPS[given].selects))
