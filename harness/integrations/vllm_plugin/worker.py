"""What vLLM's workers answer to: opens the session of a built model, tells it of every forward, gives its ledger.

A worker extension (``worker_extension_cls``): its methods are called by name through ``collective_rpc`` and exchange
plain lists and dictionaries, so that no pickling has to be allowed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

from harness.exceptions import HarnessError
from harness.integrations.vllm_plugin.keeping import FIELD, Keeper, Wanted
from harness.integrations.vllm_plugin.payload import KEY, revision
from harness.integrations.vllm_plugin.rows import Request, request_of
from harness.noise.ledger import process_name
from harness.record import SiteCount
from harness.spec import parse_noise

QUALIFIED_NAME = "harness.integrations.vllm_plugin.worker.RobustnessWorker"

PROMPTS = "_get_prompt_logprobs_dict"
"""The method of vLLM's model runner that computes the logits of scored prompts."""


class RobustnessWorker:
    """Mixed into vLLM's worker class."""

    model_runner: Any
    vllm_config: Any
    _auditor: Any = None
    _keeper: Keeper | None = None

    def robustness_attach(self) -> dict[str, Any]:
        """Open the session and return what this process reports about itself. Problems are returned, not raised, and
        named."""
        from harness.integrations import vllm_plugin

        problems = list(vllm_plugin.STATUS.problems)
        if not vllm_plugin.STATUS.calls:
            problems.append("vLLM did not load the plugin in this process")
        report = {"process": process_name(), "revision": revision(), "problems": problems}
        config = self.vllm_config.quant_config
        session = getattr(config, "_session", None)
        if session is None:
            problems.append(
                f"the model was built by {type(config).__name__}, without the noise of this run"
                if type(config).__name__ != "RobustnessConfig"
                else "the model was built outside this process, so that nothing in it is perturbed"
            )
            return report
        try:
            problems += self._open(session)
        except HarnessError as error:
            problems.append(str(error))
        return report | {
            "compiled": self.vllm_config.compilation_config.mode.name,
            "runner": type(self.model_runner).__name__,
            "layers": self._linear_layers(),
            "adapters": self.vllm_config.lora_config is not None,
            "linears": session.linears(head=False),
            "heads": session.linears(head=True),
        }

    def _linear_layers(self) -> int:
        """Layers that multiply once in a forward, by vLLM's own classes."""
        from vllm.model_executor.layers.linear import LinearBase
        from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

        return sum(
            isinstance(module, LinearBase | ParallelLMHead) for module in self.model_runner.get_model().modules()
        )

    def _open(self, session: Any) -> list[str]:
        from vllm.model_executor.layers.attention import Attention

        from harness.integrations.vllm_plugin.attention import NoisyCPUAttentionImpl, attention_number

        runner, model = self.model_runner, self.model_runner.get_model()
        if not hasattr(runner, "input_batch") or not hasattr(runner, "query_start_loc"):
            return [f"model runner {type(runner).__name__} does not say which rows belong to which request"]
        problems = []
        for name, module in model.named_modules():
            if isinstance(module, Attention) and isinstance(module.impl, NoisyCPUAttentionImpl):
                attention_number(session, module.layer_name)
            named: Any = getattr(module, "named", None)
            if getattr(named, "site", None) is not None and not _same_module(named.module, name):
                problems.append(
                    f"layer {name} took the noise of {named.module}: vLLM makes its layers in another order"
                )
        missing = session.missing()
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            problems.append(f"vLLM's {type(model).__name__} has no layer for {missing[0]}{more}")
        session.open()
        self._handles = [
            model.register_forward_pre_hook(lambda module, args: self._begin(session)),
        ]
        if hasattr(
            runner, PROMPTS
        ):  # else the rows of scored prompts cannot be told apart, which is noted when they come
            setattr(runner, PROMPTS, functools.partial(self._score_prompts, session, getattr(runner, PROMPTS)))
        return problems

    def _begin(self, session: Any) -> None:
        """Tells the session of the forward that starts; a forward without requests (a warm-up) is none of ours."""
        runner = self.model_runner
        batch = runner.input_batch
        count = batch.num_reqs
        if count == 0 or not _is_real():
            session.end()
            return
        starts = runner.query_start_loc.np[: count + 1]
        scheduled = [
            (
                name,
                request_of(
                    runner.requests[name].sampling_params.extra_args,
                    KEY,
                    name,
                    runner.requests[name].prompt_token_ids or (),
                    session.default,
                ),
                int(batch.num_computed_tokens_cpu[place]),
                int(starts[place + 1] - starts[place]),
                int(batch.num_prompt_tokens[place]),
            )
            for place, name in enumerate(batch.req_ids[:count])
        ]
        if self._auditor is not None:
            self._auditor.begin(scheduled)
        session.begin(scheduled, runner.device)

    def _score_prompts(self, session: Any, honest: Any, hidden: Any, scheduled: dict[str, int], *more: Any) -> Any:
        """Runs what computes the logits of scored prompts, one request after the other, and tells the session which."""
        model = self.model_runner.model
        compute, parts = model.compute_logits, self._scored_parts(scheduled)

        def told(states: Any, *others: Any) -> Any:
            name, start, count = next(parts, ("of no request", 0, 0))
            if self._auditor is not None and count:
                request = session.request(name)
                self._auditor.scoring(request, start, count)
            with session.scoring(name, count):
                logits = compute(states, *others)
            self._keep(session, name, start, logits)
            return logits

        model.compute_logits = told
        try:
            return honest(hidden, scheduled, *more)
        finally:
            del model.compute_logits

    def _keep(self, session: Any, name: str, start: int, logits: Any) -> None:
        """Keeps what the request ``name`` asks for of its ``logits``, computed from its row ``start`` on."""
        request = self.model_runner.requests.get(name)
        given = None if request is None else (request.sampling_params.extra_args or {}).get(KEY, {}).get(FIELD)
        if given is None:
            return
        self._keeper = self._keeper or Keeper()
        asked = session.request(name)
        named = asked.item, asked.seed, asked.level, asked.error
        self._keeper.take(named, Wanted.from_json(given), start, logits)

    def robustness_kept(self) -> list[Any]:
        """Return what was kept of scored prompts since the last call, and forget it."""
        keeper, self._keeper = self._keeper, None
        return [] if keeper is None else keeper.drain()

    def _scored_parts(self, scheduled: dict[str, int]) -> Iterator[tuple[str, int, int]]:
        """(request, position of its first row, rows) in the order in which vLLM computes their logits: every token that
        is fed now but the last one of the prompt."""
        runner = self.model_runner
        for name in list(runner.num_prompt_logprobs):
            tokens = scheduled.get(name)
            if tokens is None:
                continue
            start = int(runner.requests[name].num_computed_tokens)
            count = min(tokens, len(runner.requests[name].prompt_token_ids) - 1 - start)
            if count > 0:
                yield name, start, count

    def robustness_reload(self) -> None:
        """Make ready for weights that are loaded anew into this engine, as a trainer does after every step.

        The head takes them again, and what was measured on the old ones counts no more: weights that are not quantized
        anew are missing from the next counts.
        """
        for module in self.model_runner.get_model().modules():
            open_for_loading = getattr(getattr(module, "quant_method", None), "open_for_loading", None)
            if open_for_loading is not None:
                open_for_loading(module)
        self.vllm_config.quant_config.session.forget_weights()

    def robustness_set(self, level: float | None, seed: int = 0, error: str | None = None) -> None:
        """Set level, noise seed and error model of every request that names none; ``None`` refuses such requests again.

        Their item is the digest of the prompt. The error model is written as in a noise specification.
        """
        session = self.vllm_config.quant_config.session
        session.default = None if level is None else Request("", seed, level, error)

    def robustness_drain(self, levels: list[float]) -> dict[str, Any]:
        """Return the ledger since the last call as lists of values, with the forwards there were; ``levels`` are those
        of the chunk."""
        session = self.vllm_config.quant_config.session
        session.end()
        counts = [list(asdict(count).values()) for count in session.drain(levels)]
        session.forget(list(self.model_runner.requests))
        return {
            "process": process_name(),
            "counts": counts,
            **asdict(session.take_work()),
            "problems": session.troubles(),
        }

    def robustness_audit(self, level: float, error: str, lot: int) -> None:
        """Start an independent count of products at PyTorch's dispatcher, of a batch with this error at this level."""
        from harness.integrations.vllm_plugin.auditor import EngineAuditor, Looked

        session = self.vllm_config.quant_config.session
        noise = session.payload.noise
        looked = Looked(level, parse_noise(error).error, noise.key == "shared", lot, noise.spans)
        sites = [site.name for site in session.payload.sites]
        self._auditor = EngineAuditor(session.handle, session.pieces, sites, looked)
        self._auditor.__enter__()

    def robustness_audited(self) -> dict[str, Any]:
        """End it and return what it saw."""
        auditor, self._auditor = self._auditor, None
        auditor.__exit__(None, None, None)
        report: dict[str, Any] = auditor.report()
        return report

    def robustness_detach(self) -> None:
        """Close the session and remove the hook."""
        for handle in getattr(self, "_handles", ()):
            handle.remove()
        wrapped = getattr(self.model_runner, PROMPTS, None)
        if isinstance(wrapped, functools.partial):
            setattr(self.model_runner, PROMPTS, wrapped.args[1])
        auditor, self._auditor = self._auditor, None
        if auditor is not None:  # its batch was broken off
            auditor.__exit__(None, None, None)
        session = getattr(self.vllm_config.quant_config, "_session", None)
        if session is not None:
            session.close()


def _same_module(planned: str, name: str) -> bool:
    """True where vLLM's module ``name`` computes transformers' module ``planned``; act_fn of one is that of the
    other."""
    return planned == name or (planned.rpartition(".")[0] == name.rpartition(".")[0] and planned.endswith("act_fn"))


def _is_real() -> bool:
    """False in warm-up forwards, which have no attention metadata."""
    from vllm.forward_context import get_forward_context, is_forward_context_available

    return is_forward_context_available() and bool(get_forward_context().attn_metadata)


def counts_of(rows: list[list[Any]]) -> list[SiteCount]:
    """Return the inverse of what :meth:`RobustnessWorker.robustness_drain` makes of counts."""
    names = [field.name for field in fields(SiteCount)]
    return [SiteCount(**dict(zip(names, row, strict=True))) for row in rows]
