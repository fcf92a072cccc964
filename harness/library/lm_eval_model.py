"""The model ``harness`` of lm-evaluation-harness: every request of its tasks is answered under noise, with evidence.

Importing this registers it there, so that ``lm_eval.simple_evaluate(model="harness", ...)`` finds it; ``harness
lm-eval`` is lm-eval's own command line with it. Needs the extra ``lm-eval``; written against its version 0.4.13.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from harness.checkpoints.loading import load_tokenizer
from harness.checkpoints.source import as_source, here
from harness.exceptions import CheckpointError, HarnessError
from harness.library.lm_requests import Answers, Asking, Request, generations, loglikelihoods, rolling
from harness.noise.meta import load_config
from harness.record import CERTIFIED
from harness.spec import DEFAULT_BATCH, TEMPLATE_DATE, EngineOptions, EvalSpec, parse_noise, parse_quantization
from harness.text import brief, nearest

log = logging.getLogger(__name__)

SETTINGS = ("noise", "engine", "dtype", "attention", "quantize", "prefix_token", "levels", "noise_seeds")
OPTIONS = ("batch_size", "max_batch_size", "workers", "device")
"""What ``--model_args`` may hold beside ``pretrained``, ``out``, ``level`` and ``seed``, and what lm-eval adds."""

LM_EVALS_DEVICE = "cuda:0"
"""What lm-eval's command line gives where a user gives none, also on machines that have no such device."""


@register_model("harness")
class HarnessLM(LM):
    """The checkpoint ``pretrained`` at the noise ``level`` (fraction) under the noise seed ``seed``.

    Runs are stored below ``out``: one for each kind of request and its settings, with the clean level beside the noisy
    one. ``given`` are those of :data:`SETTINGS` (as ``harness eval`` has them) and :data:`OPTIONS`. A number is given
    to lm-eval only out of a run that is complete and certified; else the call raises
    :class:`harness.exceptions.EvidenceError`, and lm-eval has no result.
    """

    def __init__(self, pretrained: str, out: str, level: float = 0.0, seed: int = 0, **given: Any) -> None:
        super().__init__()
        known = (*SETTINGS, *OPTIONS)
        unknown = next((name for name in given if name not in known), None)
        if unknown is not None:
            raise HarnessError(f"--model_args {unknown}={given[unknown]}", nearest(unknown, known))
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            rule, way_out = "several processes would answer the same requests", "start one, and give workers=N"
            raise HarnessError(f"WORLD_SIZE={os.environ['WORLD_SIZE']}", rule, way_out)
        self._source = as_source(here(Path(pretrained)))
        at, draw = _number("level", level), _whole("seed", seed)
        options = EngineOptions(_batch(given.get("batch_size")), workers=_whole("workers", given.get("workers", 1)))
        device = None if given.get("device") in (None, LM_EVALS_DEVICE) else str(given["device"])
        self._asking = Asking(self._source, _spec(given, at, draw), Path(out), at, draw, options, device)
        self._runs: dict[Path, None] = {}
        self._notes: dict[str, None] = {}
        self._tokenizer: Any = None

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Return (nats, greedy) of each request, the same whatever the others are."""
        return self._answered(loglikelihoods, requests)

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Return the log-likelihood (nats) of each text."""
        return self._answered(rolling, requests)

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Return the text of each answer, greedy."""
        return self._answered(generations, requests)

    def _answered(self, how: Callable[[Asking, Sequence[Request]], Answers], requests: Sequence[Any]) -> list[Any]:
        found = how(self._asking, [Request(tuple(each.args), _document(each)) for each in requests])
        self._runs |= dict.fromkeys(found.runs)
        self._notes |= dict.fromkeys(found.notes)
        return list(found.values)

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Raise :class:`HarnessError`: answers out of a cache come from any model, at any level."""
        rule, way_out = "answers of a cache have no evidence", "leave it out: the runs below out are resumed, or read"
        raise HarnessError("--use_cache with the model harness", rule, way_out)

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer."""
        if self._tokenizer is None:
            rows = load_config(self._source.folder).get_text_config().vocab_size
            self._tokenizer = load_tokenizer(self._source.settings_folder, rows)
        return self._tokenizer

    @property
    def tokenizer_name(self) -> str:
        """A name for lm-eval's cache of prompts: the hash of the settings, the chat template among them."""
        return f"harness__{self._source.settings[:16]}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Return the checkpoint's own chat template. Raises :class:`HarnessError` for the name of another one."""
        if isinstance(chat_template, str):
            rule, way_out = "a checkpoint has one chat template here", "give --apply_chat_template without a name"
            raise HarnessError(f"--apply_chat_template {chat_template}", rule, way_out)
        return self.tokenizer.chat_template if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return the prompt of a chat; a template that asks for the date gets the same one every day.

        Raises :class:`CheckpointError` where it fails: no message is left out.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
                strftime_now=datetime.fromisoformat(TEMPLATE_DATE).strftime,
            )
        except Exception as error:  # a template is a program
            rule, way_out = f"its chat template fails ({brief(error)})", "correct it, or ask without it"
            raise CheckpointError(f"checkpoint {self._source.path}", rule, way_out) from None
        return str(text)

    def get_model_info(self) -> dict[str, Any]:
        """Return what lm-eval writes beside its results: under which noise they hold, and the folders that prove it."""
        spec = self._asking.spec
        return {
            "harness": {
                "weights": self._source.weights,
                "noise": str(spec.noise.at_level(self._asking.level)),
                "level": self._asking.level,
                "seed": self._asking.seed,
                "quantization": [str(each) for each in spec.quantization],
                "engine": spec.engine,
                "dtype": spec.dtype,
                "runs": [str(run) for run in self._runs],
                "notes": list(self._notes),
                "certificate": CERTIFIED if self._runs else "nothing was answered",
            }
        }


