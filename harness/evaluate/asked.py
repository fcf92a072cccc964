"""What an evaluation asks a model, as texts and token ids: options that a task can follow, and what it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from harness.engines.generation import Forced
from harness.engines.registry import engine_kind
from harness.evaluate.checkpoint import Checkpoint
from harness.evaluate.prompting import ASSISTANT, Prompting, has_choices
from harness.evaluate.rendering import KEPT_ROLES, is_dated, plain_text, render_items
from harness.evaluate.request_tokens import RequestTokens, check_requests, item_requests
from harness.evaluate.tasks import Item, Task, is_verbatim, requests_of, scores
from harness.evaluate.tasks.base import Continuation, Tokens
from harness.exceptions import HarnessError
from harness.runs.manifest import digest
from harness.scorers import LIKELIHOODS, TEXTS, Scorer, reads
from harness.spec import EvalSpec
from harness.spec.tokens import selects
from harness.strict import shown

CHOICES = "choices"
"""What a task gives that generates texts, or scores texts of which one is right: it can be asked with examples."""


def texts_of(
    checkpoint: Checkpoint, spec: EvalSpec, prompting: Prompting, asked: Mapping[str, list[dict[str, str]]]
) -> tuple[dict[str, str], bool]:
    """Return the prompt text of every item of ``asked`` (key -> messages), and whether it depends on the date."""
    if not prompting.chat:
        verbatim = is_verbatim(prompting.task)
        return {key: plain_text(messages, verbatim) for key, messages in asked.items()}, False
    kept = (*KEPT_ROLES, ASSISTANT) if prompting.examples else KEPT_ROLES
    data = spec.data or f"task {prompting.task.name}"
    texts = render_items(checkpoint, asked, data, spec.template_date, kept)
    return texts, is_dated(checkpoint, asked, texts)


def check_asked(spec: EvalSpec, task: Task, scorer: Scorer) -> None:
    """Raise :class:`HarnessError` for options that mean nothing to ``task``, and for a ``scorer`` that reads what it
    does not give."""
    gives = LIKELIHOODS if scores(task) else TEXTS
    if scores(task) and not engine_kind(spec.engine).scores:
        raise HarnessError(
            f"--engine {spec.engine} with --task {task.name}",
            "the task needs log-probabilities of given tokens, and the engine gives none",
            "use --engine transformers",
        )
    if reads(scorer) != gives:
        raise HarnessError(
            f"--scorer {scorer.name} with --task {task.name}",
            f"the scorer reads {reads(scorer)}, and the task gives {gives}",
            f"leave it out: the task's own is {task.scorer}",
        )
    if is_verbatim(task) and (spec.fewshot or spec.system is not None):
        option = f"--fewshot {spec.fewshot}" if spec.fewshot else f"--system {shown(spec.system)}"
        rule, way_out = "its prompts are taken as they stand", "give num_fewshot or description in its task file"
        raise HarnessError(f"{option} with --task {task.name}", rule, way_out)
    sampled = getattr(task, "sampled", "")
    if sampled and spec.sampling is None:
        rule, way_out = (
            f"its answers are sampled ({sampled})",
            "give --temperature, or a task file with do_sample: false",
        )
        raise HarnessError(f"--task {task.name}", rule, way_out)
    for option, value, needed in (
        ("--max-new-tokens", spec.max_new_tokens, TEXTS),
        ("--prefix-token", spec.prefix_token, LIKELIHOODS),
        ("--temperature", spec.temperature or None, TEXTS),
        ("--fewshot", spec.fewshot or None, CHOICES),
        ("--system", spec.system, CHOICES),
        ("--apply-chat-template", spec.apply_chat_template, CHOICES),
    ):
        if value is not None and not (gives == needed or (needed == CHOICES and (gives == TEXTS or has_choices(task)))):
            raise HarnessError(f"{option} {value} with --task {task.name}", f"the task gives {gives}", "leave it out")


def check_selected(spec: EvalSpec, sequences: Iterable[tuple[int, int]]) -> None:
    """Raise :class:`HarnessError` where the noise is limited to tokens that none of ``sequences`` (tokens of the prompt
    or context, tokens scored or generated at most) can have: nothing would be perturbed."""
    found = list(sequences)
    if any(spec.levels) and not any(selects(*lengths, spec.noise.spans) for lengths in found):
        longest = max(generated for _, generated in found) - 1
        raise HarnessError(
            f"--noise {spec.noise} with --task {spec.task}",
            f"none of {len(found):,} sequences has such a token: their decode steps end at {longest}",
            "select earlier steps, or drop tokens:",
        )


def requests_asked(
    checkpoint: Checkpoint, spec: EvalSpec, prompting: Prompting, items: tuple[Item, ...]
) -> tuple[dict[str, tuple[Forced, ...]], dict[str, tuple[int, ...]], str, str, bool]:
    """Return the token ids of every request and of every item, the hash of all texts of the split, the prefix token,
    and whether the texts depend on the date."""
    # every item of the split, so that the hash does not depend on the choice of items
    every = {item.key: requests_of(prompting.task, item) for item in prompting.evaluated(prompting.task.items())}
    asked, dated = _continuations(checkpoint, spec, prompting, every)
    tokens = RequestTokens(checkpoint, spec.prefix_token)
    requests = item_requests(tokens, asked, items)
    check_requests(checkpoint, requests, items)
    check_selected(spec, ((len(each.context), len(each.continuation)) for own in requests.values() for each in own))
    prompts = {
        key: tuple(token for forced in own for token in (*forced.context, *forced.continuation))
        for key, own in requests.items()
    }
    texts = [[each.context, each.continuation] for own in asked.values() for each in own]
    return requests, prompts, digest(json.dumps(texts)), tokens.prefix_text, dated


def _continuations(
    checkpoint: Checkpoint,
    spec: EvalSpec,
    prompting: Prompting,
    every: Mapping[str, tuple[Continuation | Tokens, ...]],
) -> tuple[Mapping[str, tuple[Continuation | Tokens, ...]], bool]:
    """The requests of ``every`` item behind what is asked before them, and whether that depends on the date."""
    if not prompting.key:
        return every, False
    texts = {key: tuple(each for each in own if isinstance(each, Continuation)) for key, own in every.items()}
    if not prompting.chat:
        return {key: tuple(prompting.before(each) for each in own) for key, own in texts.items()}, False
    named = {f"{key} {number}": each for key, own in texts.items() for number, each in enumerate(own)}
    rendered, dated = texts_of(
        checkpoint, spec, prompting, {name: prompting.asking(each) for name, each in named.items()}
    )
    # behind a template the answer begins at once: no space, as in lm-evaluation-harness
    made = {
        name: replace(each, context=rendered[name], continuation=each.continuation.lstrip())
        for name, each in named.items()
    }
    return {key: tuple(made[f"{key} {number}"] for number in range(len(own))) for key, own in texts.items()}, dated
