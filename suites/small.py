"""A checkpoint that runs in a blink: the shipped one without its upper layers, which answers nothing right."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

LAYERS = 2


def lower_layers(source: Path, target: Path, layers: int = LAYERS) -> Path:
    """Writes a copy of ``source`` with its first ``layers`` layers only to ``target``, and returns that."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    config["num_hidden_layers"] = layers
    config["layer_types"] = config["layer_types"][:layers]
    (target / "config.json").write_text(json.dumps(config))
    dropped = tuple(f"model.layers.{layer}." for layer in range(layers, 64))
    weights = load_file(target / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith(dropped)}
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    return target
