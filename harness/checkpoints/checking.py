"""Reads every file of a checkpoint that can change its answers, before anything is loaded.

transformers ignores some of them where they are damaged (a truncated ``generation_config.json`` costs the stop tokens,
with no message), and takes the last of two values of one name. Here each of them is read strictly: exit code 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.checkpoints.folder import settings_files
from harness.exceptions import CheckpointError
from harness.strict import read_object, read_text, reading_advice

_TEXT = (".jinja", ".txt", ".tiktoken", ".codes")
_SAVE = "save the checkpoint again, or correct the file"
_TOKENS = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"))

Object = Mapping[str, Any]


def check_settings(path: Path) -> None:
    """Raise :class:`CheckpointError` for the first settings file in the folder ``path`` that is damaged.

    Damaged is what cannot be read, is empty, is not UTF-8 where it is text, is not one JSON object where it is JSON,
    has a name twice, or has a value of another type where a type is known.
    """
    for file in settings_files(path):
        check_file(file)


def check_file(file: Path) -> None:
    """Check one settings file; see :func:`check_settings`."""
    if file.suffix == ".json":
        data = read_object(file)
        check = _OBJECTS.get(file.name)
        if check is not None:
            check(file, data)
    elif file.suffix in _TEXT:
        if not read_text(file).strip():
            raise CheckpointError(f"file {file}", "it is empty", "copy it again")
    else:
        try:
            empty = not file.stat().st_size
        except OSError as error:
            rule = f"it cannot be read ({error.strerror})"
            raise CheckpointError(f"file {file}", rule, reading_advice(error, "copy it again")) from None
        if empty:
            raise CheckpointError(f"file {file}", "it is empty", "copy it again")


def check_config(file: Path) -> None:
    """Check the model configuration in ``file``, whatever it is called; see :func:`check_settings`."""
    _check_config(file, read_object(file))


def _check_config(file: Path, data: Object) -> None:
    _check_ids(file, data)
    text = data.get("text_config")
    if isinstance(text, dict):
        _check_ids(file, text)
    if data.get("transformers_weights") is not None:
        raise CheckpointError(
            f"transformers_weights {data['transformers_weights']!r} in file {file}",
            "it names other weights than the files that every program loads",
            "remove the field, and keep the weights in model.safetensors or its shards",
        )


def _check_ids(file: Path, data: Object) -> None:
    """The end of a sequence is one token id or several; padding may be -1, which stands for none."""
    stop = data.get("eos_token_id")
    several = isinstance(stop, list) and bool(stop) and all(_is_id(each) for each in stop)
    _expect(file, "eos_token_id", stop, stop is None or _is_id(stop) or several, "a token id, or a list of them")
    for name in ("pad_token_id", "bos_token_id"):
        value = data.get(name)
        _expect(file, name, value, value is None or value == -1 or _is_id(value), "a token id")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_tokenizer_config(file: Path, data: Object) -> None:
    template = data.get("chat_template")
    named = isinstance(template, list) and all(
        isinstance(each, dict) and isinstance(each.get("name"), str) and isinstance(each.get("template"), str)
        for each in template
    )
    _expect(file, "chat_template", template, template is None or isinstance(template, str) or named, "text")
    for name, value in data.items():
        if name in _TOKENS:
            _check_token(file, name, value)
        if name.endswith("_file") and isinstance(value, str):
            _check_inside(file, name, value)
    decoder = data.get("added_tokens_decoder", {})
    sound = isinstance(decoder, dict) and all(
        key.isdecimal() and isinstance(token, dict) and isinstance(token.get("content"), str)
        for key, token in decoder.items()
    )
    _expect(file, "added_tokens_decoder", decoder, sound, "an object of token ids")


def _check_token(file: Path, name: str, value: Any) -> None:
    token = value.get("content") if isinstance(value, dict) else value
    _expect(file, name, value, value is None or isinstance(token, str), "text, or an object with its content")


def _check_inside(file: Path, name: str, value: str) -> None:
    """Another file than that of this folder would change the answers, and not the fingerprint."""
    named = file.parent / value
    if named.is_file() and named.resolve().parent != file.parent.resolve():
        raise CheckpointError(
            f"{name} {value!r} in file {file}", "it lies outside the checkpoint", "copy it into the folder"
        )


def _check_tokens_map(file: Path, data: Object) -> None:
    for name in _TOKENS:
        _check_token(file, name, data.get(name))


def _check_vocabulary(file: Path, data: Object) -> None:
    wrong = next((token for token, number in data.items() if not _is_id(number)), None)
    if wrong is not None:
        raise CheckpointError(
            f"token {wrong[:60]!r} in file {file}", f"its id {data[wrong]!r} is not a whole number of at least 0", _SAVE
        )


def _check_tokenizer(file: Path, data: Object) -> None:
    _expect(file, "model", data.get("model"), isinstance(data.get("model"), dict), "an object")
    tokens = data.get("added_tokens", [])
    _expect(file, "added_tokens", tokens, isinstance(tokens, list), "a list")


def _check_template(file: Path, data: Object) -> None:
    template = data.get("chat_template")
    _expect(file, "chat_template", template, isinstance(template, str | dict | list), "text")


def _expect(file: Path, name: str, value: Any, sound: bool, what: str) -> None:
    if not sound:
        raise CheckpointError(f"{name} {value!r:.80} in file {file}", f"it is {what}", _SAVE)


_OBJECTS: Mapping[str, Callable[[Path, Object], None]] = MappingProxyType(
    {
        "config.json": _check_config,
        "generation_config.json": _check_ids,
        "tokenizer_config.json": _check_tokenizer_config,
        "tokenizer.json": _check_tokenizer,
        "special_tokens_map.json": _check_tokens_map,
        "added_tokens.json": _check_vocabulary,
        "vocab.json": _check_vocabulary,
        "chat_template.json": _check_template,
    }
)
