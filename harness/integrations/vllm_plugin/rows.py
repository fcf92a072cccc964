"""The token rows of one forward pass of a batching engine: whose they are, where they stand, what noise they get."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.exceptions import EvidenceError
from harness.noise.frames import Frame, Rows, chosen_steps, row_bases
from harness.numerics.keyed_random import counter_keys
from harness.spec import ErrorModel, parse_noise
from harness.spec.tokens import Span

ON = 1.0
"""The strength of a quantization."""


@dataclass(frozen=True)
class Request:
    """What a request carries: its item hash, noise seed and level; ``error`` replaces the error model, if given.

    ``scored`` says that the tokens of its prompt are scored and nothing is generated: its last token, which vLLM feeds
    too, then predicts nothing and does not count. The first ``context`` of them are what the others are scored behind,
    from which the steps of a selection are counted.
    """

    item: str
    seed: int
    level: float
    error: str | None = None
    scored: bool = False
    context: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the dictionary for the extra arguments of sampling parameters."""
        return asdict(self)


@dataclass(frozen=True)
class Scheduled:
    """One request in a forward: ``computed`` tokens lie in its cache, ``tokens`` more are fed now, its prompt has
    ``prompt`` tokens. ``known`` positions were fed before: a preempted request is fed them again."""

    request: Request
    computed: int
    tokens: int
    prompt: int
    known: int

    @property
    def conditioned(self) -> int:
        """Tokens before the first one that is generated or scored."""
        return self.request.context if self.request.scored else self.prompt


@dataclass(frozen=True)
class Group:
    """The rows of one level and error model. ``indices`` picks them out of all rows, None where they are all."""

    level: float
    frame: Frame
    indices: Tensor | None


@dataclass(frozen=True)
class Step:
    """One forward pass: its rows as the layers see them, and as the output head does (one for each request).

    ``body`` and ``head`` hold the rows that the noise selects, ``every`` all of them, of layers and of the head, which
    quantization acts on.
    """

    tokens: int
    requests: int
    body: tuple[Group, ...]
    head: tuple[Group, ...]
    every: tuple[tuple[Group, ...], tuple[Group, ...]]

    def groups(self, head: bool, quantizing: bool) -> tuple[Group, ...]:
        """Return the rows that a product of layers or of the ``head`` has, by level and error model."""
        if quantizing:
            return self.every[head]
        return self.head if head else self.body

    def whole(self, head: bool, quantizing: bool) -> bool:
        """Return True where :meth:`groups` leave no row out."""
        return quantizing or (self.head is self.every[1] if head else self.body is self.every[0])

    @property
    def uncounted(self) -> tuple[int, int]:
        """Rows of layers and of the head that are computed again or for nothing, so that they do not count."""

        def counted(groups: tuple[Group, ...]) -> int:
            return sum(group.frame.rows.count for group in groups if group.frame.rows is not None)

        return self.tokens - counted(self.body), self.requests - counted(self.head)

    def rows(self, head: bool) -> int:
        """Return how many rows a result must have: one for each token, or for each request at the head."""
        return self.requests if head else self.tokens


class Bases:
    """The key of every request's rows, made once."""

    def __init__(self, key_mode: str) -> None:
        self._key_mode = key_mode
        self._known: dict[tuple[str, int], int] = {}

    def of(self, request: Request) -> int:
        """Return the int64 key of (seed, item)."""
        wanted = request.item, request.seed
        if wanted not in self._known:
            self._known[wanted] = int(row_bases([request.item], [request.seed], self._key_mode)[0])
        return self._known[wanted]


