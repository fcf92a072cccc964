"""An engine that answers from a script: for tests of tasks, scorers, reports and interruptions, without computing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.engines.generation import Completion
from harness.engines.protocol import Batch, Evaluation, Ran

Script = Callable[[str, float, int], str]
"""(item, level, noise seed) -> the text of the answer. What it raises ends the evaluation there, as an engine would."""


class Tokenized(Evaluation, Protocol):
    """An evaluation whose checkpoint has its tokenizer: :class:`harness.evaluate.prepared.Prepared` is one."""

    @property
    def checkpoint(self) -> Any:
        """Return the checkpoint, with ``tokenizer``."""


@dataclass
class ScriptedEngine:
    """Answers ``evaluation`` from ``script``; ``asked`` collects (item, level, seed) in the order of the calls.

    Give it to :func:`harness.evaluate.run.evaluate` as ``engine``. It perturbs nothing and counts nothing, so that a
    run of it is INVALID at every noisy level, as it must be: what is tested with it is everything around an engine.
    A text longer than the evaluation allows is cut there and counts as truncated.
    """

    evaluation: Tokenized
    script: Script
    asked: list[tuple[str, float, int]] = field(default_factory=list)

    def __enter__(self) -> ScriptedEngine:
        """Return itself; nothing is started."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Leave nothing behind."""

    def stream(self, batches: Iterable[Batch]) -> Generator[Ran, None, None]:
        """Yield the records of each batch, without counts and audits."""
        for batch in batches:
            results = []
            for prompt in batch.prompts:
                asked = (prompt.item, batch.level, prompt.seed)
                self.asked.append(asked)
                results.append(self.evaluation.result(prompt, self._completion(self.script(*asked)), batch.level))
            yield Ran(results, ())

    def _completion(self, text: str) -> Completion:
        tokens = tuple(self.evaluation.checkpoint.tokenizer(text, add_special_tokens=False)["input_ids"])
        longest = self.evaluation.decoding.max_new_tokens
        cut = len(tokens) >= longest
        kept = tokens[:longest]
        return Completion(kept, len(kept) + (not cut), cut)
