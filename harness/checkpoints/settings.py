"""The files beside an adapted model's weights: the adapter's own where it brings them, else those of its base.

Three groups go together, each from one folder: the tokenizer, the chat template, and the generation config. The model's
config is always that of the base. A template inside ``tokenizer_config.json`` counts as one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.checkpoints.folder import CHAT_TEMPLATE, GENERATION, TOKENIZER, settings_files
from harness.strict import read_object

MODEL = ("config.json",)
TEMPLATE_FILE = "chat_template.jinja"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


def own_settings(adapter: Path) -> bool:
    """Return True where the adapter in the folder ``adapter`` brings any of the files itself."""
    return _has_tokenizer(adapter) or bool(settings_files(adapter, (*CHAT_TEMPLATE, *GENERATION)))


def compose_settings(base: Path, adapter: Path, into: Path) -> None:
    """Copy the files that are in force for ``adapter`` on ``base`` to the folder ``into``."""
    tokenizer = adapter if _has_tokenizer(adapter) else base
    generation = adapter if settings_files(adapter, GENERATION) else base
    _copy(base, MODEL, into)
    _copy(generation, GENERATION, into)
    _copy(tokenizer, TOKENIZER, into)
    if settings_files(adapter, CHAT_TEMPLATE):
        _copy(adapter, CHAT_TEMPLATE, into)
    elif tokenizer == adapter and _inline_template(adapter) is None:
        _copy(base, CHAT_TEMPLATE, into)
        inline = _inline_template(base)
        if inline is not None and not settings_files(into, CHAT_TEMPLATE):
            (into / TEMPLATE_FILE).write_text(inline)
    elif tokenizer == base:
        _copy(base, CHAT_TEMPLATE, into)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def _inline_template(folder: Path) -> str | None:
    """A single template in the tokenizer's configuration; a list of named ones goes with its own tokenizer."""
    file = folder / _TOKENIZER_CONFIG
    template = read_object(file).get("chat_template") if file.is_file() else None
    return template if isinstance(template, str) else None


def _copy(source: Path, globs: tuple[str, ...], into: Path) -> None:
    for file in settings_files(source, globs):
        target = into / file.relative_to(source)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)
