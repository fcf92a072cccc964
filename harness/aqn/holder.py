"""One interface for whatever holds weights: a module, an FSDP2-sharded module, the model of a vLLM worker.

A :class:`Piece` is one weight under the name that transformers gives it, as the tensor that this process has of it: all
of it, its shard, or its rows of a fused matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor, nn

from harness.aqn.config import AqnConfig
from harness.aqn.draws import Region
from harness.aqn.fused import parts_of
from harness.aqn.targets import NORMS, RMSNORM, Targets, canonical, has_experts, kind_of, layer_of, nothing_matched
from harness.exceptions import HarnessError

WEIGHT = "weight"


@dataclass(frozen=True)
class Piece:
    """A weight, or this process' part of it. ``data`` gives the tensor to read and to write in place, whenever asked;
    ``gathered`` all of the weight, for statistics that must be the same on every rank. ``tied`` are the other modules
    that use it. ``owner`` gives the object that stays the same while the weight is that one (None: nothing does).
    ``widen`` puts a float32 copy in its place and returns (tensor to write, undo); None where it cannot.
    """

    name: str
    kind: str
    layer: int | None
    region: Region
    data: Callable[[], Tensor]
    gathered: Callable[[], Tensor]
    owner: Callable[[], Any]
    tied: tuple[str, ...] = ()
    widen: Callable[[], tuple[Tensor, Callable[[], None]]] | None = None

    @property
    def is_norm(self) -> bool:
        """Return whether it is the gain of a norm."""
        return self.kind in NORMS


def settings_hash(config: AqnConfig, pieces: Sequence[Piece]) -> str:
    """Return :meth:`AqnConfig.effective_hash` of ``config`` on ``pieces``."""
    return config.effective_hash([(piece.name, piece.kind, piece.layer) for piece in pieces])


class WeightHolder(Protocol):
    """What AQN needs of a holder of weights."""

    def pieces(self, targets: Targets) -> tuple[Piece, ...]:
        """Return the weights that ``targets`` name, each once; raise :class:`HarnessError` where there is none."""
        ...

    def settle(self) -> None:
        """Bring the weights into the state in which they are read and written; called before either."""
        ...


class ModuleHolder:
    """A module of transformers, wrapped by peft, FSDP2 or not, or one of vLLM, which has its rows fused."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def settle(self) -> None:
        """Shard again what a forward of FSDP2 left gathered: a write to the gathered copy would be lost."""
        for module in self._model.modules():
            reshard = getattr(module, "reshard", None)
            if callable(reshard):
                reshard()

    def pieces(self, targets: Targets) -> tuple[Piece, ...]:
        """Return the targets, each parameter once, under the first name it has."""
        named = list(self._model.named_modules(remove_duplicate=False))
        experts = has_experts(name for name, _ in named)
        users: dict[int, list[str]] = {}
        there: list[tuple[str, str]] = []
        found: dict[tuple[int, str], Piece] = {}
        for path, module in named:
            parameter = module._parameters.get(WEIGHT)
            if parameter is None:
                continue
            name = canonical(path)
            identity = _identity(parameter)
            users.setdefault(identity, []).append(name)
            kind = kind_of(type(module))
            if kind is None:
                continue
            there.append((kind, name))
            for part_name, rows in _parts(module, name, parameter):
                if not targets.takes(kind, part_name, experts):
                    continue
                if parameter.numel() == 0 and not hasattr(parameter, "device_mesh"):
                    raise _packed(name)
                found.setdefault((identity, str(rows)), _piece(module, kind, part_name, rows))
        if not found:
            raise nothing_matched(targets, there)
        result = [
            replace(piece, tied=tuple(user for user in users[key[0]] if user != piece.name and key[1] == "None"))
            for key, piece in found.items()
        ]
        return tuple(result)


def _identity(parameter: Any) -> int:
    """The same number for parameters that have the same memory, tied by ``.data`` as well; of those without memory here
    it is that of the object."""
    here = not hasattr(parameter, "device_mesh") and parameter.numel() and not parameter.is_meta
    return int(parameter.data_ptr()) if here else -id(parameter)


