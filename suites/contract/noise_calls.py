"""Every spelling of an operator as a bare call, with the operator's name and the operands whose gradients it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

TWO = ("input", "other")


@dataclass(frozen=True)
class Call:
    """``run(t)`` calls ``spelling`` (a name below ``torch``, or how it reads) once on the tensors of :func:`tensors`.

    ``written`` names the tensor that it writes, and then returns: the first operand in place, or ``out``.
    """

    spelling: str
    op: str
    operands: tuple[str, ...]
    run: Callable[[SimpleNamespace], Tensor]
    written: str = ""

    def __str__(self) -> str:
        return self.spelling


def tensors(dtype: torch.dtype = torch.float32, gradients: bool = False) -> SimpleNamespace:
    """Operands: ``a``, ``b`` (4, 4), ``w`` (6, 4), ``u``, ``v`` (4), ``p``, ``q`` (2, 4, 4), ``heads`` (2, 3, 5, 4),
    ``ids``, and fresh targets of their shapes. No element is 0. With ``gradients`` all are leaves that want one, and
    ``held`` is what an in-place spelling may write: no leaf."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=generator)
        return (drawn + 0.1 * drawn.sign()).to(dtype).requires_grad_(gradients)

    leaf = draw(4, 4)
    batched = draw(2, 4, 4)
    return SimpleNamespace(
        a=draw(4, 4),
        b=draw(4, 4),
        w=draw(6, 4),
        bias=draw(6),
        square=draw(4, 4),
        u=draw(4),
        v=draw(4),
        p=draw(2, 4, 4),
        q=draw(2, 4, 4),
        heads=[draw(2, 3, 5, 4) for _ in range(3)],
        ids=torch.tensor([[0, 3], [5, 0]]),
        leaf=leaf,
        held=leaf.clone() if gradients else leaf,
        batched=batched,
        held3=batched.clone() if gradients else batched,
    )


def _products() -> tuple[Call, ...]:
    return (
        Call("x @ y", "matmul", TWO, lambda t: t.a @ t.b),
        Call("matmul", "matmul", TWO, lambda t: torch.matmul(t.a, t.b)),
        Call("matmul input= other=", "matmul", TWO, lambda t: torch.matmul(input=t.a, other=t.b)),
        Call("matmul 1-D, 2-D", "matmul", TWO, lambda t: torch.matmul(t.u, t.b)),
        Call("matmul 2-D, 1-D", "matmul", TWO, lambda t: t.b @ t.u),
        Call("matmul 1-D, 1-D", "matmul", TWO, lambda t: t.u @ t.v),
        Call("matmul 3-D, 2-D", "matmul", TWO, lambda t: t.p @ t.b),
        Call("Tensor.matmul", "matmul", TWO, lambda t: t.a.matmul(t.b)),
        Call("Tensor.matmul other=", "matmul", TWO, lambda t: t.a.matmul(other=t.b)),
        Call("Tensor.__matmul__", "matmul", TWO, lambda t: torch.Tensor.__matmul__(t.a, t.b)),
        Call("Tensor.__rmatmul__", "matmul", TWO, lambda t: torch.Tensor.__rmatmul__(t.a, t.b)),
        Call("linalg.matmul", "matmul", TWO, lambda t: torch.linalg.matmul(t.a, t.b)),
        Call("mm", "matmul", TWO, lambda t: torch.mm(t.a, t.b)),
        Call("mm mat2=", "matmul", TWO, lambda t: torch.mm(input=t.a, mat2=t.b)),
        Call("Tensor.mm", "matmul", TWO, lambda t: t.a.mm(t.b)),
        Call("mv", "matmul", TWO, lambda t: torch.mv(t.a, t.v)),
        Call("mv vec=", "matmul", TWO, lambda t: torch.mv(t.a, vec=t.v)),
        Call("Tensor.mv", "matmul", TWO, lambda t: t.a.mv(t.v)),
        Call("dot", "matmul", TWO, lambda t: torch.dot(t.u, t.v)),
        Call("dot tensor=", "matmul", TWO, lambda t: torch.dot(t.u, tensor=t.v)),
        Call("Tensor.dot", "matmul", TWO, lambda t: t.u.dot(t.v)),
        Call("bmm", "bmm", TWO, lambda t: torch.bmm(t.p, t.q)),
        Call("bmm mat2=", "bmm", TWO, lambda t: torch.bmm(input=t.p, mat2=t.q)),
        Call("Tensor.bmm", "bmm", TWO, lambda t: t.p.bmm(t.q)),
        Call("baddbmm", "bmm", TWO, lambda t: torch.baddbmm(t.square, t.p, t.q)),
        Call("baddbmm batch2=", "bmm", TWO, lambda t: torch.baddbmm(t.square, batch1=t.p, batch2=t.q)),
        Call("Tensor.baddbmm", "bmm", TWO, lambda t: t.square.baddbmm(t.p, t.q, beta=0.5)),
        Call("einsum operands", "einsum", ("operand0", "operand1"), lambda t: torch.einsum("ij,jk->ik", t.a, t.b)),
        Call("einsum list", "einsum", ("operand0", "operand1"), lambda t: torch.einsum("bij,jk->bik", [t.p, t.b])),
        Call("functional.einsum", "einsum", ("operand0",), lambda t: torch.functional.einsum("ij->ji", t.a)),
        Call("linear", "linear", ("input", "weight"), lambda t: F.linear(t.a, t.w)),
        Call("linear bias", "linear", ("input", "weight"), lambda t: F.linear(t.a, t.w, t.bias)),
        Call("linear keywords", "linear", ("input", "weight"), lambda t: F.linear(input=t.a, weight=t.w, bias=t.bias)),
        Call("linear 1-D", "linear", ("input", "weight"), lambda t: F.linear(t.u, t.w)),
        Call("addmm", "conv1d", ("input", "weight"), lambda t: torch.addmm(t.square, t.a, t.b)),
        Call("addmm keywords", "conv1d", ("input", "weight"), lambda t: torch.addmm(t.u, mat1=t.a, mat2=t.b, alpha=2)),
        Call("Tensor.addmm", "conv1d", ("input", "weight"), lambda t: t.square.addmm(t.a, t.b)),
        Call("sdpa", "sdpa", ("query", "key", "value"), lambda t: F.scaled_dot_product_attention(*t.heads)),
        Call(
            "sdpa keywords",
            "sdpa",
            ("query", "key", "value"),
            lambda t: F.scaled_dot_product_attention(
                query=t.heads[0], key=t.heads[1], value=t.heads[2], is_causal=True, scale=0.3
            ),
        ),
    )


