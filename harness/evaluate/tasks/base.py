"""What a task is: items with content hashes, the messages that ask them, and a seeded choice among them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from harness.exceptions import HarnessError
from harness.runs.item_order import choice_order
from harness.strict import once, reading_advice, shown

_HASH_DIGITS = 16
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One problem. ``key`` is :func:`item_key`, ``reference`` the right answer as the task's scorer reads it: for
    ``strict`` and ``flexible`` a number as canonical text.

    ``prompt`` holds (role, content) pairs where the data file brings its own chat messages, else it is
    empty; it is not part of the key, so that the same problem has the same key however it is asked. ``cluster`` names
    what it shares with other items (a template, a document, a family of problems), so that they may be right and wrong
    together: the gate then judges over clusters. Empty: it stands by itself. ``group`` names what sub-scores are shown
    for (a subject, a kind of problem) where that is no cluster; no verdict depends on it. ``solution`` is what a
    few-shot example answers (empty: the reference).
    """

    key: str
    question: str
    reference: str
    solution: str
    prompt: tuple[tuple[str, str], ...] = ()
    cluster: str = ""
    group: str = ""


@dataclass(frozen=True)
class Continuation:
    """A text whose log-likelihood is asked for, given ``context`` (empty: the prefix token stands there).

    A ``rolling`` one has no context and may be longer than the model's: then it is scored in windows, each behind the
    last token of the one before.
    """

    context: str
    continuation: str
    rolling: bool = False


@dataclass(frozen=True)
class Tokens:
    """Token ids whose log-likelihood is asked for, given those of ``context``; at least one each."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


class Task(Protocol):
    """A named set of items and the way to ask them.

    Two more attributes may be there (:mod:`harness.evaluate.prompting`): ``chat_template``, False where the task is
    asked without the checkpoint's chat template unless the user says otherwise, and ``example(item)``, the text that
    answers ``item`` as a few-shot example. ``until`` holds texts that end an answer wherever they appear in it
    (:mod:`harness.scorers.until`). ``verbatim`` is True where the one message of an item is its prompt as it stands,
    without a line break behind it; nothing then comes before it.

    A task whose answers are not generated but found among given continuations has a method ``requests(item)`` in place
    of ``messages`` and ``max_new_tokens``: it returns the :class:`Continuation` of each choice, or its :class:`Tokens`,
    whose log-likelihoods its scorer reads. With one request it may have ``kept(item key, level, noise seed)``, which
    says of which tokens log-probabilities are kept at which places (:class:`harness.distributions.Keep`).
    """

    @property
    def name(self) -> str:
        """What ``--task`` calls it."""

    @property
    def scorer(self) -> str:
        """The name of the default scorer: ``"strict"``, ``"flexible"`` or one of another distribution
        (``harness.scorers``)."""

    @property
    def floor(self) -> float:
        """A clean accuracy (fraction) whose lower bound lies below this can decide nothing; 0.10 as a rule."""

    @property
    def max_new_tokens(self) -> int:
        """The longest answer, in tokens, where the user does not say."""

    def items(self) -> tuple[Item, ...]:
        """Return all items of the split, in file order, keys unique."""

    def dataset_hash(self) -> str:
        """Return :func:`hash_items` of the full split."""

    def messages(self, item: Item) -> list[dict[str, str]]:
        """Return the chat messages (``role``, ``content``) that ask ``item``."""


class ReadOnce:
    """What tasks have in common whose items are read once, at the first use, into ``_items``."""

    @property
    def _items(self) -> tuple[Item, ...]:
        raise NotImplementedError

    def items(self) -> tuple[Item, ...]:
        """Return all items in the order of their data, repeated ones dropped."""
        return self._items

    def dataset_hash(self) -> str:
        """Return the hash of the whole split, 16 hex digits."""
        return hash_items(self._items)


class ScoresTexts(ReadOnce):
    """What tasks have in common whose given texts, called ``asked_of`` in errors, are scored; nothing is generated."""

    asked_of: ClassVar[str] = "texts"
    max_new_tokens: ClassVar[int] = 1

    def messages(self, item: Item) -> list[dict[str, str]]:
        """Raise :class:`HarnessError`: nothing is asked in a chat."""
        name = getattr(self, "name", "")
        raise HarnessError(f"task {name}", f"its {self.asked_of} are scored, nothing is generated", "use another task")


def scores(task: Task) -> bool:
    """Return whether ``task`` asks for log-likelihoods of given texts, so that nothing is generated."""
    return hasattr(task, "requests")


def is_verbatim(task: Task) -> bool:
    """Return whether the messages of ``task`` are prompts as they stand, where no chat template is applied."""
    return bool(getattr(task, "verbatim", False))


def requests_of(task: Task, item: Item) -> tuple[Continuation | Tokens, ...]:
    """Return the texts, or token ids, whose log-likelihoods ``task`` asks for."""
    found: tuple[Continuation | Tokens, ...] = tuple(task.requests(item))  # type: ignore[attr-defined]
    return found


def item_key(task: str, question: str, reference: str) -> str:
    """Return the content hash of an item: 16 hex digits of SHA-256 over the three texts as a JSON array.

    Canonical means ASCII with escapes and no spaces, so that the hash is a matter of the texts alone.
    """
    return _digest(json.dumps([task, question, reference], separators=(",", ":")))


def hash_items(items: Iterable[Item]) -> str:
    """Return the hash of a whole split: 16 hex digits of SHA-256 over its item keys, in order, one per line."""
    return _digest("\n".join(item.key for item in items))


def unique_items(items: Sequence[Item], source: str) -> tuple[Item, ...]:
    """Return ``items`` with repeated questions (space at the ends aside) dropped, the first kept, with one warning.

    The same question with two references is a :class:`HarnessError`; ``source`` names the data in both.
    """
    kept: dict[str, Item] = {}
    for item in items:
        first = kept.setdefault(item.question.strip(), item)
        if first.reference != item.reference:
            raise HarnessError(
                f"{source}: question {shown(item.question)} has the references {first.reference} and {item.reference}",
                "a question may have only one",
                "remove the wrong one",
            )
    repeated = len(items) - len(kept)
    if repeated:
        log.warning("%s: %d repeated questions dropped, the first of each kept", source, repeated)
    return tuple(kept.values())


def select(items: Sequence[Item], n: int, seed: int) -> tuple[Item, ...]:
    """Return the first ``n`` items in the order of SHA-256 of ``"{seed}/{key}"``.

    The choice depends on keys only, not on file order, and a larger ``n`` extends a smaller one. A
    :class:`HarnessError` where ``n`` is not within 1 and ``len(items)``.
    """
    if isinstance(n, bool) or not 1 <= n <= len(items):
        raise HarnessError(
            f"{n} items asked for",
            f"the task has {len(items)} and at least 1 is needed",
            f"choose a number from 1 to {len(items)}",
        )
    by_key = {item.key: item for item in items}
    return tuple(by_key[key] for key in choice_order((item.key for item in items), seed)[:n])


def read_bytes(path: Path) -> bytes:
    """Return the content of a data file; missing, a directory, unreadable or empty is a :class:`HarnessError`."""
    if path.is_dir():
        raise HarnessError(f"{path} is a directory", "a data file is needed", "name the file in it")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise HarnessError(f"{path} does not exist", "a data file is needed", "check the path") from None
    except OSError as error:
        raise HarnessError(f"{path}: {error.strerror}", "the file must be readable", reading_advice(error)) from error
    if not content.strip():
        raise HarnessError(f"{path} is empty", "at least one item is needed", "write the file again")
    return content


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for every line of a UTF-8 JSONL file that is not blank.

    A line that is not one JSON object, has a name twice, or is not Unicode text is a :class:`HarnessError`
    that names file and line; so is everything that :func:`read_bytes` refuses.
    """
    content = read_bytes(path)
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _json_object(line, f"{path}, line {number}", cut_off=number == len(lines))


