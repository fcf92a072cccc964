"""Runs a scan: weights from the files, then activations, then the effect of every layer, each kept when finished."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.checkpoints.hub import FIELD as HUB
from harness.checkpoints.tensors import Fingerprint
from harness.diagnostics.activations import scan_activations
from harness.diagnostics.effect import Effects
from harness.diagnostics.gaussian import Yardstick, gaussian
from harness.diagnostics.scan_result import LayerEffect, ModuleScan, ScanResult
from harness.diagnostics.scan_spec import ACTIVATIONS, WEIGHTS, ScanSpec
from harness.diagnostics.scan_store import ScanStore
from harness.diagnostics.scanned_model import ScannedModel, load
from harness.diagnostics.weights import Source, open_source, scan_weights
from harness.engines.device import device_name, out_of_memory_as
from harness.engines.generation import Decoding, Prompt, generate
from harness.exceptions import StoreError
from harness.noise import environment
from harness.numerics.quant_measure import measure_quantization
from harness.progress import Silent, Watcher, duration
from harness.runs.dequantized import FIELD as DEQUANTIZED

_PROBE_STEPS, _PROBE_ELEMENTS = 4, 1 << 16
CLEAN = "clean answers"
EFFECT, FINGERPRINT = "effect", "fingerprint"


@dataclass(frozen=True)
class _Scan:
    """What the stages share."""

    spec: ScanSpec
    source: Source
    store: ScanStore
    yardstick: Yardstick
    watcher: Watcher


def scan(spec: ScanSpec, out: Path | None = None, watcher: Watcher | None = None) -> ScanResult:
    """Scan as ``spec`` says; with ``out``, every finished part is kept there and not done again.

    Raises :class:`harness.exceptions.HarnessError` for bad input, and in a process whose ``HARNESS_NOISE`` would
    perturb the clean arm too; Ctrl-C loses the running part alone.
    """
    environment.refuse("a scan")
    source = open_source(spec.checkpoint, spec.include, spec.adapter, spec.base)
    settings = spec.settings()
    with ScanStore.open(out, {"settings": settings, **source.identity}) as store:
        running = _Scan(spec, source, store, Yardstick(), watcher or Silent())
        needed = spec.task is not None and (spec.effect or spec.takes_activations)
        loaded = _load(running) if needed else None
        weights, fingerprint = _weights(running)
        activations: list[ModuleScan] = []
        unmeasured: dict[str, str] = {}
        effects: list[LayerEffect] = []
        clean = None
        if loaded is not None and spec.takes_activations:
            activations, unmeasured = _activations(running, loaded)
        if loaded is not None and spec.effect:
            effects, clean = _effects(running, loaded)
        return ScanResult(
            checkpoint=_checkpoint(running, loaded, fingerprint),
            settings=settings,
            modules=(*weights, *activations),
            effects=tuple(effects),
            excluded=source.excluded,
            unmeasured=unmeasured,
            clean=clean,
        )


def _load(running: _Scan) -> ScannedModel:
    spec = running.spec
    smaller = "free memory, or give a --device that has more"
    with out_of_memory_as(f"checkpoint {spec.checkpoint}", smaller):
        return load(spec, running.source)


def _checkpoint(running: _Scan, loaded: ScannedModel | None, fingerprint: str) -> Mapping[str, Any]:
    source = running.source
    opened = source.opened
    return {
        "path": str(running.spec.checkpoint),
        "model": type(source.skeleton).__name__,
        "weights": fingerprint,
        "settings": source.settings,
        "adapter": None if opened.adapter is None else {"mode": opened.mode, "base": str(opened.folder)},
        **{name: opened.details[name] for name in (DEQUANTIZED, HUB) if name in opened.details},
        "device": None if loaded is None else device_name(loaded.prepared.checkpoint.model.device),
    }


def _weights(running: _Scan) -> tuple[list[ModuleScan], str]:
    """The results for weights (none where only activations are asked for) and the fingerprint of all tensors."""
    spec, store, source = running.spec, running.store, running.source
    recipes = spec.recipes if spec.takes_weights else ()
    stored = {name: store.get(WEIGHTS, name) for name in source.targets} if recipes else {}
    known = {name: str(entry["digest"]) for name, entry in stored.items() if entry is not None}
    left = sum(torch.Size(source.tensors.shapes[name]).numel() for name in source.targets if name not in known)
    if recipes and left:
        running.watcher.cost(_weight_cost(running, left))
    running.watcher.stage(WEIGHTS if recipes else FINGERPRINT, len(source.targets))
    fingerprint = Fingerprint()
    found: list[ModuleScan] = []
    for scanned in scan_weights(source, recipes, running.yardstick, fingerprint, known):
        if recipes and scanned.name in known:
            if known[scanned.name] != scanned.digest:
                raise _other_weights(running, f"tensor {scanned.name}")
            found += [ModuleScan.from_json(entry) for entry in stored[scanned.name]["modules"]]
        elif recipes:
            found += scanned.modules
            entry = {"digest": scanned.digest, "modules": [module.to_json() for module in scanned.modules]}
            store.add(entry, WEIGHTS, scanned.name)
        running.watcher.advance(1)
    digest = fingerprint.hexdigest()
    before = store.get(FINGERPRINT)
    if before is None:
        store.add(digest, FINGERPRINT)
    elif before != digest:
        raise _other_weights(running, "the fingerprint")
    return found, digest


def _other_weights(running: _Scan, what: str) -> StoreError:
    return StoreError(
        f"checkpoint {running.spec.checkpoint}",
        f"{what} differs from what the folder was begun with: it belongs to other weights",
        "use another --out",
    )


def _weight_cost(running: _Scan, elements: int) -> str:
    names = ", ".join(str(recipe) for recipe in running.spec.recipes)
    sample = gaussian(_PROBE_ELEMENTS // 1024, 1024, "probe").bfloat16()
    for _ in range(2):  # the first time is not counted: it loads what stays loaded, and takes four times as long
        begun = time.monotonic()
        for recipe in running.spec.recipes:
            measure_quantization(sample, recipe)
    seconds = (time.monotonic() - begun) / _PROBE_ELEMENTS * elements
    return f"weights: {elements:,} elements in {names}; about {duration(seconds)} (measured on a sample)"


def _activations(running: _Scan, loaded: ScannedModel) -> tuple[list[ModuleScan], dict[str, str]]:
    spec, store = running.spec, running.store
    entry = store.get(ACTIVATIONS)
    if entry is None:
        running.watcher.stage(ACTIVATIONS, len(loaded.prepared.prompts))
        with out_of_memory_as(f"--batch-size {spec.batch_size}", "give a smaller --batch-size"):
            found, unmeasured = scan_activations(
                loaded, spec.recipes, running.yardstick, spec.batch_size, running.watcher.advance
            )
        entry = {"modules": [module.to_json() for module in found], "unmeasured": unmeasured}
        store.add(entry, ACTIVATIONS)
    return [ModuleScan.from_json(module) for module in entry["modules"]], entry["unmeasured"]


def _effects(running: _Scan, loaded: ScannedModel) -> tuple[list[LayerEffect], Any]:
    spec, store, watcher = running.spec, running.store, running.watcher
    cases = [(recipe, group) for recipe in spec.recipes for group in loaded.groups]
    left = [case for case in cases if store.get(EFFECT, case[0].format.name, case[1]) is None]
    if left or store.get(CLEAN) is None:
        items = len(loaded.prepared.items)
        watcher.cost(_effect_cost(loaded, spec, len(left)))
        watcher.stage(CLEAN, items)
        with out_of_memory_as(f"--batch-size {spec.batch_size}", "give a smaller --batch-size: the scan resumes"):
            effects = Effects(loaded, spec, watcher.advance)
            store.add(effects.accuracy.to_json(), CLEAN)
            watcher.stage(EFFECT, len(left) * items)
            for recipe, group in left:
                effect = effects.measure(group, recipe, watcher.advance)
                store.add(effect.to_json(), EFFECT, recipe.format.name, group)
    found = [LayerEffect.from_json(store.get(EFFECT, recipe.format.name, group)) for recipe, group in cases]
    return found, store.get(CLEAN)


def _effect_cost(loaded: ScannedModel, spec: ScanSpec, variants: int) -> str:
    """What the effect will cost at most: answers are taken as long as allowed."""
    prepared = loaded.prepared
    prompts = sorted(prepared.prompts.items(), key=lambda entry: -len(entry[1]))[: spec.batch_size]
    steps = min(_PROBE_STEPS, prepared.decoding.max_new_tokens)
    short = Decoding(steps, (), prepared.decoding.pad)
    begun = time.monotonic()
    generate(prepared.checkpoint.model, [Prompt(item, 0, tokens) for item, tokens in prompts], short)
    each = (time.monotonic() - begun) / steps
    batches = -(-len(prepared.items) // spec.batch_size)
    forwards = batches * (prepared.decoding.max_new_tokens + 1)
    return (
        f"effect: {variants} variants ({len(loaded.groups)} layers x {len(spec.recipes)} formats) and the clean "
        f"answers, {len(prepared.items)} items; at most {forwards * (variants + 1):,} forwards, at most "
        f"{duration(each * forwards * (variants + 1))} (measured on a probe batch)"
    )