def _elementwise() -> tuple[Call, ...]:
    one = ("input",)
    return (
        Call("softmax", "softmax", one, lambda t: torch.softmax(t.a, -1)),
        Call("softmax dtype=", "softmax", one, lambda t: torch.softmax(t.a, dim=0, dtype=torch.float32)),
        Call("Tensor.softmax", "softmax", one, lambda t: t.a.softmax(-1)),
        Call("F.softmax", "softmax", one, lambda t: F.softmax(t.a, dim=-1)),
        Call("F.softmax input=", "softmax", one, lambda t: F.softmax(input=t.a, dim=-1)),
        Call("special.softmax", "softmax", one, lambda t: torch.special.softmax(t.a, -1)),
        Call("relu", "relu", one, lambda t: torch.relu(t.a)),
        Call("Tensor.relu", "relu", one, lambda t: t.a.relu()),
        Call("F.relu", "relu", one, lambda t: F.relu(t.a)),
        Call("F.relu input=", "relu", one, lambda t: F.relu(input=t.a)),
        Call("F.silu", "silu", one, lambda t: F.silu(t.a)),
        Call("F.gelu", "gelu", one, lambda t: F.gelu(t.a)),
        Call("F.gelu tanh", "gelu", one, lambda t: F.gelu(t.a, approximate="tanh")),
        Call("F.layer_norm", "layer_norm", one, lambda t: F.layer_norm(t.a, (4,))),
        Call("F.layer_norm weight", "layer_norm", ("input", "weight"), lambda t: F.layer_norm(t.a, (4,), t.u, t.v)),
        Call("layer_norm", "layer_norm", ("input", "weight"), lambda t: torch.layer_norm(t.a, (4,), weight=t.u)),
        Call(
            "native_layer_norm",
            "layer_norm",
            ("input", "weight"),
            lambda t: torch.native_layer_norm(t.a, (4,), t.u, t.v, 1e-5)[0],
        ),
        Call("F.rms_norm", "rms_norm", one, lambda t: F.rms_norm(t.a, (4,))),
        Call("rms_norm", "rms_norm", ("input", "weight"), lambda t: torch.rms_norm(t.a, (4,), weight=t.u)),
        Call("F.embedding", "embedding", ("weight",), lambda t: F.embedding(t.ids, t.w)),
        Call("F.embedding keywords", "embedding", ("weight",), lambda t: F.embedding(input=t.ids, weight=t.w)),
        Call("embedding", "embedding", ("weight",), lambda t: torch.embedding(t.w, t.ids)),
        Call("x + y", "add", TWO, lambda t: t.a + t.b),
        Call("x + 1", "add", ("input",), lambda t: t.a + 1),
        Call("1 + x", "add", ("input",), lambda t: 1 + t.a),
        Call("add alpha=", "add", TWO, lambda t: torch.add(t.a, t.b, alpha=2)),
        Call("Tensor.add other=", "add", TWO, lambda t: t.a.add(other=t.b)),
        Call("x * y", "mul", TWO, lambda t: t.p * t.u),
        Call("2 * x", "mul", ("input",), lambda t: 2 * t.a),
        Call("mul", "mul", TWO, lambda t: torch.mul(t.a, t.u)),
        Call("multiply", "mul", TWO, lambda t: torch.multiply(t.a, other=t.b)),
        Call("Tensor.multiply", "mul", TWO, lambda t: t.a.multiply(t.b)),
        Call("x / y", "div", TWO, lambda t: t.a / t.b),
        Call("1 / x", "div", ("input",), lambda t: 1 / t.a),
        Call("x / 3", "div", ("input",), lambda t: t.a / 3),
        Call("div rounding_mode=", "div", TWO, lambda t: torch.div(t.a * 9, t.b, rounding_mode="floor")),
        Call("divide", "div", TWO, lambda t: torch.divide(t.a, t.b)),
        Call("true_divide", "div", TWO, lambda t: torch.true_divide(input=t.a, other=t.b)),
        Call("Tensor.divide", "div", TWO, lambda t: t.a.divide(t.b)),
        Call("Tensor.true_divide", "div", TWO, lambda t: t.a.true_divide(t.b)),
    )


