"""Which parts of a multimodal model a prompt of text never runs: towers of images and sound, and what projects them."""

from __future__ import annotations

from typing import Any

from torch import nn

BESIDE_TEXT = "beside the text model: no prompt of text runs it"


def text_of(config: Any) -> Any:
    """Return the configuration of the text model in ``config`` of a multimodal one; None where that is of text alone.

    Multimodal is what holds the configuration of its text model beside others, which is one of another class.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return None if text is config or type(text) is type(config) else text


def beside_text(model: Any) -> frozenset[str]:
    """Return the paths of all modules of ``model`` that are neither part of its text model, nor hold it, nor are its
    head; none where the model is one of text alone.

    The text model is told by the configuration that it was built of; no weight is read.
    """
    text = text_of(getattr(model, "config", None))
    if text is None:
        return frozenset()
    modules: dict[str, nn.Module] = dict(model.named_modules())
    found = [path for path, module in modules.items() if path and type(getattr(module, "config", None)) is type(text)]
    if not found:
        return frozenset()
    get = getattr(model, "get_output_embeddings", None)
    head = get() if get is not None else None
    return frozenset(
        path
        for path, module in modules.items()
        if path and module is not head and not any(_related(path, one) for one in found)
    )


def _related(path: str, other: str) -> bool:
    """True where one of them is the other, or lies in it."""
    return path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")
