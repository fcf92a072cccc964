"""Token ids of prompts, of the end and of padding: they fit the embedding and the context of the checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from harness.engines.until import Until
from harness.evaluate.checkpoint import Checkpoint
from harness.exceptions import CheckpointError, HarnessError


def check_prompts(checkpoint: Checkpoint, prompts: Mapping[str, tuple[int, ...]], limit: int) -> None:
    """Raise :class:`HarnessError` for token ids that the embedding does not know, and where the longest of ``prompts``
    (item -> token ids) is longer than its tokenizer allows, or does not fit the context with ``limit`` new tokens."""
    beyond = sorted({token for tokens in prompts.values() for token in tokens if token >= checkpoint.rows})
    if beyond:
        word = checkpoint.tokenizer.convert_ids_to_tokens(beyond[0])
        raise CheckpointError(
            f"checkpoint {checkpoint.path}",
            f"a prompt holds token {beyond[0]} ({word!r:.60}), and its embedding has {checkpoint.rows} rows",
            "correct its chat template or its tokenizer, or choose other items",
        )
    longest = max(map(len, prompts.values()))
    most = checkpoint.tokenizer.model_max_length
    if longest > most:
        raise HarnessError(
            f"a prompt of {longest} tokens",
            f"model_max_length of the tokenizer of {checkpoint.path} is {most}",
            "correct it in tokenizer_config.json, or choose other items",
        )
    if checkpoint.context is not None and longest + limit > checkpoint.context:
        raise HarnessError(
            f"a prompt of {longest} tokens and {limit} new ones",
            f"the context of {checkpoint.path} holds {checkpoint.context}",
            "lower --max-new-tokens or --fewshot, or choose other items",
        )


def until_of(checkpoint: Checkpoint, texts: Sequence[str]) -> tuple[Until | None, tuple[int, ...]]:
    """Return when one of ``texts`` ends an answer (None: never), and the special tokens among them, which have no text
    in an answer and end it as tokens do."""
    vocabulary = checkpoint.tokenizer.get_vocab()
    special = {text: vocabulary[text] for text in texts if text in checkpoint.tokenizer.all_special_tokens}
    plain = tuple(text for text in texts if text and text not in special)
    tokens = tuple(token for token in special.values() if token < checkpoint.rows)
    if not plain:
        return None, tokens
    return Until(plain, functools.partial(checkpoint.tokenizer.decode, skip_special_tokens=True)), tokens


def adds_special(checkpoint: Checkpoint, text: str, chat: bool, verbatim: bool) -> bool:
    """Return whether the tokenizer adds its special tokens to the prompt ``text``: a chat template has written them,
    and one that is taken ``verbatim`` may begin with that of the beginning. Source: ``HFLM.tok_batch_encode`` of
    lm-evaluation-harness."""
    begin = checkpoint.tokenizer.bos_token
    return not chat and not (verbatim and bool(begin) and text.startswith(begin))


def pad_token(checkpoint: Checkpoint) -> int:
    """Return the token id that fills up shorter prompts: the tokenizer's own if the embedding knows it, else the end of
    sequence."""
    pad, end = checkpoint.tokenizer.pad_token_id, checkpoint.tokenizer.eos_token_id
    return int(end if pad is None or pad >= checkpoint.rows else pad)


def stop_tokens(checkpoint: Checkpoint) -> tuple[int, ...]:
    """Return the token ids that end an answer. Raises :class:`CheckpointError` for one that is no row of the
    embedding."""
    stop = checkpoint.model.generation_config.eos_token_id
    own = stop if isinstance(stop, list) else [stop]
    found = [token for token in (*own, checkpoint.tokenizer.eos_token_id) if token is not None]
    if not all(isinstance(token, int) and 0 <= token < checkpoint.rows for token in found):
        raise CheckpointError(
            f"checkpoint {checkpoint.path}",
            f"eos_token_id {stop!r}",
            f"give a token id from 0 to {checkpoint.rows - 1}",
        )
    return tuple(sorted(set(found)))
