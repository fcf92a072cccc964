"""Where the second implementation perturbs: plain forward hooks, and an attention written out."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from harness.noise.replay import experts, formats
from harness.noise.replay.draws import CHUNK, Side, columns_of, counted, label_key
from harness.noise.replay.errors import perturbed
from harness.spec import NoiseSpec
from harness.spec.experts import FIELDS

INSIDE = ("qk", "softmax", "pv", "sdpa")
"""What a site's name may say after a colon: places inside an attention block."""

EAGER, FUSED = "harness_replay", "harness_replay_sdpa"
_BLOCK = "_harness_replay_attention"


@dataclass(frozen=True)
class Layer:
    """One specification with the names of its sites: the noise itself, or a part of the quantization.

    ``number`` is its place among the layers of the model.
    """

    spec: NoiseSpec
    sites: tuple[str, ...]
    number: int = 0


@dataclass
class Rows:
    """Whose rows the running forward has; the hooks outlive a forward, so it is filled anew for each.

    ``keys`` holds the row keys of all tokens (batch * tokens) of each layer, by its number, ``selected`` which of them
    its noise acts on (bool; None: all). ``tokens`` is the width of what is fed; ``picked`` int64, the flat numbers of
    the tokens whose logits are wanted. ``level`` is the strength of the noise.
    """

    keys: list[Side] = field(default_factory=list)
    selected: list[Tensor | None] = field(default_factory=list)
    tokens: int = 0
    picked: Tensor | None = None
    level: float = 0.0

    def of(self, layer: int, head: bool) -> Side:
        """Return the row keys of ``layer``: of all tokens, or of those that the head sees."""
        found = self.keys[layer]
        if not head or self.picked is None:
            return found
        return Side(found.low[self.picked], found.high[self.picked])

    def kept(self, layer: int, head: bool, before: Tensor, after: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Return ``after`` (rows, columns), but ``before`` in the rows on which ``layer`` does not act; ``tokens`` are
        the flat numbers of the rows where they are not those of :meth:`of`."""
        selected = self.selected[layer] if self.selected else None
        if selected is None:
            return after
        if tokens is None:
            tokens = self.picked if head else None
        own = selected if tokens is None else selected[tokens]
        return torch.where(own.view(-1, *(1,) * (after.ndim - 1)), after, before)


class Places:
    """The hooks of the second implementation on one model."""

    def __init__(self, model: Any, layers: Sequence[Layer], rows: Rows) -> None:
        self._model, self._layers, self.rows = model, layers, rows
        self._columns: dict[tuple[str, int, int], Side] = {}
        head = model.get_output_embeddings()
        self._head = next((name for name, module in model.named_modules() if module is head), None)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Attach everything, and restore the model on leaving; quantization comes first, so that noise falls on it."""
        with contextlib.ExitStack() as stack:
            if self._head is not None:
                module = self._model.get_submodule(self._head)
                stack.callback(module.register_forward_pre_hook(self._pick).remove)
            for layer in self._layers:
                self._attach(layer, stack)
            yield

    def _attach(self, layer: Layer, stack: contextlib.ExitStack) -> None:
        blocks: dict[str, dict[str, str]] = {}
        for name in layer.sites:
            path, _, part = name.partition(":")
            if part.partition(":")[0] in FIELDS:
                self._stacked(layer, name, stack)
                continue
            if part in INSIDE:
                blocks.setdefault(path, {})[part] = name
                continue
            module = self._model.get_submodule(path)
            if part == "weight":
                stack.enter_context(self._weight(layer, name, module))
            elif part == "input":
                hook = self._on_input(layer, name, path)
                stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
            else:
                stack.callback(module.register_forward_hook(self._on_result(layer, name, path)).remove)
        if blocks:
            stack.enter_context(self._attention(layer, blocks))

    def _pick(self, module: nn.Module, args: tuple[Any, ...]) -> Any:
        """The head computes the wanted tokens only, as one sequence."""
        if self.rows.picked is None:
            return None
        return (args[0].reshape(1, -1, args[0].shape[-1])[:, self.rows.picked], *args[1:])

    def _on_result(self, layer: Layer, name: str, path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            first = output[0] if isinstance(output, tuple) else output
            changed = self.changed(layer, name, path, first)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return hook

    def _on_input(self, layer: Layer, name: str, path: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return (self.changed(layer, name, path, args[0]), *args[1:]), kwargs

        return hook

    def changed(self, layer: Layer, name: str, path: str, y: Tensor) -> Tensor:
        """Return ``y`` perturbed row by row; a token's elements are one row, in the order (heads, features)."""
        level = self.level(layer)
        if level == 0:
            return y
        of_head = self._head is not None and (path == self._head or path.startswith(f"{self._head}."))
        keys = self.rows.of(layer.number, of_head)
        count = keys.low.numel()
        by_heads = y.ndim == 4 and y.shape[2] == self.rows.tokens and y.shape[1] != self.rows.tokens
        flat = (y.transpose(1, 2) if by_heads else y).reshape(count, -1)
        columns = self.columns(name, flat.shape[1], flat.device)
        after = in_chunks(layer.spec, flat, keys.view(-1, 1), columns.view(1, -1), level)
        after = self.rows.kept(layer.number, of_head, flat, after)
        if by_heads:
            return after.view(y.shape[0], y.shape[2], y.shape[1], y.shape[3]).transpose(1, 2)
        return after.view(y.shape)

    def columns(self, name: str, count: int, device: torch.device, *more: int) -> Side:
        """Return the column keys of the site ``name``, made once."""
        known = name, count, more[0] if more else -1
        if known not in self._columns:
            self._columns[known] = Side.of(columns_of(name, count, *more), device)
        return self._columns[known]

    def _stacked(self, layer: Layer, name: str, stack: contextlib.ExitStack) -> None:
        path, field, *point = name.split(":")
        module = self._model.get_submodule(path)
        if point == ["weight"]:
            stack.enter_context(self._weight(layer, name, module, field))
            return
        block = module.__dict__.get(experts.BLOCK)
        if block is None:
            block = module.__dict__[experts.BLOCK] = experts.Block(module)
            module.__dict__["forward"] = block.forward
            stack.callback(module.__dict__.pop, "forward")
            stack.callback(module.__dict__.pop, experts.BLOCK)
        block.add(field, point == ["input"], functools.partial(self._expert_rows, layer, name))

    def _expert_rows(self, layer: Layer, name: str, y: Tensor, tokens: Tensor, expert: int) -> Tensor:
        """Rows (rows, columns) of one expert, perturbed; ``tokens`` are the flat numbers of theirs."""
        level = self.level(layer)
        if level == 0:
            return y
        keys = self.rows.of(layer.number, False)
        rows = Side(keys.low[tokens], keys.high[tokens]).counted([expert])
        columns = self.columns(name, y.shape[1], y.device)
        after = in_chunks(layer.spec, y, rows.view(-1, 1), columns.view(1, -1), level)
        return self.rows.kept(layer.number, False, y, after, tokens)

    def level(self, layer: Layer) -> float:
        """Return the strength of ``layer``: quantization is on at every level of the noise."""
        return self.rows.level if layer.spec.at == "output" else 1.0

    @contextlib.contextmanager
    def _weight(self, layer: Layer, name: str, module: Any, field: str = "weight") -> Iterator[None]:
        """The weight itself is replaced, once; Conv1D and some experts store it (in, out), and blocks run along the
        inputs. Each expert is a matrix of its own."""
        parameter = module._parameters[field]
        assert parameter is not None
        stored = parameter.data
        height = stored.numel() // stored.shape[-1]
        rows = Side.of(counted(label_key("weight", "0", name), range(height)), stored.device).view(-1, 1)
        columns = Side.of(columns_of(name, stored.shape[-1]), stored.device).view(1, -1)
        turned = type(module).__name__ == "Conv1D" or (stored.ndim == 3 and module.is_transposed)
        recipe, each = _recipe(layer.spec), stored.shape[-2] if stored.ndim == 3 else height
        parts = []
        for number, matrix in enumerate(stored.reshape(-1, each, stored.shape[-1])):
            own = slice(number * each, (number + 1) * each)
            side = Side(rows.low[own], rows.high[own])
            if turned:
                sides = columns.view(-1, 1), side.view(1, -1)
                parts.append(formats.quantized(matrix.t().contiguous(), recipe, *sides, by_row=False).t())
            else:
                parts.append(formats.quantized(matrix, recipe, side, columns, by_row=False))
        after = torch.stack(parts).reshape(stored.shape)
        try:
            module.__dict__[field] = torch.where(torch.isfinite(stored), after, stored)  # found before the parameter
            yield
        finally:
            del module.__dict__[field]

    @contextlib.contextmanager
    def _attention(self, layer: Layer, blocks: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
        model = self._model
        before = model.config._attn_implementation
        own = [module for path in blocks if not _asks_interface(module := model.get_submodule(path))]
        try:
            for path, names in blocks.items():
                model.get_submodule(path).__dict__[_BLOCK] = _Block(self, layer, names)
            for module in own:
                module.__dict__["forward"] = functools.partial(_forward_of_own, module)
            if len(own) < len(blocks):
                model.set_attn_implementation(FUSED if before == "sdpa" else EAGER)
            yield
        finally:
            if len(own) < len(blocks):
                model.set_attn_implementation(before)
            for module in own:
                module.__dict__.pop("forward", None)
            for path in blocks:
                del model.get_submodule(path).__dict__[_BLOCK]


@dataclass(frozen=True)
class _Block:
    """What is perturbed inside one attention block: operator -> name of the site."""

    places: Places
    layer: Layer
    names: Mapping[str, str]

    def flat(self, op: str, y: Tensor) -> Tensor:
        """(batch, tokens, heads, features): one row for each token."""
        if op not in self.names:
            return y
        return self.places.changed(self.layer, self.names[op], "", y.flatten(2)).view(y.shape)

    def scores(self, op: str, y: Tensor) -> Tensor:
        """(batch, heads, tokens, keys): every head has a stream, its counters are the positions of the keys."""
        level = self.places.level(self.layer)
        if op not in self.names or level == 0:
            return y
        device, count = y.device, y.shape[3]
        every = [self.places.columns(self.names[op], count, device, head) for head in range(y.shape[1])]
        columns = Side(torch.stack([side.low for side in every]), torch.stack([side.high for side in every]))
        rows = self.places.rows.of(self.layer.number, False).view(y.shape[0], 1, y.shape[2], 1)
        after = perturbed(self.layer.spec.error, y, rows, columns.view(1, y.shape[1], 1, count), level)
        # of keys that come later, which a mask hides: NaN there would hide everything
        seen = torch.ones(y.shape[2:], dtype=torch.bool, device=device).tril(count - y.shape[2])
        after = torch.where(seen, after, y)
        if op == "softmax" and self.layer.spec.softmax == "renormalised":
            after = after.clamp(min=0)
            after = after / after.sum(-1, keepdim=True)
        before, flat = (x.transpose(1, 2).flatten(0, 1) for x in (y, after))
        kept = self.places.rows.kept(self.layer.number, False, before, flat)
        return kept.view(y.shape[0], y.shape[2], y.shape[1], count).transpose(1, 2)


class _OwnProducts(TorchFunctionMode):
    """Perturbs the products that a block computes by itself, without transformers' interface: the first product of two
    4-D tensors is QK, the second PV, each as the interface has it but for PV's order (batch, heads, tokens, dim)."""

    def __init__(self, block: _Block) -> None:
        super().__init__()
        self._block, self._order = block, ["qk", "pv"]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.__name__ == "softmax":
            return self._block.scores("softmax", result)
        if func.__name__ not in ("matmul", "__matmul__") or any(x.ndim != 4 for x in args[:2]) or not self._order:
            return result
        if self._order.pop(0) == "qk":
            return self._block.scores("qk", result)
        return self._block.flat("pv", result.transpose(1, 2)).transpose(1, 2)


def _forward_of_own(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    with _OwnProducts(module.__dict__[_BLOCK]):
        return type(module).forward(module, *args, **kwargs)


def _asks_interface(module: nn.Module) -> bool:
    """Whether a block computes its attention by transformers' interface, as the source of its forward says."""
    try:
        return "attention_interface" in inspect.getsource(type(module).forward)
    except OSError:  # a class without a file
        return True


def in_chunks(spec: NoiseSpec, flat: Tensor, rows: Side, columns: Side, level: float) -> Tensor:
    """Return ``flat`` (rows, columns) perturbed, some rows at a time: temporaries stay in the cache."""
    step = max(1, CHUNK // flat.shape[1])
    if step >= flat.shape[0]:
        return perturbed(spec.error, flat, rows, columns, level)
    after = torch.empty_like(flat)
    for start in range(0, flat.shape[0], step):
        part = slice(start, start + step)
        side = Side(rows.low[part], rows.high[part])
        after[part] = perturbed(spec.error, flat[part], side, columns, level)
    return after


def _recipe(spec: NoiseSpec) -> Any:
    return spec.error.recipe


def plain_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **given: Any
) -> tuple[Tensor, Tensor]:
    """Compute softmax attention step by step; query (batch, heads, tokens, dim), result (batch, tokens, heads, dim)."""
    block: _Block | None = module.__dict__.get(_BLOCK)
    groups, scaling = query.shape[1] // key.shape[1], given.get("scaling")
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scores = query @ key.transpose(2, 3)
    if block is not None:
        scores = block.scores("qk", scores)
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores + attention_mask
    kind = None if type(module).__name__ == "GPT2Attention" else torch.float32
    weights = torch.softmax(scores, -1, dtype=kind)
    if block is not None:
        weights = block.scores("softmax", weights)
    weights = weights.to(query.dtype)
    output = (weights @ value).transpose(1, 2).contiguous()
    return (output if block is None else block.flat("pv", output)), weights


def fused_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **given: Any
) -> tuple[Tensor, None]:
    """Compute transformers' own fused attention; its output is perturbed."""
    block: _Block | None = module.__dict__.get(_BLOCK)
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    return (output if block is None else block.flat("sdpa", output)), None


for _name, _function, _mask in ((EAGER, plain_attention, eager_mask), (FUSED, fused_attention, sdpa_mask)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, _mask)
