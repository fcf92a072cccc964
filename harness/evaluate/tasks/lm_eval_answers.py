"""Tasks of lm-evaluation-harness whose answers are generated (``generate_until``), and which of them can be asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.evaluate.tasks.base import Item, ReadOnce, item_key, unique_items
from harness.exceptions import HarnessError
from harness.scorers.lm_eval import LmEvalScorer, Told
from harness.scorers.protocol import Asked
from harness.spec.evaluation import LM_EVAL
from harness.strict import shown
from harness.text import brief

log = logging.getLogger(__name__)

GENERATION = "generate_until"
MOST_TOKENS = 256
"""The longest answer where a task does not say, as in lm-eval's own model class."""

_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What ``generation_kwargs`` may call it, the first of them first. Source: ``normalize_gen_kwargs``."""
_SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p")
_FIELDS_READ = {"multi_choice_regex": ("choices",)}
"""Filter -> the fields of a document that it reads."""
_WAY_OUT = "harness import reads what lm-eval made of it"


@dataclass(frozen=True)
class Generation:
    """How ``generation_kwargs`` ask for an answer. ``sampled`` is the temperature and what else lm-eval draws tokens
    by, in words; empty: the largest logit decides."""

    until: tuple[str, ...]
    max_new_tokens: int
    sampled: str = ""


@dataclass(frozen=True)
class LmEvalAnswers(ReadOnce):
    """The task ``name`` (``lm_eval:NAME``): prompts that lm-eval wrote, answers that it scores."""

    name: str
    read: tuple[Item, ...]
    generation: Generation
    scorer: str

    floor: ClassVar[float] = 0.10
    chat_template: ClassVar[bool] = False
    verbatim: ClassVar[bool] = True

    @property
    def _items(self) -> tuple[Item, ...]:
        return self.read

    @property
    def max_new_tokens(self) -> int:
        """The longest answer, in tokens."""
        return self.generation.max_new_tokens

    @property
    def until(self) -> tuple[str, ...]:
        """The texts that end an answer."""
        return self.generation.until

    @property
    def sampled(self) -> str:
        """How lm-eval would draw the answers, in words; empty where it does not."""
        return self.generation.sampled

    def messages(self, item: Item) -> list[dict[str, str]]:
        """Return the prompt of ``item`` as one message of a user."""
        return [{"role": "user", "content": item.question}]


def generation_of(given: Mapping[str, Any], where: str) -> Generation:
    """Return what lm-eval's ``generation_kwargs`` ask for; errors name ``where`` they stand.

    Raises :class:`HarnessError` for what would change the answers and is not done here, beams for example.
    """
    until = given.get("until") or []
    texts = tuple([until] if isinstance(until, str) else until)
    if not all(isinstance(text, str) for text in texts):
        raise HarnessError(f"{where}: until {shown(until)}", "it must be a text or a list of texts", "correct it")
    limits = [given[name] for name in _LIMITS if given.get(name) is not None]
    most = limits[0] if limits else MOST_TOKENS
    if isinstance(most, bool) or not str(most).isdigit() or not int(most):
        raise HarnessError(f"{where}: max_gen_toks {most!r}", "it is a number of tokens, at least 1", "correct it")
    usual = {"num_beams": (1,), "repetition_penalty": (1, 1.0), "num_return_sequences": (1,), "use_cache": (True,)}
    for name, value in given.items():
        known = name in ("until", *_LIMITS, *_SAMPLING)
        if not known and value is not None and value not in usual.get(name, ()):
            rule = f"{name}: {shown(value)} is not done here"
            raise HarnessError(f"{where}: generation_kwargs", rule, "use a task file without it")
    return Generation(texts, int(most), _sampled(given))


def _sampled(given: Mapping[str, Any]) -> str:
    temperature = float(given.get("temperature") or 0.0)
    drawn = given.get("do_sample")
    if drawn is False or (drawn is None and temperature <= 0):
        return ""
    return ", ".join(f"{name} {given[name]}" for name in _SAMPLING if given.get(name) is not None)


def answers_task(asked: str, task: Any, documents: Sequence[Sequence[Any]]) -> LmEvalAnswers:
    """Return the task ``asked`` (``lm_eval:NAME``) of lm-eval's own ``task`` with the requests of all ``documents``.

    Raises :class:`HarnessError` for a task that lm-eval scores in a way that cannot be repeated here.
    """
    where = f"--task {asked}"
    if task.config.repeats not in (None, 1):
        rule = f"every question is asked {task.config.repeats} times"
        raise HarnessError(where, rule, "use a task file with repeats: 1; --temperature with --noise-seeds K repeats")
    generation = generation_of(task.config.generation_kwargs or {}, where)
    filters, metrics = tuple(_filters(where, task)), tuple(_metrics(where, task))
    items = [_item(asked, task, own, generation, (filters, metrics)) for own in documents]
    scorer = _scorer(where, items[0], [f"{metric},{name}" for name, _ in filters for metric, _ in metrics])
    return LmEvalAnswers(asked, unique_items(items, asked), generation, scorer)


def _filters(where: str, task: Any) -> Iterator[tuple[str, list[list[Any]]]]:
    """The filters that are lm-eval's own, by name."""
    if task.config.filter_list is None:
        yield "none", [["take_first", {}]]
        return
    left = []
    for own in task.config.filter_list:
        steps = [[each["function"], {k: v for k, v in each.items() if k != "function"}] for each in own["filter"]]
        if all(_is_data(step) and step[0] not in ("custom", "decontaminate") for step in steps):
            yield own["name"], steps
        else:
            left.append(own["name"])
    if len(left) == len(task.config.filter_list):
        raise HarnessError(where, f"its filter {left[0]} is a function of its own", _WAY_OUT)
    if left:
        log.warning("%s: its filters %s are functions of their own and left out", where, ", ".join(left))