def build_step(
    scheduled: Sequence[Scheduled],
    default: ErrorModel,
    bases: Bases,
    device: torch.device | str = "cpu",
    spans: Sequence[Span] = (),
) -> Step:
    """Return the rows of ``scheduled``, in the order in which the engine lays them out; ``spans`` are the steps that
    the noise selects (:mod:`harness.spec.tokens`), none where it acts on all of them.

    Rows that were fed before (after a preemption), logits of a prompt that is fed in chunks, and the last token of a
    prompt that is scored are perturbed but not counted, so that the counts are those of an engine that has none of
    them.
    """
    sizes = torch.tensor([each.tokens for each in scheduled])
    keys = torch.tensor([bases.of(each.request) for each in scheduled])
    starts = torch.tensor([each.computed for each in scheduled])
    known = torch.tensor([each.known for each in scheduled])
    prompts = torch.tensor([each.prompt for each in scheduled])
    before = torch.tensor([each.conditioned for each in scheduled])
    owner = torch.repeat_interleave(torch.arange(len(scheduled)), sizes)
    first = torch.cumsum(sizes, 0) - sizes
    positions = torch.arange(int(sizes.sum())) - first[owner] + starts[owner]
    scored = torch.tensor([each.request.scored for each in scheduled])
    real = (positions >= known[owner]) & ~(scored[owner] & (positions >= prompts[owner] - 1))
    last = starts + sizes - 1
    counted = (last >= known) & (last >= prompts - 1) & ~scored
    kinds = [(each.request.level, each.request.error) for each in scheduled]
    body: dict[bool, list[Group]] = {True: [], False: []}
    head: dict[bool, list[Group]] = {True: [], False: []}
    for kind in dict.fromkeys(kinds):
        mine = torch.tensor([other == kind for other in kinds])
        level, error = kind[0], default if kind[1] is None else parse_noise(kind[1]).error
        rows = mine[owner]
        seed = _common(each.request.seed for each, of in zip(scheduled, kinds, strict=True) if of == kind)
        for found, own, all_keys, all_positions, all_real, ends in (
            (body, rows, keys[owner], positions, real, before[owner]),
            (head, mine, keys, last, counted, before),
        ):
            for selecting in (True, False) if spans else (False,):
                chosen = own & chosen_steps(all_positions - (ends - 1), spans) if selecting else own
                indices = None if bool(chosen.all()) else chosen.nonzero()[:, 0]
                frame = _frame(
                    *(t if indices is None else t[indices] for t in (all_keys, all_positions, all_real)),
                    applied=(level, error, seed),
                    device=device,
                )
                found[selecting].append(Group(level, frame, None if indices is None else indices.to(device)))
    every = tuple(body[False]), tuple(head[False])
    noisy = (tuple(body[True]), tuple(head[True])) if spans else every
    return Step(len(positions), len(scheduled), *noisy, every)


@dataclass(frozen=True)
class Scoring:
    """The ``count`` rows of the head whose logits score a prompt: those that the noise selects, and ``every`` one."""

    count: int
    noisy: Group
    every: Group

    @property
    def uncounted(self) -> int:
        """Rows that are computed again, or that the noise leaves alone."""
        rows = self.noisy.frame.rows
        return self.count - (0 if rows is None else rows.count)


def scored_rows(
    scheduled: Scheduled,
    count: int,
    default: ErrorModel,
    bases: Bases,
    device: torch.device | str = "cpu",
    spans: Sequence[Span] = (),
) -> Scoring:
    """Return the rows whose logits score the prompt of ``scheduled``: the first ``count`` that it is fed now; ``spans``
    as in :func:`build_step`."""
    request = scheduled.request
    positions = torch.arange(scheduled.computed, scheduled.computed + count)
    error = default if request.error is None else parse_noise(request.error).error
    keys = torch.full_like(positions, bases.of(request))

    def group(indices: Tensor | None) -> Group:
        own, at = (t if indices is None else t[indices] for t in (keys, positions))
        frame = _frame(own, at, at >= scheduled.known, applied=(request.level, error, request.seed), device=device)
        return Group(request.level, frame, None if indices is None else indices.to(device))

    every = group(None)
    chosen = chosen_steps(positions - (scheduled.conditioned - 1), spans)
    return Scoring(count, group(chosen.nonzero()[:, 0]) if spans and not bool(chosen.all()) else every, every)


def _common(seeds: Iterable[int]) -> int | None:
    found = set(seeds)
    return found.pop() if len(found) == 1 else None


def _frame(
    bases: Tensor,
    positions: Tensor,
    real: Tensor,
    *,
    applied: tuple[float, ErrorModel, int | None],
    device: torch.device | str,
) -> Frame:
    """A frame whose rows are one sequence: a batching engine lays all tokens out in one dimension."""
    level, error, seed = applied
    count = int(real.sum())
    bases, positions, real = (t.to(device)[None] for t in (bases, positions, real))
    rows = Rows(counter_keys(bases, positions), positions, positions, real, count, 0)
    return Frame(0, torch.tensor(0), rows, True, error, level, True, "", (), seed)


def prompt_item(tokens: Sequence[int]) -> str:
    """Return the item of a request that names none: a digest of its prompt's token ids."""
    return hashlib.sha256(",".join(map(str, tokens)).encode()).hexdigest()


def request_of(
    arguments: Mapping[str, Any] | None, key: str, name: str, prompt: Sequence[int] = (), default: Request | None = None
) -> Request:
    """Return the request that its sampling parameters describe.

    Where they do not, it has level, seed and error of ``default``, and the digest of ``prompt`` for its item. Raises
    :class:`EvidenceError` where there is no default either.
    """
    given = (arguments or {}).get(key)
    if not isinstance(given, Mapping):
        if default is not None:
            return replace(default, item=prompt_item(prompt))
        raise EvidenceError(
            f"request {name}",
            "it names no item, seed and level",
            f"give them in extra_args[{key!r}] of its parameters, or set them for all",
        )
    scored, context = bool(given.get("scored", False)), int(given.get("context", 0))
    return Request(str(given["item"]), int(given["seed"]), float(given["level"]), given["error"], scored, context)
