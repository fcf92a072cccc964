"""Merges a LoRA adapter into its base with peft, and shows that it did: weights changed, and logits are the adapter's.

Merging rounds to the dtype in which the base is stored; peft's own unmerged forward, in float32, is what the result is
held against.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.checkpoints.folder import settings_files, weight_files
from harness.checkpoints.loading import load_model
from harness.checkpoints.settings import compose_settings
from harness.checkpoints.tensors import opened
from harness.exceptions import CheckpointError, HarnessError
from harness.noise.quiet import quiet
from harness.text import brief

log = logging.getLogger(__name__)

DTYPES = MappingProxyType({"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"})
"""The dtypes that weights may be merged in, widest first, as safetensors and torch name them."""

TOLERANCE = MappingProxyType({"float64": 1e-4, "float32": 1e-4, "float16": 5e-3, "bfloat16": 2e-2})
"""Largest accepted difference of a logit between merged and unmerged, as a fraction of the largest logit (absolute
value), by the dtype of the merged weights: rounding of sums in float32, rounding of each weight in the others."""

LOST = 0.1
"""Share of the adapter's effect on the logits that rounding may take before a warning says so."""

PROBES, PROBE_TOKENS = 4, 16


@dataclass(frozen=True)
class Merge:
    """What merging did. ``changed[module]`` is (changed elements, all elements) of its weight.

    ``difference`` is the largest difference between a logit of the merged and of the unmerged model in float32,
    ``logit`` the largest logit and ``effect`` the largest change that the adapter makes to one (absolute values).
    """

    dtype: str
    changed: Mapping[str, tuple[int, int]]
    difference: float
    logit: float
    effect: float

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary for the manifest, with the changes added up."""
        changed = [sum(pair[index] for pair in self.changed.values()) for index in (0, 1)]
        totals = {"modules": len(self.changed), "changed": changed[0], "elements": changed[1]}
        return {**asdict(self), "changed": totals, "tolerance": TOLERANCE[self.dtype]}


def merge_adapter(base: Path, adapter: Path, into: Path) -> Merge:
    """Write ``adapter`` merged into the checkpoint ``base`` to the folder ``into``, with the settings in force.

    Raises :class:`HarnessError` where peft is not installed, and :class:`CheckpointError` where peft cannot merge, a
    weight is left unchanged, or the logits differ by more than :data:`TOLERANCE`.
    """
    peft = import_peft()
    dtype = stored_dtype(base)
    with _undisturbed():
        model = _adapted(peft, base, adapter, dtype)
        try:
            changed = _merged_in_place(model)
            model = model.unload()
        except (ValueError, RuntimeError, NotImplementedError) as error:
            raise _failed(adapter, error) from None
        unchanged = [path for path, (count, _) in changed.items() if not count]
        if unchanged:
            raise CheckpointError(
                f"adapter {adapter}",
                f"merging it changed no element of {unchanged[0]} in {dtype} ({len(unchanged)} of {len(changed)} "
                "modules unchanged)",
                "train it, or evaluate it with --adapter unmerged if its updates are below the rounding",
            )
        model.save_pretrained(into)
        del model
        for file in settings_files(into):
            file.unlink()
        compose_settings(base, adapter, into)
        merge = _compared(peft, base, adapter, into, Merge(dtype, changed, 0.0, 0.0, 0.0))
    return _checked(merge, adapter)


def import_peft() -> Any:
    """Return the module ``peft``. Raises :class:`HarnessError` where it is not installed."""
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise HarnessError(
            "a merged LoRA adapter without peft",
            f"peft merges it ({error})",
            'install it with pip install "robustness-harness[lora]", or give --adapter unmerged',
        ) from None


def stored_dtype(base: Path) -> str:
    """Return the widest dtype of the weights in ``base``, as torch names it. Raises :class:`CheckpointError` for
    quantized weights."""
    found = set()
    for file in weight_files(base):
        with opened(file) as handle:
            found |= {handle.get_slice(name).get_dtype() for name in handle.keys()}  # noqa: SIM118 (no mapping)
    others = sorted(found - set(DTYPES))
    if others:
        raise CheckpointError(
            f"base checkpoint {base}", f"it holds weights of type {others[0]}", "merge into the base before quantizing"
        )
    return next(name for stored, name in DTYPES.items() if stored in found)


def _adapted(peft: Any, base: Path, adapter: Path, dtype: str) -> Any:
    """The base with the adapter as peft wraps it."""
    with quiet():
        model = load_model(base, dtype, "eager")
    try:
        config = peft.LoraConfig.from_pretrained(str(adapter))
        config.inference_mode = True
        return peft.PeftModel.from_pretrained(model, str(adapter), config=config, torch_device="cpu").eval()
    except Exception as error:  # configurations of other releases meet errors of many kinds
        raise _failed(adapter, error) from None


def _merged_in_place(model: Any) -> dict[str, tuple[int, int]]:
    """Merges layer by layer; the count of changed elements needs a copy of one weight at a time."""
    changed = {}
    layers = importlib.import_module("peft.tuners.lora").LoraLayer
    for path, module in model.get_base_model().named_modules():
        if isinstance(module, layers):
            weight = module.get_base_layer().weight
            before = weight.detach().clone()
            module.merge(safe_merge=True)
            changed[path] = (int((module.get_base_layer().weight != before).sum()), before.numel())
    return changed


def _compared(peft: Any, base: Path, adapter: Path, merged: Path, merge: Merge) -> Merge:
    """Logits of the same probes, one model in memory after the other."""
    model = _adapted(peft, base, adapter, "float32")
    ids = _probes(model.config.get_text_config().vocab_size)
    unmerged = _logits(model, ids)
    with model.disable_adapter():
        plain = _logits(model, ids)
    del model
    with quiet():
        found = _logits(load_model(merged, "float32", "eager").eval(), ids)
    return Merge(
        merge.dtype,
        merge.changed,
        difference=float((found - unmerged).abs().max()),
        logit=float(unmerged.abs().max()),
        effect=float((unmerged - plain).abs().max()),
    )


def _checked(merge: Merge, adapter: Path) -> Merge:
    tolerance = TOLERANCE[merge.dtype]
    if not merge.difference <= tolerance * merge.logit:  # also where it is NaN
        raise CheckpointError(
            f"adapter {adapter}",
            f"merged and unmerged logits differ by {merge.difference:.3g}, more than {tolerance:g} of the largest "
            f"({merge.logit:.3g})",
            "evaluate it with --adapter unmerged",
        )
    if merge.difference > LOST * merge.effect:
        log.warning(
            "merging in %s moves logits by %.3g, where the adapter moves them by %.3g: --adapter unmerged is nearer to "
            "what was trained",
            *(merge.dtype, merge.difference, merge.effect),
        )
    return merge


def _probes(vocabulary: int) -> Tensor:
    """Token ids (prompts, tokens), the same for every model of this vocabulary."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, vocabulary, (PROBES, PROBE_TOKENS)))


@torch.no_grad()
def _logits(model: Any, ids: Tensor) -> Tensor:
    logits: Tensor = model(input_ids=ids).logits
    return logits


def _failed(adapter: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"adapter {adapter}", f"peft cannot load or merge it ({brief(error)})", "save it again")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """peft initialises what it loads from the global generator, and warns of fields that it does not know."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
