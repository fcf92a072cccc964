"""How the items of a task are asked: the system message, the few-shot examples before them, the chat template.

Examples come from the end of the seeded order of which the evaluated items are the beginning, so that they are the same
however many items are evaluated, and they are taken out of what can be evaluated: no item is ever asked with its own
answer, or another item's that is evaluated too, in the prompt. From a file of their own they come in its seeded order,
without any question of the task. They are joined as turns of the chat (user, assistant), or, without a template, as
paragraphs (:func:`harness.evaluate.rendering.render`).

Everything here is part of the measurement key; where nothing is asked for, the key is as it was before there was any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.evaluate.tasks import Continuation, Item, Task, load_task, requests_of, scores
from harness.exceptions import HarnessError
from harness.gates.keys import CHAT_TEMPLATE, FEWSHOT
from harness.gates.keys import SYSTEM as SYSTEM_MESSAGE
from harness.runs.item_order import choice_order
from harness.scorers.likelihood import choices_of
from harness.spec import EvalSpec
from harness.strict import shown

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
TURNS, TEXT = "turns of the chat", "paragraphs"
_DIGITS = 16


@dataclass(frozen=True)
class Prompting:
    """How ``task`` is asked; ``chat`` says whether the checkpoint's chat template is applied."""

    task: Task
    system: str | None = None
    examples: tuple[Item, ...] = ()
    chat: bool = True

    def messages(self, item: Item) -> list[dict[str, str]]:
        """Return the messages that ask ``item``: system, examples each with its answer, and its own.

        Raises :class:`HarnessError` where both the data and the user bring a system message.
        """
        own = self.task.messages(item)
        if self.system is None and not self.examples:
            return own
        said = [message for message in own if message["role"] == SYSTEM]
        if said and self.system is not None:
            raise HarnessError(
                f"--system {shown(self.system)}",
                f"the data of {self.task.name} bring a system message of their own ({shown(said[0]['content'])})",
                "leave out --system",
            )
        before = said if self.system is None else [{"role": SYSTEM, "content": self.system}]
        turns = [turn for example in self.examples for turn in self.turns(example)]
        return [*before, *turns, *(message for message in own if message["role"] != SYSTEM)]

    def turns(self, example: Item) -> list[dict[str, str]]:
        """Return an example: the messages that ask it, without a system message, and its answer; of a task that scores
        choices, what stands before the right one, and that."""
        if scores(self.task):
            requests = requests_of(self.task, example)
            right = requests[choices_of(example.reference)[1] if len(requests) > 1 else 0]
            assert isinstance(right, Continuation)
            return [{"role": USER, "content": right.context}, {"role": ASSISTANT, "content": right.continuation}]
        asked = [message for message in self.task.messages(example) if message["role"] != SYSTEM]
        return [*asked, {"role": ASSISTANT, "content": example_answer(self.task, example)}]

    def before(self, request: Continuation) -> Continuation:
        """Return ``request`` with the system message and the examples before it, as paragraphs: a context and its
        continuation as they stand, and an empty line. Source: ``fewshot_context`` of lm-evaluation-harness."""
        texts = [] if self.system is None else [self.system]
        for example in self.examples:
            asked, right = (turn["content"] for turn in self.turns(example))
            texts.append(asked + (right if asked else right.lstrip()))
        return replace(request, context="".join(f"{text}\n\n" for text in texts) + request.context)

    def asking(self, request: Continuation) -> list[dict[str, str]]:
        """Return the messages behind which a chat goes on with the continuation of ``request``.

        Raises :class:`HarnessError` where nothing stands before it.
        """
        if not request.context.strip():
            rule = f"nothing is asked before what {self.task.name} scores"
            raise HarnessError(f"--apply-chat-template with --task {self.task.name}", rule, "leave it out")
        before = [] if self.system is None else [{"role": SYSTEM, "content": self.system}]
        turns = [
            {**turn, "content": turn["content"].lstrip()} for example in self.examples for turn in self.turns(example)
        ]
        return [*before, *turns, {"role": USER, "content": request.context}]

    def evaluated(self, items: Sequence[Item]) -> tuple[Item, ...]:
        """Return those of ``items`` that are no examples."""
        taken = {example.key for example in self.examples}
        return tuple(item for item in items if item.key not in taken)

    @property
    def key(self) -> dict[str, str]:
        """The fields of the measurement key; empty where the items are asked as they stand, under the template."""
        found = {}
        if self.examples:
            turns = [[turn["role"], turn["content"]] for each in self.examples for turn in self.turns(each)]
            how = TURNS if self.chat else TEXT
            found[FEWSHOT] = f"{len(self.examples)} examples {_digest(json.dumps(turns))}, {how}"
        if self.system is not None:
            found[SYSTEM_MESSAGE] = f"{shown(self.system)} {_digest(self.system)}"
        if scores(self.task) == self.chat:
            found[CHAT_TEMPLATE] = "applied" if self.chat else "not applied"
        return found


def prompting_of(spec: EvalSpec, task: Task) -> Prompting:
    """Return how ``spec`` asks ``task``.

    Raises :class:`HarnessError` where there are too few examples, or none left to evaluate.
    """
    usual = getattr(task, "chat_template", not scores(task))
    chat = usual if spec.apply_chat_template is None else spec.apply_chat_template
    return Prompting(task, spec.system, _examples(spec, task), bool(chat))


def has_choices(task: Task) -> bool:
    """Return whether ``task`` scores choices among which one is right, or right answers alone (it says so:
    ``exemplary``), so that an example can show it."""
    requests = requests_of(task, task.items()[0]) if scores(task) else ()
    right = len(requests) > 1 or (len(requests) == 1 and getattr(task, "exemplary", False))
    return right and all(isinstance(each, Continuation) and not each.rolling for each in requests)


def example_answer(task: Task, item: Item) -> str:
    """Return what ``item`` is answered with as an example: ``task.example(item)`` where there is one, else its
    solution, else its reference."""
    own = getattr(task, "example", None)
    return str(own(item)) if own is not None else item.solution or item.reference


def _examples(spec: EvalSpec, task: Task) -> tuple[Item, ...]:
    if not spec.fewshot:
        return ()
    items = task.items()
    if spec.fewshot_data is None:
        found, where = {item.key: item for item in items}, "items, and one must be left to evaluate"
        order = tuple(reversed(choice_order(found, spec.item_seed)))
        most = len(items) - 1
    else:
        asked = {item.question.strip() for item in items}
        others = load_task(spec.task, Path(spec.fewshot_data)).items()
        found = {item.key: item for item in others if item.question.strip() not in asked}
        shared = len(others) - len(found)
        where = f"items in {spec.fewshot_data} that are no questions of the task ({shared} are)"
        order, most = choice_order(found, spec.item_seed), len(found)
    if spec.fewshot > most:
        count = len(found)
        raise HarnessError(
            f"--fewshot {spec.fewshot}", f"there are {count} {where}", "give fewer, or --fewshot-data FILE"
        )
    return tuple(found[key] for key in order[: spec.fewshot])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