def _metrics(where: str, task: Any) -> Iterator[list[Any]]:
    """The metrics that are lm-eval's own means over documents, of which more is better."""
    from lm_eval.api.registry import get_aggregation, get_metric

    mean, left = get_aggregation("mean"), []
    for name, function in task._metric_fn_list.items():
        given = dict(task._metric_fn_kwargs.get(name) or {})
        own = function is not None and get_metric(name) is function and _is_data(given)
        if own and task._aggregation_list.get(name) is mean and task._higher_is_better.get(name) is not False:
            yield [name, given]
        else:
            left.append(name)
    if len(left) == len(task._metric_fn_list):
        rule = f"its metric {left[0] if left else '(none)'} is no mean of what lm-eval finds right and wrong"
        raise HarnessError(where, rule, f"use a task file with exact_match; {_WAY_OUT}")


def _is_data(value: Any) -> bool:
    """Whether a setting is plain data, and no function from the folder of the task."""
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def _item(
    asked: str, task: Any, instances: Sequence[Any], generation: Generation, scored: tuple[Sequence[Any], Sequence[Any]]
) -> Item:
    """One document: what is asked, and all that its answer is scored by."""
    doc, place = instances[0].doc, f"task {asked}, document {instances[0].doc_id}"
    context = instances[0].args[0]
    if not isinstance(context, str) or not context.strip():
        raise HarnessError(f"{place}: its text is {shown(context)}", "something must be asked", "correct the data")
    choices = None if task.config.doc_to_choice is None else list(task.doc_to_choice(doc))
    gold = task.doc_to_target(doc)
    if choices is not None and (isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices)):
        rule = f"it must be the number of one of its {len(choices)} choices"
        raise HarnessError(f"{place}: its answer is {shown(gold)}", rule, "correct the data")
    filters, metrics = scored
    read = {name for _, steps in filters for step in steps for name in _FIELDS_READ.get(step[0], ())}
    told = Told(
        *(gold, generation.until, filters, metrics, bool(task.multiple_target), choices),
        doc={name: doc[name] for name in sorted(read)} or None,
    )
    try:
        reference = told.written()
    except (TypeError, ValueError) as error:
        rule = f"a text, a number or a list of them is needed ({brief(error)})"
        raise HarnessError(f"{place}: its answer is {shown(gold)}", rule, "correct the data") from None
    return Item(item_key(asked, context, reference), context, reference, "")


def _scorer(where: str, item: Item, values: Sequence[str]) -> str:
    """The name of the scorer of the first value that is right or wrong."""
    said = []
    for value in values:
        scorer = LmEvalScorer(f"{LM_EVAL}{value}")
        try:
            scorer.check(item.reference, Asked(item.key, item.question))
        except HarnessError as error:
            said.append(str(error))
            continue
        return scorer.name
    raise HarnessError(where, f"none of its metrics finds an answer right or wrong ({said[0]})", _WAY_OUT)