def _json_object(line: bytes, place: str, cut_off: bool) -> dict[str, Any]:
    """The object on one line; ``cut_off`` says that no line end follows it."""
    end = "; the file ends within the line" if cut_off else ""
    rule, way_out = "every line must be one JSON object", "write the file again"
    try:
        text = line.decode("utf-8")
        row = json.loads(text, object_pairs_hook=once)
        if "\\u" in text:
            json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        rule = "the file must be UTF-8 without lone surrogates"
        raise HarnessError(f"{place}: {error}{end}", rule, way_out) from None
    except (ValueError, RecursionError) as error:
        raise HarnessError(f"{place}: {shown(text)}: {error}{end}", rule, way_out) from None
    if not isinstance(row, dict):
        raise HarnessError(f"{place}: {shown(row)}", rule, way_out)
    return row


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:_HASH_DIGITS]


def clusters_of(items: Sequence[Item], prompts: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Return item key -> cluster, of the items that share one with another: as the task says, or the same rendered
    prompt.

    Items without a cluster of their own whose ``prompts`` (tokens by item key) are equal are one cluster: the model
    gives them one answer.
    """

    def name(item: Item) -> str:
        if item.cluster:
            return f"task:{item.cluster}"
        return f"prompt:{hashlib.sha256(repr(prompts[item.key]).encode()).hexdigest()[:_HASH_DIGITS]}"

    named = {item.key: name(item) for item in items}
    counts = Counter(named.values())
    return {key: name for key, name in named.items() if counts[name] > 1}
