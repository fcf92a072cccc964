"""vLLM as an engine of the evaluation: one load, all levels and seeds mixed in its batches, proof from every process.

Switched off, because counts or draws would depend on it: the prefix cache (tokens that are not computed get no noise),
asynchronous scheduling (it computes a token after the last one), CUDA graphs (they replay what Python chose once).
Chunked prefill and preemption stay: their extra rows are perturbed alike and not counted twice.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import astuple, dataclass, replace
from types import TracebackType
from typing import Any, TypeVar

from harness.distributions import Distribution
from harness.engines.generation import Completion, Prompt, completed
from harness.engines.likelihood import Likelihood
from harness.engines.protocol import Batch, Evaluation, Ran
from harness.engines.vllm.audit import Asked, check_engine_audit, merge_reports, report_problems, work_of
from harness.engines.vllm.limits import (
    MULTIPROCESSING,
    check_adapter,
    set_environment,
    starting_environment,
)
from harness.engines.vllm.memory import cache_of, check_room
from harness.exceptions import EvidenceError, HarnessError
from harness.integrations.vllm_plugin.keeping import FIELD, Wanted, merged
from harness.integrations.vllm_plugin.payload import KEY, METHOD, Payload, check_whole
from harness.integrations.vllm_plugin.rows import Request
from harness.integrations.vllm_plugin.worker import QUALIFIED_NAME, counts_of
from harness.ledger import merge
from harness.record import NOISE, ItemResult, SiteCount
from harness.runs.evidence import ExpectedSite, Fed, count_problems
from harness.runs.store import Audit
from harness.spec import EngineOptions, ErrorModel

log = logging.getLogger(__name__)
T = TypeVar("T")

CHUNK_BATCHES = 4
"""Batches that are handed over together: the engine fills the places of finished sequences from them."""

SWITCHED_OFF = "vLLM runs without prefix cache, asynchronous scheduling and CUDA graphs: they would change the counts"

SAMPLER = "harness.integrations.vllm_plugin.sampler:KeyedSampler"
"""What draws the tokens in the engine's processes, in vLLM's spelling; vLLM itself stays greedy."""

FINISHED = ("stop", "length")
"""Why an answer may end; an engine that is stopped gives others back."""


class EngineDied(Exception):
    """The engine's process is gone."""


def within_this_process() -> bool:
    """Return True where vLLM runs in this process, so that nobody can be given up."""
    return os.environ.get(MULTIPROCESSING) == "0"


def payload_of(evaluation: Evaluation) -> Payload:
    """Return what the engine's processes are told."""
    return Payload.of(evaluation.checkpoint.model, evaluation.plan, evaluation.quantizers)


@dataclass(frozen=True)
class _Work:
    """One generation, or one of the requests of a prompt that is scored: where it belongs, and what vLLM gave."""

    prompt: Prompt
    level: float
    error: ErrorModel | None
    output: Any = None
    request: int = 0
    kept: Distribution | None = None

    @property
    def named(self) -> tuple[str, int, float, str | None]:
        """By what the engine's processes know it."""
        error = None if self.error is None else str(self.error)
        return self.prompt.item, self.prompt.seed, self.level, error

    @property
    def tokens(self) -> list[int]:
        """What vLLM is given."""
        if not self.prompt.forced:
            return list(self.prompt.tokens)
        forced = self.prompt.forced[self.request]
        return [*forced.context, *forced.continuation]