def _parts(module: nn.Module, name: str, parameter: Tensor) -> list[tuple[str, slice | None]]:
    """The parts of a weight; of a packed one, which has no rows, itself."""
    return [(name, None)] if parameter.numel() == 0 else parts_of(module, name, int(parameter.shape[0]))


def _packed(name: str) -> HarnessError:
    return HarnessError(
        f"weight of {name}",
        "it is empty: the engine packed it, so that writing to it does nothing",
        "perturb it before loading, or keep plain weights (vLLM on a CPU packs its linears)",
    )


def _piece(module: nn.Module, kind: str, name: str, rows: slice | None) -> Piece:
    def parameter() -> Any:
        return module._parameters[WEIGHT]

    def data() -> Tensor:
        local = _local(parameter())
        return local if rows is None else local[rows]

    def gathered() -> Tensor:
        own = parameter()
        whole: Tensor = own.full_tensor().detach() if hasattr(own, "full_tensor") else own.detach()
        return whole if rows is None else whole[rows]

    widen = None
    ours = type(module).__module__.partition(".")[0] != "vllm"  # its kernels take one dtype only
    if kind == RMSNORM and rows is None and ours and not hasattr(parameter(), "full_tensor"):
        widen = _widening(module)
    return Piece(name, kind, layer_of(name), _region(module, parameter(), data()), data, gathered, parameter, (), widen)


def _local(parameter: Any) -> Tensor:
    found: Tensor = parameter.to_local() if hasattr(parameter, "to_local") else parameter
    return found.detach()


def _region(module: nn.Module, parameter: Any, local: Tensor) -> Region:
    if hasattr(parameter, "device_mesh"):
        from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

        shape, offset = compute_local_shape_and_global_offset(
            parameter.shape, parameter.device_mesh, parameter.placements
        )
        return Region(tuple(shape), tuple(parameter.shape), tuple(offset))
    size, rank = getattr(module, "tp_size", 1), getattr(module, "tp_rank", 0)
    if size > 1 and local.ndim == 2:
        return _parallel(module, local, size, rank)
    return Region.all_of(local)


def _parallel(module: nn.Module, local: Tensor, size: int, rank: int) -> Region:
    """The place of a tensor-parallel piece of vLLM: rows of column-parallel layers, columns of row-parallel ones."""
    names = {base.__name__ for base in type(module).__mro__}
    rows, columns = local.shape
    if "RowParallelLinear" in names:
        return Region((rows, columns), (rows, columns * size), (0, columns * rank))
    if "QKVParallelLinear" in names and getattr(module, "num_kv_head_replicas", 1) > 1:
        raise HarnessError(
            f"a fused layer with {module.num_kv_head_replicas} copies of its key heads",
            "which rows of the whole it has is not known here",
            "use fewer tensor-parallel ranks, or target norms",
        )
    if "ColumnParallelLinear" in names or "ParallelLMHead" in names:
        return Region((rows, columns), (rows * size, columns), (rows * rank, 0))
    return Region.all_of(local)


def _widening(module: nn.Module) -> Callable[[], tuple[Tensor, Callable[[], None]]]:
    """A float32 gain in the place of a narrow one, and a forward in float32 that rounds once, at its end.

    The gain alone would not do: transformers rounds to the narrow dtype before it multiplies.
    """

    def widen() -> tuple[Tensor, Callable[[], None]]:
        own = module._parameters[WEIGHT]
        assert own is not None
        narrow = own.dtype
        wide = nn.Parameter(own.detach().float().clone(), requires_grad=False)
        module._parameters[WEIGHT] = wide
        handles = (
            module.register_forward_pre_hook(lambda module, args: (args[0].float(), *args[1:])),
            module.register_forward_hook(lambda module, args, output: output.to(narrow)),
        )

        def undo() -> None:
            for handle in handles:
                handle.remove()
            if module._parameters[WEIGHT] is wide:
                module._parameters[WEIGHT] = own

        return wide.data, undo

    return widen
