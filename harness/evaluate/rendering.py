"""Prompts under a checkpoint's own chat template, and what they must keep of the messages that ask the items.

Without a template messages are joined as plain text: a question ends its line, its answer and a system message are
followed by an empty line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from harness.evaluate.checkpoint import Checkpoint
from harness.exceptions import CheckpointError
from harness.spec import TEMPLATE_DATE
from harness.strict import shown

Messages = Sequence[Mapping[str, str]]

KEPT_ROLES = ("system", "user")
"""Roles whose content must stand in the prompt: what is asked, and how. Few-shot examples have answers as well."""

TEMPLATE_FILES = ("chat_template.jinja", "tokenizer_config.json")
LONGEST_SHOWN = 160
ASKS_FOR_THE_DATE, ANOTHER_DAY = "strftime_now", "1999-12-31"


def render(checkpoint: Checkpoint, messages: Messages, data: str = "", day: str = TEMPLATE_DATE) -> str:
    """Return the prompt text of ``messages`` under the checkpoint's chat template; errors name ``data`` with them.

    A template that asks for the date (``strftime_now``) is told ``day`` (YYYY-MM-DD, midnight), whatever day it is.
    Raises :class:`CheckpointError` where the template fails, as many do for a system message.
    """
    if checkpoint.tokenizer.chat_template is None:
        raise CheckpointError(
            f"checkpoint {checkpoint.path}",
            "its tokenizer has no chat template",
            f"add {TEMPLATE_FILES[0]} to the folder, or give --no-chat-template",
        )
    try:
        text = checkpoint.tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=True,
            strftime_now=datetime.fromisoformat(day).strftime,
        )
    except Exception as error:  # a template is a program: jinja2's errors and any other
        roles = ", ".join(dict.fromkeys(str(message.get("role")) for message in messages))
        asked = f" for messages of {data} (roles {roles})" if data else ""
        why = f"{type(error).__name__}: {' '.join(str(error).split()):.160}"
        raise CheckpointError(
            f"checkpoint {checkpoint.path}",
            f"its chat template fails{asked} ({why})",
            f"correct {_template_file(checkpoint)}, or the messages of the data, or leave out --system and --fewshot",
        ) from None
    return str(text)


def plain_text(messages: Messages, verbatim: bool = False) -> str:
    """Return ``messages`` without a template: a question and a line break, everything else and an empty line; where
    ``verbatim``, the messages as they stand."""
    if verbatim:
        return "".join(message["content"] for message in messages)
    return "".join(f"{message['content']}{chr(10) * (1 if message['role'] == 'user' else 2)}" for message in messages)


def is_dated(checkpoint: Checkpoint, asked: Mapping[str, Messages], texts: Mapping[str, str]) -> bool:
    """Return True where a text of ``texts`` (key -> prompt of ``asked``) would be another one on another day."""
    if ASKS_FOR_THE_DATE not in str(checkpoint.tokenizer.chat_template):
        return False
    return any(render(checkpoint, asked[key], day=ANOTHER_DAY) != text for key, text in texts.items())


def render_items(
    checkpoint: Checkpoint,
    asked: Mapping[str, Messages],
    data: str,
    day: str = TEMPLATE_DATE,
    kept: Collection[str] = KEPT_ROLES,
) -> dict[str, str]:
    """Return the prompt text of every item of ``asked`` (key -> messages), which ``data`` names in errors. What
    messages of the ``kept`` roles say must stand in it.

    Raises :class:`CheckpointError` for a template that fails, that gives different items the same prompt, drops what
    a system or user message says, or renders the same messages in two ways.
    """
    texts = {key: render(checkpoint, messages, data, day) for key, messages in asked.items()}
    check_distinct(checkpoint, asked, texts, "prompt")
    for key, messages in asked.items():
        _check_kept(checkpoint, messages, texts[key], data, kept)
    first = next(iter(asked), None)
    if first is not None and render(checkpoint, asked[first], data, day) != texts[first]:
        raise CheckpointError(
            f"checkpoint {checkpoint.path}",
            f"its chat template renders {shown(_question(asked[first]))} in two ways, one after the other",
            f"remove what is random in {_template_file(checkpoint)}",
        )
    return texts


def check_distinct(
    checkpoint: Checkpoint, asked: Mapping[str, Messages], made: Mapping[str, object], what: str
) -> None:
    """Raise :class:`CheckpointError` where items with different messages have the same ``made``, called ``what``."""
    first: dict[object, str] = {}
    same: list[tuple[str, str]] = []
    for key, value in made.items():
        other = first.setdefault(value, key)
        if _contents(asked[other]) != _contents(asked[key]):
            same.append((other, key))
    if same:
        one, two = (shown(_question(asked[key])) for key in same[0])
        raise CheckpointError(
            f"checkpoint {checkpoint.path}",
            f"{len(same)} of {len(made)} items get the {what} of another one, though their messages differ "
            f"(for example {one} and {two})",
            f"correct {_template_file(checkpoint) if what == 'prompt' else 'its tokenizer'}: it loses what is asked",
        )


def _check_kept(checkpoint: Checkpoint, messages: Messages, prompt: str, data: str, kept: Collection[str]) -> None:
    """White space aside, since templates may strip it."""
    words = _squeezed(prompt)
    for message in messages:
        if message["role"] in kept and _squeezed(message["content"]) not in words:
            raise CheckpointError(
                f"checkpoint {checkpoint.path}",
                f"its chat template loses the {message['role']} message {shown(message['content'])} of {data}: the "
                f"prompt is {shown(prompt, LONGEST_SHOWN)}",
                f"correct {_template_file(checkpoint)}, or the messages of the data",
            )


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _contents(messages: Messages) -> tuple[tuple[str, str], ...]:
    return tuple((message["role"], _squeezed(message["content"])) for message in messages)


def _question(messages: Messages) -> str:
    """The last message of the user."""
    said = [message["content"] for message in messages if message["role"] == "user"]
    return said[-1] if said else messages[-1]["content"] if messages else ""


def _template_file(checkpoint: Checkpoint) -> str:
    """The file of the chat template in force."""
    folder = checkpoint.source.settings_folder
    return next((name for name in TEMPLATE_FILES if (folder / name).is_file()), TEMPLATE_FILES[0])
