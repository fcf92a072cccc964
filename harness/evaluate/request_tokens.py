"""Token ids of contexts and continuations, by the rules of lm-evaluation-harness, so that its numbers are ours.

Source: ``TemplateLM.loglikelihood``, ``TemplateLM._encode_pair`` and ``HFLM.tok_encode`` of lm-evaluation-harness
0.4.13. Unlike there, what is too long for the model is refused, not cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.engines.generation import Forced
from harness.evaluate.checkpoint import Checkpoint
from harness.evaluate.tasks.base import Continuation, Item, Tokens
from harness.exceptions import CheckpointError, HarnessError
from harness.likelihoods import Scored, written
from harness.scorers import Asked, Scorer, judged
from harness.strict import shown

NO_CONTEXT = 2048
"""The longest window where a checkpoint states no context, as in lm-evaluation-harness."""


class RequestTokens:
    """Makes token ids of texts for one checkpoint; ``prefix`` is the id that stands for an empty context.

    ``asked`` is what the user gave for it, None for the default: the beginning of a sequence, or else its end. Raises
    :class:`HarnessError` for what is no token, or one that the embedding does not know.
    """

    def __init__(self, checkpoint: Checkpoint, asked: str | None = None) -> None:
        self._checkpoint, self._tokenizer = checkpoint, checkpoint.tokenizer
        self.prefix = _prefix(checkpoint, asked)

    @property
    def prefix_text(self) -> str:
        """The prefix token for the measurement key: its text and its number."""
        return f"{self._tokenizer.convert_ids_to_tokens(self.prefix)} ({self.prefix})"

    def of(self, request: Continuation | Tokens) -> Forced:
        """Return the token ids of a request; those that are given stay as they are.

        With a context both are encoded together and split where the context alone would end; spaces at the end of the
        context belong to the continuation. Without one, the prefix token stands there, unless the continuation begins
        with it. Raises :class:`HarnessError` where nothing is left to score.
        """
        if isinstance(request, Tokens):
            return Forced(request.context, request.continuation)
        context, continuation = request.context, request.continuation
        if not context:
            tokens = self._encoded(continuation, special=False)
            forced = Forced((self.prefix,), tokens)
            if tokens[:1] == (self.prefix,):
                forced = Forced(tokens[:1], tokens[1:])
        else:
            kept = context.rstrip()
            continuation = context[len(kept) :] + continuation
            before = self._encoded(kept)
            forced = Forced(before, self._encoded(kept + continuation)[len(before) :])
        if not forced.context or not forced.continuation:
            what = "continuation" if forced.context else "context"
            raise HarnessError(
                f"{what} {shown(getattr(request, what))}", f"the {what} has no token of its own", "correct the data"
            )
        return forced

    def all_of(self, request: Continuation | Tokens) -> tuple[Forced, ...]:
        """Return the token ids of a request: one sequence, or the windows of a rolling one."""
        if isinstance(request, Continuation) and request.rolling:
            return self.windows(request.continuation)
        return (self.of(request),)

    def windows(self, text: str) -> tuple[Forced, ...]:
        """Return the windows in which the whole of ``text`` is scored, each token once: the first behind the prefix
        token, every other one behind the last tokens before it, as many as the model's context leaves room for.

        Source: ``get_rolling_token_windows`` and ``make_disjoint_window`` there, with a context of one token.
        """
        tokens = self._encoded(text)
        if not tokens:
            raise HarnessError(f"text {shown(text)}", "it has no token", "correct the data")
        most = self._checkpoint.context or NO_CONTEXT
        found = [Forced((self.prefix,), tokens[:most])]
        for start in range(most, len(tokens), most):
            end = min(start + most, len(tokens))
            found.append(Forced(tokens[end - most - 1 : start], tokens[start:end]))
        return tuple(found)

    def _encoded(self, text: str, special: bool | None = None) -> tuple[int, ...]:
        """Special tokens as the tokenizer adds them, unless said otherwise or the text has the prefix already."""
        given: dict[str, Any] = {} if special is None else {"add_special_tokens": special}
        if special is None and text.startswith(self._tokenizer.decode(self.prefix)):
            given = {"add_special_tokens": False}
        return tuple(self._tokenizer.encode(text, **given))


def item_requests(
    tokens: RequestTokens, asked: Mapping[str, Sequence[Continuation | Tokens]], items: Sequence[Item]
) -> dict[str, tuple[Forced, ...]]:
    """Return the token ids of every request of ``items``; ``asked`` holds the texts by item.

    An error names the question of its item.
    """
    found = {}
    for item in items:
        try:
            found[item.key] = tuple(forced for request in asked[item.key] for forced in tokens.all_of(request))
        except HarnessError as error:
            raise HarnessError(f"item {shown(item.question)}: {error}") from None
    return found


def check_requests(checkpoint: Checkpoint, requests: Mapping[str, Sequence[Forced]], items: Sequence[Item]) -> None:
    """Raise :class:`HarnessError` for token ids that the embedding does not know, and for what is longer than the
    context of ``checkpoint``, naming the item."""
    names = {item.key: item.question for item in items}
    for key, own in requests.items():
        for forced in own:
            beyond = max((*forced.context, *forced.continuation))
            if beyond >= checkpoint.rows:
                raise CheckpointError(
                    f"checkpoint {checkpoint.path}",
                    f"item {shown(names[key])} holds token {beyond}, and its embedding has {checkpoint.rows} rows",
                    "correct its tokenizer, or choose other items",
                )
            if checkpoint.context is not None and len(forced.fed) > checkpoint.context:
                raise HarnessError(
                    f"item {shown(names[key])} of {len(forced.fed)} tokens",
                    f"the context of {checkpoint.path} holds {checkpoint.context}",
                    "shorten it or choose other items",
                )


def check_references(scorer: Scorer, items: Sequence[Item], requests: Mapping[str, Sequence[Forced]]) -> None:
    """Raise :class:`HarnessError` where ``scorer`` cannot read the reference of an item, before anything is run."""
    for item in items:
        found = [Scored(len(each.context), len(each.continuation), -1.0, False) for each in requests[item.key]]
        judged(scorer, written(found), item.reference, Asked(item.key, item.question), False)


def check_readable(scorer: Scorer, items: Sequence[Item]) -> None:
    """Do the same for a scorer of texts that can be asked (it has ``check``)."""
    check = getattr(scorer, "check", None)
    if check is not None:
        for item in items:
            check(item.reference, Asked(item.key, item.question))


def _prefix(checkpoint: Checkpoint, asked: str | None) -> int:
    tokenizer = checkpoint.tokenizer
    if asked is None:
        begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        return int(end if begin is None else begin)
    unknown = HarnessError(
        f"--prefix-token {asked}",
        f"the tokenizer of {checkpoint.path} has {len(tokenizer)} tokens, and that is none of them",
        "give the text of one token, such as <|endoftext|>, or its number",
    )
    known = tokenizer.get_vocab().get(asked)
    if known is None and asked.isascii() and asked.isdigit() and int(asked) < min(len(tokenizer), checkpoint.rows):
        known = int(asked)
    if known is None or known >= checkpoint.rows:
        raise unknown
    return int(known)