def _augmented(symbol: str, x: Tensor, y: Tensor) -> Tensor:
    if symbol == "+=":
        x += y
    elif symbol == "*=":
        x *= y
    else:
        x /= y
    return x


def _in_place() -> tuple[Call, ...]:
    one = ("input",)
    calls = (
        Call("relu_", "relu", one, lambda t: torch.relu_(t.held)),
        Call("Tensor.relu_", "relu", one, lambda t: t.held.relu_()),
        Call("F.relu_", "relu", one, lambda t: F.relu_(t.held)),
        Call("F.relu inplace", "relu", one, lambda t: F.relu(t.held, True)),
        Call("F.relu input= inplace=", "relu", one, lambda t: F.relu(input=t.held, inplace=True)),
        Call("F.silu inplace=", "silu", one, lambda t: F.silu(t.held, inplace=True)),
        Call("x += y", "add", TWO, lambda t: _augmented("+=", t.held, t.b)),
        Call("Tensor.add_", "add", TWO, lambda t: t.held.add_(t.b, alpha=0.5)),
        Call("x *= y", "mul", TWO, lambda t: _augmented("*=", t.held, t.u)),
        Call("Tensor.mul_", "mul", TWO, lambda t: t.held.mul_(other=t.b)),
        Call("Tensor.multiply_", "mul", TWO, lambda t: t.held.multiply_(t.b)),
        Call("x /= y", "div", TWO, lambda t: _augmented("/=", t.held, t.b)),
        Call("Tensor.div_", "div", TWO, lambda t: t.held.div_(t.b)),
        Call("Tensor.divide_", "div", TWO, lambda t: t.held.divide_(t.b)),
        Call("Tensor.true_divide_", "div", TWO, lambda t: t.held.true_divide_(t.b)),
        Call("Tensor.addmm_", "conv1d", ("input", "weight"), lambda t: t.held.addmm_(t.a, t.b)),
    )
    batched = Call("Tensor.baddbmm_", "bmm", TWO, lambda t: t.held3.baddbmm_(t.p, t.q), "held3")
    return (*(Call(call.spelling, call.op, call.operands, call.run, "held") for call in calls), batched)


def _with_out() -> tuple[Call, ...]:
    return (
        Call("matmul out=", "matmul", TWO, lambda t: torch.matmul(t.a, t.b, out=t.held), "held"),
        Call("mm out=", "matmul", TWO, lambda t: torch.mm(t.a, t.b, out=t.held), "held"),
        Call("linalg.matmul out=", "matmul", TWO, lambda t: torch.linalg.matmul(t.a, t.b, out=t.held), "held"),
        Call("mv out=", "matmul", TWO, lambda t: torch.mv(t.a, t.u, out=t.v), "v"),
        Call("bmm out=", "bmm", TWO, lambda t: torch.bmm(t.p, t.q, out=t.held3), "held3"),
        Call("baddbmm out=", "bmm", TWO, lambda t: torch.baddbmm(t.square, t.p, t.q, out=t.held3), "held3"),
        Call("addmm out=", "conv1d", TWO, lambda t: torch.addmm(t.square, t.a, t.b, out=t.held), "held"),
        Call("softmax out=", "softmax", TWO, lambda t: torch.softmax(t.a, -1, out=t.held), "held"),
        Call("add out=", "add", TWO, lambda t: torch.add(t.a, t.b, out=t.held), "held"),
        Call("mul out=", "mul", TWO, lambda t: torch.mul(t.a, t.b, out=t.held), "held"),
        Call("mul out= an operand", "mul", TWO, lambda t: torch.mul(t.a, t.b, out=t.a), "a"),
        Call("div out=", "div", TWO, lambda t: torch.div(t.a, t.b, out=t.held), "held"),
        Call("divide out=", "div", TWO, lambda t: torch.divide(t.a, t.b, out=t.held), "held"),
    )


CALLS = (*_products(), *_elementwise())
IN_PLACE = _in_place()
WITH_OUT = _with_out()
EVERY = (*CALLS, *IN_PLACE, *WITH_OUT)