class VllmEngine:
    """An engine for :func:`harness.evaluate.run.evaluate`; a context manager that starts and stops vLLM.

    ``overrides`` replace arguments of ``vllm.LLM``; ``compiled`` says whether it compiles the model. Raises
    :class:`EvidenceError` where a process of vLLM cannot show that it perturbs, :class:`HarnessError` where vLLM does
    not start or dies twice.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        options: EngineOptions,
        overrides: Mapping[str, Any] | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        self._evaluation = evaluation
        self._options = options
        self._compiled = compiled
        self._overrides = dict(overrides or {})
        self._llm: Any = None
        self._expected = expected_sites(evaluation)
        self._reports: list[dict[str, Any]] = []

    def __enter__(self) -> VllmEngine:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop vLLM; its processes end. Nothing is asked of them, because they may never answer."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        try:
            if within_this_process():
                with contextlib.suppress(Exception):  # it may be broken already
                    llm.collective_rpc("robustness_detach")
        finally:
            with contextlib.suppress(Exception):
                llm.llm_engine.engine_core.shutdown()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``vllm.LLM``."""
        evaluation = self._evaluation
        from vllm.platforms import current_platform

        return {
            "model": str(evaluation.checkpoint.source.folder),
            "dtype": evaluation.spec.dtype,
            "quantization": METHOD,
            "additional_config": {KEY: payload_of(evaluation).to_json()},
            "worker_extension_cls": QUALIFIED_NAME,
            "enable_prefix_caching": False,
            "async_scheduling": False,
            "enforce_eager": not self._compiled,
            "compilation_config": {"cudagraph_mode": "NONE"} if self._compiled else None,
            "max_model_len": evaluation.longest,
            "max_num_seqs": self._options.batch_size,
            "max_num_batched_tokens": max(2048, evaluation.longest),
            "generation_config": "vllm",
            "skip_tokenizer_init": True,
            "logprobs_mode": "raw_logprobs" if self._scoring else "raw_logits",
            "kv_cache_memory_bytes": cache_of(evaluation, self._options) if current_platform.is_cpu() else None,
            "logits_processors": None if evaluation.decoding.sampling is None else [SAMPLER],
            "seed": 0,
            **self._adapter_arguments(),
        } | self._overrides

    def _adapter_arguments(self) -> dict[str, Any]:
        """What lets vLLM run an adapter beside its base: noise falls on the base's products, the update is exact."""
        adapter = self._evaluation.checkpoint.source.adapter
        if adapter is None:
            return {}
        return {"enable_lora": True, "max_loras": 1, "max_lora_rank": check_adapter(adapter)}

    def _lora_request(self) -> Any:
        """The adapter of every request, None where there is none."""
        adapter = self._evaluation.checkpoint.source.adapter
        if adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest("adapter", 1, str(adapter))

    def _start(self) -> None:
        check_whole(self._overrides.get("tensor_parallel_size", 1) * self._overrides.get("pipeline_parallel_size", 1))
        set_environment()
        check_room(self._evaluation, self._options)
        from harness.integrations import vllm_plugin

        vllm_plugin.register()  # this process builds the configuration that the others are sent
        if vllm_plugin.STATUS.problems:
            raise EvidenceError("; ".join(vllm_plugin.STATUS.problems), "the plugin works nowhere", "correct it")
        from vllm import LLM

        log.info(SWITCHED_OFF)
        given = {name: value for name, value in self.arguments().items() if value is not None}
        try:
            with starting_environment(self._options.timeout):
                self._llm = LLM(**given)
        except Exception as error:  # its start fails in as many ways as there are installations
            raise HarnessError(
                "vLLM did not start",
                f"{type(error).__name__}: {' '.join(str(error).split()):.300}",
                "its own log above says more; harness doctor checks the installation",
            ) from error
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        """Opens the session of every process, each of which must show that it perturbs."""
        llm = self._llm
        self._reports = self._in_time(lambda: llm.collective_rpc("robustness_attach"))
        problems = [
            f"vLLM process {report['process']}: {problem}"
            for report in self._reports
            for problem in report_problems(report)
        ]
        if problems:
            raise EvidenceError(
                "; ".join(problems), "a process that cannot show its noise proves nothing", "correct it"
            )

    def stream(self, batches: Iterable[Batch]) -> Generator[Ran, None, None]:
        """Yield audited batches alone, all others mixed :data:`CHUNK_BATCHES` at a time."""
        waiting: list[Batch] = []
        for batch in batches:
            if batch.audited:
                yield self._twice((batch,))
                continue
            waiting.append(batch)
            if len(waiting) == CHUNK_BATCHES:
                yield self._twice(tuple(waiting))
                waiting = []
        if waiting:
            yield self._twice(tuple(waiting))

    def _twice(self, batches: Sequence[Batch]) -> Ran:
        """Runs ``batches``; an engine that dies is started once more, because that is often an accident."""
        try:
            return self._run(batches)
        except EngineDied as first:
            log.warning("%s; it is started once more", first)
            self.close()
            self._start()
            try:
                return self._run(batches)
            except EngineDied as second:
                count = sum(len(batch.prompts) for batch in batches)
                raise HarnessError(
                    f"the vLLM engine died twice on the same {count} generations",
                    f"{second}",
                    "nothing stored is lost: the same command resumes; see vLLM's log above",
                ) from None

    def _run(self, batches: Sequence[Batch]) -> Ran:
        if self._scoring:
            return self._score(batches)
        audited = next((batch for batch in batches if batch.audited), None)
        looked = None if audited is None else self._looked(audited)
        asked = [_Work(prompt, batch.level, batch.error) for batch in batches for prompt in batch.prompts]
        levels = sorted({work.level for work in asked})
        works, seen, drained = self._in_time(lambda: self._exchange(asked, levels, looked))
        stop = self._evaluation.decoding.stop
        results = [
            self._evaluation.result(work.prompt, _completion(work.output.outputs[0], stop), work.level)
            for work in works
        ]
        counts = [count for report in drained for count in counts_of(report["counts"])]
        problems = self._problems(works, results, counts, drained)
        audits = tuple(Audit(level, 0, problems) for level in levels if problems)
        if audited is not None:
            audits += check_engine_audit(
                merge_reports(seen), self._reports, counts, work_of(drained), self._asked(audited)
            )
        return Ran(results, counts, audits, dict.fromkeys(levels, 1))

    @property
    def _scoring(self) -> bool:
        """Whether continuations are scored and nothing is generated."""
        return bool(self._evaluation.probed[0].forced)

    def _score(self, batches: Sequence[Batch]) -> Ran:
        """Scores the continuations of ``batches``. Of an audited batch the requests of one number are together, because
        those of an item share their draws."""
        audited = next((batch for batch in batches if batch.audited), None)
        looked = None if audited is None else self._looked(audited)
        asked = [
            _Work(prompt, batch.level, batch.error, request=request)
            for batch in batches
            for prompt in batch.prompts
            for request in range(len(prompt.forced))
        ]
        levels = sorted({work.level for work in asked})
        numbers = sorted({work.request for work in asked})
        groups = [asked] if audited is None else [[w for w in asked if w.request == number] for number in numbers]
        works: list[_Work] = []
        counts: list[SiteCount] = []
        reports: list[Mapping[str, Any]] = []
        audits: tuple[Audit, ...] = ()
        for group in groups:
            done, seen, drained = self._in_time(functools.partial(self._exchange, group, levels, looked))
            own = [count for report in drained for count in counts_of(report["counts"])]
            if audited is not None:
                found = merge_reports(seen)
                audits += check_engine_audit(found, self._reports, own, work_of(drained), self._asked(audited))
            works, counts, reports = [*works, *done], [*counts, *own], [*reports, *drained]
        results = self._scored(works)
        problems = self._problems(works, results, merge(counts), reports)
        audits = (*(Audit(level, 0, problems) for level in levels if problems), *audits)
        return Ran(results, counts, audits, dict.fromkeys(levels, len(groups)))

    def _scored(self, works: Sequence[_Work]) -> list[ItemResult]:
        """The records of prompts whose requests are all among ``works``."""
        found: dict[tuple[Prompt, float], dict[int, Likelihood]] = {}
        for work in works:
            found.setdefault((work.prompt, work.level), {})[work.request] = _likelihood(work)
        return [
            self._evaluation.scored(prompt, [own[request] for request in sorted(own)], level)
            for (prompt, level), own in found.items()
        ]

    def _asked(self, batch: Batch) -> Asked:
        error = batch.error or self._evaluation.plan.spec.error
        assert batch.audited is not None
        relative = error.expected_relative_rms(batch.level) if batch.level else None
        return Asked(batch.audited, relative, bool(self._evaluation.plan.spec.tokens))

    def _looked(self, batch: Batch) -> tuple[Any, ...]:
        """What the auditor of ``batch`` is told: level, error model and the seed of its own choices."""
        assert batch.audited is not None
        error = batch.error or self._evaluation.plan.spec.error
        lot = batch.audited.trail.number("rows", batch.level, batch.audited.place)
        return batch.level, str(error.without_level), lot

    def _exchange(
        self, asked: Sequence[_Work], levels: Sequence[float], looked: tuple[Any, ...] | None
    ) -> tuple[list[_Work], list[Any], list[Any]]:
        """The generations, what the auditors saw meanwhile, and the ledger of every process."""
        llm = self._llm  # a thread that was given up must not reach the next engine
        if looked is not None:
            llm.collective_rpc("robustness_audit", args=looked)
        works = self._generate(llm, asked)
        if self._scoring and self._evaluation.kept(self._evaluation.probed[:1], 0.0):
            works = _with_kept(works, llm.collective_rpc("robustness_kept"))
        seen = [] if looked is None else llm.collective_rpc("robustness_audited")
        return works, seen, llm.collective_rpc("robustness_drain", args=(levels,))

    def _in_time(self, work: Callable[[], T]) -> T:
        """``work()``, given up where another process does not answer in time; within one process it just runs.

        The thread is a daemon: neither Ctrl-C nor the end of this process waits for an engine that hangs.
        """
        if within_this_process():
            return work()
        answer: Future[T] = Future()
        threading.Thread(target=_fulfil, args=(answer, work), daemon=True).start()
        try:
            return answer.result(self._options.timeout)
        except (HarnessError, EngineDied):
            raise
        except TimeoutError:
            self.close()
            raise HarnessError(
                f"the vLLM engine gave no answer in {self._options.timeout:g} s",
                "it hangs, or what it was given at once takes longer",
                "the same command resumes: give a longer --timeout or a smaller --batch-size",
            ) from None
        except Exception as error:  # a process that ends says so in many ways
            raise EngineDied(f"the vLLM engine died ({type(error).__name__}: {error})") from error

    def _generate(self, llm: Any, works: Sequence[_Work]) -> list[_Work]:
        from vllm import SamplingParams

        decoding = self._evaluation.decoding
        stop = [*decoding.stop, *self._until]
        drawn = {} if decoding.sampling is None else {"sampling": list(astuple(decoding.sampling))}
        prompts = [{"prompt_token_ids": work.tokens} for work in works]
        parameters = [
            SamplingParams(
                temperature=0.0,
                max_tokens=decoding.max_new_tokens,
                stop_token_ids=stop,
                detokenize=False,
                logprobs=0,  # the chosen token's own: what a replay is held against
                prompt_logprobs=0 if self._scoring else None,
                extra_args={KEY: self._request(work).to_json() | drawn | self._kept(work)},
            )
            for work in works
        ]
        outputs = llm.generate(prompts, parameters, use_tqdm=False, lora_request=self._lora_request())
        broken = [output for output in outputs if output.outputs[0].finish_reason not in FINISHED]
        if broken:
            raise EngineDied(f"vLLM gave {len(broken)} of {len(outputs)} answers back unfinished")
        return [replace(work, output=output) for work, output in zip(works, outputs, strict=True)]

    @functools.cached_property
    def _until(self) -> tuple[int, ...]:
        """Tokens that hold a text that ends an answer. Where several tokens make it up, vLLM, which has no tokenizer
        here, generates up to the limit: what comes after it is cut off when the answer is scored."""
        until = self._evaluation.decoding.until
        if until is None:
            return ()
        return until.within(self._evaluation.checkpoint.model.config.get_text_config().vocab_size)

    @staticmethod
    def _request(work: _Work) -> Request:
        prompt = work.prompt
        context = len(prompt.forced[work.request].context) if prompt.forced else 0
        return Request(*work.named, bool(prompt.forced), context)

    def _kept(self, work: _Work) -> dict[str, Any]:
        """What the engine's processes keep of the distributions of ``work``."""
        kept = self._evaluation.kept([work.prompt], work.level) if work.prompt.forced else ()
        if not kept:
            return {}
        return {FIELD: Wanted(len(work.prompt.forced[work.request].context), kept[0]).to_json()}

    def _problems(
        self,
        works: Sequence[_Work],
        results: Sequence[ItemResult],
        counts: Sequence[SiteCount],
        drained: Sequence[Mapping[str, Any]],
    ) -> tuple[str, ...]:
        """What speaks against this chunk: counts of this process against its own answers, and what explains them."""
        process = ", ".join(report["process"] for report in drained)
        found = [problem for report in drained for problem in report["problems"]]
        cached = sum(work.output.num_cached_tokens or 0 for work in works)
        if cached:
            found.append(f"the prefix cache answered for {cached} tokens, which got no noise")
        noise = [count for count in counts if count.kind == NOISE]
        if not noise and any(report["forwards"] for report in drained):
            found.append("forwards ran and no operator was called: compiled code without noise (a stale compile cache)")
        for level in sorted({result.level for result in results}):
            own = Fed.of((result for result in results if result.level == level), self._expected[0].tokens)
            found += count_problems(self._expected, own, {c.site: c for c in noise if c.level == level})
        return tuple(f"vLLM process {process}: {problem}" for problem in found)


