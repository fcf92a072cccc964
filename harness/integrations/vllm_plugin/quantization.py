"""The quantization configuration under which vLLM gives every linear and the output head a method of ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from vllm.config import get_current_vllm_config
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization import register_quantization_config
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, UnquantizedEmbeddingMethod

from harness.exceptions import EvidenceError
from harness.integrations.vllm_plugin.payload import KEY, METHOD, Payload, check_whole
from harness.integrations.vllm_plugin.session import EngineSession, Product, Slice, operated
from harness.noise.sites import Site
from harness.runs.quantized import INPUT, WEIGHT


class RobustnessConfig(QuantizationConfig):
    """Weights stay what they are, or become their fake-quantized values; products go through the operator.

    Holds the process's :class:`EngineSession`; a pickled copy makes its own. Raises :class:`EvidenceError` for
    what would be perturbed wrongly.
    """

    def __init__(self) -> None:
        super().__init__()
        self._session: EngineSession | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_session": None}

    def get_name(self) -> str:
        """Return the name under which it is registered."""
        return METHOD

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        """Return those of the engine."""
        return [torch.float32, torch.bfloat16, torch.float16]

    @classmethod
    def get_min_capability(cls) -> int:
        """Return whether the device can: no special hardware is needed."""
        return 0

    @staticmethod
    def get_config_filenames() -> list[str]:
        """Do nothing: nothing is read from the checkpoint."""
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RobustnessConfig:
        """Return a checkpoint that is quantized already says so in its own config; it is refused before."""
        return cls()

    @property
    def session(self) -> EngineSession:
        """The session of this process, made from the payload in ``additional_config`` when first asked for."""
        if self._session is None:
            config = get_current_vllm_config()
            data = config.additional_config.get(KEY) if isinstance(config.additional_config, dict) else None
            if data is None:
                raise EvidenceError(
                    f"quantization={METHOD!r}", "the engine was given no payload", f"give additional_config[{KEY!r}]"
                )
            check_whole(config.parallel_config.world_size)
            self._session = EngineSession(Payload.from_json(data))
        return self._session

    def get_quant_method(self, layer: nn.Module, prefix: str) -> Any:
        """Return the method of ``layer``, None for kinds that are not perturbed here."""
        if isinstance(layer, ParallelLMHead):
            return HeadMethod(self.session, prefix, self.packed_modules_mapping)
        if isinstance(layer, LinearBase):
            return LinearMethod(self.session, prefix, self.packed_modules_mapping)
        return None


class _Sites:
    """The sites of one layer of vLLM: one for each product of transformers that is fused into it."""

    def __init__(self, session: EngineSession, prefix: str, packed: dict[str, list[str]]) -> None:
        self.session, self.prefix = session, prefix
        parent, dot, name = prefix.rpartition(".")
        self.paths = tuple(f"{parent}{dot}{part}" for part in packed.get(name, [name]))
        self._result: int | None = None
        self._inputs: list[int] = []
        self.weights: list[tuple[int, Slice]] = []

    def build(self, widths: list[int], inputs: int, head: bool = False) -> None:
        """Registers what is perturbed here; ``widths`` are the output features of each fused product."""
        if len(widths) != len(self.paths):
            raise EvidenceError(
                f"layer {self.prefix} of vLLM",
                f"it fuses {len(widths)} products, its model names {len(self.paths)}",
                "use the transformers engine",
            )
        slices, payload = [], self.session.payload
        for path, start, stop in zip(self.paths, *_bounds(widths), strict=True):
            slices += [Slice(site, start, stop) for site in payload.sites if _is(site, path, "output")]
        if slices:
            self._result = self.session.register(Product(self.prefix, tuple(slices), head))
        for number, (spec, sites) in enumerate(payload.quantizers):
            found = [
                Slice(site, start, stop)
                for path, start, stop in zip(self.paths, *_bounds(widths), strict=True)
                for site in sites
                if _is(site, path, spec.at)
            ]
            if found and spec.at == INPUT:
                self._inputs.append(self.session.register(self._input(number, found, inputs, head)))
            elif spec.at == WEIGHT:
                self.weights += [(number, each) for each in found]

    def _input(self, number: int, found: list[Slice], inputs: int, head: bool) -> Product:
        """The input of the layer, which all its products share: they must agree on what becomes of it."""
        if len(found) < len(self.paths):
            raise EvidenceError(
                f"quantizing the input of some of {', '.join(self.paths)}",
                "vLLM computes them from one input",
                "choose all of them or none",
            )
        if self.session.payload.quantizers[number][0].error.random and len(found) > 1:
            raise EvidenceError(
                f"stochastic rounding of the input of {', '.join(self.paths)}",
                "each would draw its own, and vLLM computes them from one input",
                "round to nearest, or use the transformers engine",
            )
        shared = tuple(Slice(each.site, 0, inputs) for each in found)
        return Product(f"{self.prefix}:input:{number}", shared, head, len(shared) > 1, number)

    def before(self, x: Tensor) -> Tensor:
        """The input as its quantizers leave it."""
        for number in self._inputs:
            x = operated(x, self.session, number)
        return x

    def after(self, y: Tensor) -> Tensor:
        """The result with its noise."""
        if self._result is None:
            return y
        return operated(y, self.session, self._result)

    def quantized(self, weight: Tensor) -> Tensor | None:
        """A copy of ``weight`` (out, in) with every quantized product's rows replaced; None where there are none.

        Each product is quantized on its own, as scales and tiles of a whole tensor ask for.
        """
        if not self.weights:
            return None
        after = weight.detach().clone()
        for number, part in self.weights:
            after[part.start : part.stop] = self.session.quantize_weight(
                number, part.site, after[part.start : part.stop]
            )
        return after


def _bounds(widths: list[int]) -> tuple[list[int], list[int]]:
    stops = torch.tensor(widths).cumsum(0).tolist()
    return [stop - width for stop, width in zip(stops, widths, strict=True)], stops


def _is(site: Site, path: str, point: str) -> bool:
    return site.module == path and site.point == point


class LinearMethod(UnquantizedLinearMethod):
    """vLLM's own product between the quantized input and the noise."""

    def __init__(self, session: EngineSession, prefix: str, packed: dict[str, list[str]]) -> None:
        super().__init__()
        self.sites = _Sites(session, prefix, packed)

    def create_weights(self, layer: nn.Module, *args: Any, **kwargs: Any) -> None:
        """Do as vLLM does; the widths of the fused products are known here."""
        super().create_weights(layer, *args, **kwargs)
        inputs, widths = _given(args, kwargs)
        self.sites.build(widths, inputs)

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        """Quantize the weight before vLLM packs it: afterwards nothing that is written to it has an effect."""
        after = self.sites.quantized(layer.weight)  # type: ignore[arg-type]
        if after is not None:
            layer.weight.data.copy_(after)  # type: ignore[operator]
        super().process_weights_after_loading(layer)

    def apply(self, layer: nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the product of vLLM, perturbed."""
        return self.sites.after(super().apply(layer, self.sites.before(x), bias))


class HeadMethod(UnquantizedEmbeddingMethod):
    """The output head. A head that shares the embedding's weight is quantized as a copy: the embedding keeps its own.

    vLLM pads the vocabulary; the padding is not perturbed, as transformers does not have it.
    """

    def __init__(self, session: EngineSession, prefix: str, packed: dict[str, list[str]]) -> None:
        self.sites = _Sites(session, prefix, packed)
        self._loaded: nn.Parameter | None = None

    def create_weights(self, layer: nn.Module, *args: Any, **kwargs: Any) -> None:
        """Do as vLLM does."""
        super().create_weights(layer, *args, **kwargs)
        inputs, _ = _given(args, kwargs)
        self.sites.build([layer.org_vocab_size], inputs, head=True)  # type: ignore[list-item]

    def open_for_loading(self, layer: nn.Module) -> None:
        """Put the weight that vLLM loads into back in place of the quantized copy, before weights are loaded anew."""
        if self._loaded is not None:
            layer.weight = self._loaded

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        """Quantize a copy of the weight, padding left out, before vLLM packs it."""
        vocabulary = layer.org_vocab_size
        after = self.sites.quantized(layer.weight[:vocabulary])  # type: ignore[index]
        if after is not None:
            padded = layer.weight.detach().clone()  # type: ignore[operator]
            padded[:vocabulary] = after
            self._loaded = layer.weight  # type: ignore[assignment]
            layer.weight = nn.Parameter(padded, requires_grad=False)
        super().process_weights_after_loading(layer)

    def apply(self, layer: nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the logits of vLLM, perturbed."""
        return self.sites.after(super().apply(layer, self.sites.before(x), bias))


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, list[int]]:
    """(input features, output features of each product) of ``create_weights``, however they were passed."""
    inputs = kwargs.get("input_size_per_partition", args[0] if args else None)
    widths = kwargs.get("output_partition_sizes", args[1] if len(args) > 1 else None)
    return int(inputs), list(widths)  # type: ignore[arg-type]


def register() -> None:
    """Register the configuration under its name."""
    register_quantization_config(METHOD)(RobustnessConfig)