def run_lm_eval(arguments: Sequence[str]) -> None:
    """Run lm-eval's command line with ``arguments``. Raises SystemExit as it does, and :class:`HarnessError`."""
    from lm_eval.__main__ import cli_evaluate

    before = sys.argv
    sys.argv = ["lm-eval", *arguments]
    try:
        cli_evaluate()
    finally:
        sys.argv = before


def _document(instance: Any) -> tuple[str, int] | None:
    """What an instance belongs to, None where nothing says it."""
    task, number = getattr(instance, "task_name", None), getattr(instance, "doc_id", None)
    return None if task is None or number is None else (str(task), int(number))


def _spec(given: Mapping[str, Any], level: float, seed: int) -> EvalSpec:
    """The specification: level 0 beside the one that is asked for, and as many seeds as it takes."""
    levels = given.get("levels", (0.0, level) if level else (0.0,))
    if isinstance(levels, str | int | float):
        levels = [_number("levels", each) for each in str(levels).split("+")]
    settings: dict[str, Any] = {
        name: str(given[name]) for name in ("engine", "dtype", "attention", "prefix_token") if name in given
    }
    if "noise" in given:
        settings["noise"] = parse_noise(str(given["noise"]))
    if "quantize" in given:
        settings["quantization"] = parse_quantization(str(given["quantize"]))
    seeds = _whole("noise_seeds", given.get("noise_seeds", seed + 1))
    return EvalSpec("requests", items=None, levels=tuple(levels), noise_seeds=seeds, **settings)


def _batch(given: Any) -> int:
    """The batch size; lm-eval's ``auto`` is ours, on which no result depends."""
    return DEFAULT_BATCH if given is None or str(given).startswith("auto") else _whole("batch_size", given)


def _number(name: str, given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        raise HarnessError(f"--model_args {name}={given}", "it is a number", f"give for example {name}=0.05") from None


def _whole(name: str, given: Any) -> int:
    found = _number(name, given)
    if found != int(found) or found < 0:
        raise HarnessError(f"--model_args {name}={given}", "it is a whole number", f"give for example {name}=1")
    return int(found)