def _completion(output: Any, stop: tuple[int, ...]) -> Completion:
    """An answer of vLLM with the logit of every token."""
    tokens = output.token_ids
    logits = [found[token].logprob for token, found in zip(tokens, output.logprobs or (), strict=True)]
    return completed(tokens, stop, logits)


def _likelihood(work: _Work) -> Likelihood:
    """What vLLM says of the continuation of ``work``; the rank of a most probable token is 1.

    Raises :class:`EngineDied` where it gives no log-probability of a token.
    """
    continuation = work.prompt.forced[work.request].continuation
    given = (work.output.prompt_logprobs or ())[-len(continuation) :]
    try:
        found = [entries[token] for token, entries in zip(continuation, given, strict=True)]
    except (KeyError, TypeError, ValueError):
        raise EngineDied("vLLM gave no log-probability of a token of a prompt") from None
    return Likelihood(tuple(each.logprob for each in found), all(each.rank == 1 for each in found), work.kept)


def _with_kept(works: Sequence[_Work], reports: Sequence[Sequence[Any]]) -> list[_Work]:
    """``works`` with the distributions that the engine's processes kept of them.

    Raises :class:`EngineDied` where one lacks its own.
    """
    try:
        kept = merged(reports)
        return [replace(work, kept=kept[work.named]) for work in works]
    except (KeyError, ValueError) as error:
        raise EngineDied(f"vLLM kept no distribution of a prompt ({error})") from None


def _fulfil(answer: Future[T], work: Callable[[], T]) -> None:
    """Puts what ``work`` gives or raises into ``answer``."""
    try:
        answer.set_result(work())
    except BaseException as error:  # raised again on the caller's thread
        answer.set_exception(error)


def expected_sites(evaluation: Evaluation) -> tuple[ExpectedSite, ...]:
    """Return what the plan, made on the checkpoint's configuration, leads to expect of every site."""
    return tuple(
        ExpectedSite(
            *(site.name, site.op, site.columns, site.last_token_only, site.grows), tokens=evaluation.plan.spec.tokens
        )
        for site in evaluation.plan.sites
    )
