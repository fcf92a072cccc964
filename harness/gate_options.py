"""One table of everything that a gate can be told: the command line and the pytest plugin both read it.

A row becomes ``--NAME`` of ``harness gate`` (or another verb) and ``--robustness-NAME`` of pytest, an argument ``NAME``
of the marker, a key of ``[tool.robustness]`` and an ini value ``robustness_NAME``. Standard library only: the plugin
reads this in every pytest run, also of projects that do not use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.exceptions import HarnessError
from harness.text import nearest
from harness.thresholds import MARGIN

TEXT, WHOLE, NUMBER, PATH, SWITCH, LEVELS = "text", "whole number", "number", "path", "switch", "levels"
EITHER = "true or false"
"""Kinds of values. A path is relative to where it was written; levels are fractions, one text or a list. A switch is
off unless it is given; where either may be given, a third thing holds without."""

COMMAND_LINE_ONLY, PYTEST_ONLY, BOTH = "command line", "pytest", "both"


@dataclass(frozen=True)
class GateOption:
    """One row. ``name`` is spelt with ``-``, as after ``--``.

    ``default`` is what a verb that runs without a baseline takes; None where nothing is built in. ``where`` says who
    has the option. What the command line alone has names in ``instead`` what pytest has for it. ``session`` options
    hold for a whole pytest run and are no arguments of the marker. ``file`` values are files or folders where one of
    that name exists.
    """

    name: str
    kind: str
    help: str
    metavar: str | None = None
    default: Any = None
    where: str = BOTH
    instead: str = ""
    session: bool = False
    file: bool = False

    @property
    def key(self) -> str:
        """The name as an identifier: of the marker's argument, of the key in a file, of the value in the program."""
        return self.name.replace("-", "_")

    def read(self, value: Any, source: str) -> Any:
        """Return ``value`` (a text, or what TOML or Python gave) as a value of this row.

        Raises :class:`HarnessError` that names ``source``, such as ``[tool.robustness] margin``.
        """
        try:
            return _READERS[self.kind](value)
        except (TypeError, ValueError):
            raise HarnessError(f"{source} = {value!r}", f"it is a {self.kind}", _EXAMPLES[self.kind]) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _path(value: Any) -> Path:
    return Path(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool | float):
        raise TypeError(value)
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError(value)
    return float(value)


def _switch(value: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in words:
        raise ValueError(value)
    return words[value.lower()]


def _levels(value: Any) -> str:
    """The text of a list of fractions; a text is parsed later, by the rules of the error model."""
    if isinstance(value, str):
        return value
    return ",".join(repr(_number(level)) for level in value)


_READERS: dict[str, Callable[[Any], Any]] = {
    TEXT: _text,
    PATH: _path,
    WHOLE: _whole,
    NUMBER: _number,
    SWITCH: _switch,
    LEVELS: _levels,
    EITHER: _switch,
}
_EXAMPLES = {
    TEXT: "write a word in quotes",
    PATH: "write a path in quotes",
    WHOLE: "write for example 5",
    NUMBER: "write for example 0.03",
    SWITCH: "write true or false",
    LEVELS: "write for example [0, 0.05]",
    EITHER: "write true or false",
}

GATE_OPTIONS: tuple[GateOption, ...] = (
    GateOption(
        "checkpoint", PATH, "Checkpoint (a folder, or org/name on a hub), or a finished run.", "PATH", where=PYTEST_ONLY
    ),
    GateOption("baseline", TEXT, "Name under --baselines-dir, or a file.", "NAME", file=True),
    GateOption("baselines-dir", PATH, "Folder of the baselines.", "DIR", "baselines"),
    GateOption("margin", NUMBER, f"Accepted drop at every level (fraction).  [default: {MARGIN:g}]", "FRACTION"),
    GateOption("nats-margin", NUMBER, "Accepted loss of log-likelihood, of task perplexity (nats a token).", "NATS"),
    GateOption(
        "kl-margin",
        NUMBER,
        "Accepted mean divergence of the distributions too, nats a token.",
        "NATS",
        where=COMMAND_LINE_ONLY,
        instead="harness gate RUN, or harness divergence gate",
    ),
    GateOption(
        "divergences",
        PATH,
        "The --out of divergence record; default: NAME.divergences beside the baseline.",
        "DIR",
        where=COMMAND_LINE_ONLY,
        instead="harness gate RUN, or harness divergence gate",
    ),
    GateOption("policy", PATH, "TOML file with a table [policy] instead.", "FILE"),
    GateOption("force", SWITCH, "Allow a margin above 0.5."),
    GateOption("min-retention", NUMBER, "Least accepted accuracy under noise / clean accuracy.", "FRACTION"),
    GateOption(
        "early-stop",
        NUMBER,
        "Stop once every level is decided, on this share of alpha: 0.5. Items come in random order.",
        "SHARE",
    ),
    GateOption("across", TEXT, "Compare along this axis: quantization, dtype, attention, engine, noise.", "AXIS"),
    GateOption(
        "quantize",
        TEXT,
        "weights=mxfp4, activations=nvfp4, or both; on at every level. Or fake_quant specifications.",
        "PART=FORMAT,...",
    ),
    GateOption("base", PATH, "Base checkpoint of a LoRA adapter; default: its config's.", "PATH"),
    GateOption("adapter", TEXT, "A LoRA adapter's weights: merged, unmerged.", "MODE", "merged"),
    GateOption("data", TEXT, "JSONL or Parquet of the task's items; for blimp also a folder.", "FILE", file=True),
    GateOption("fewshot", WHOLE, "Examples before each question.  [default: 0]", "N"),
    GateOption(
        "fewshot-data", TEXT, "Take the examples from this file, not from the task's own items.", "FILE", file=True
    ),
    GateOption("system", TEXT, "System message before each question.", "TEXT"),
    GateOption(
        "apply-chat-template",
        EITHER,
        "Whether the checkpoint's chat template is used; default: as the task says (yes).",
    ),
    GateOption("engine", TEXT, "What runs the model; harness doctor lists the engines.", "ENGINE", "transformers"),
    GateOption("dtype", TEXT, "float32, bfloat16, float16.", "DTYPE", "float32"),
    GateOption("attention", TEXT, "auto, eager, sdpa.", "KIND", "auto"),
    GateOption("batch-size", WHOLE, "Sequences per batch.", "N", 64),
    GateOption("workers", WHOLE, "Engines that share the items, over Ray.", "N", 1),
    GateOption("timeout", NUMBER, "Seconds to wait for an engine's answer.", "SECONDS", 1800.0),
    GateOption("device", TEXT, "cpu, cuda, ...; default: the accelerator, else cpu.", "DEVICE"),
    GateOption("allow-mixed-code", SWITCH, "Resume a run that other code began; every report says so.", default=False),
    # What an evaluation takes from its baseline on the command line, and a user's own suite may say by itself
    GateOption(
        "task",
        TEXT,
        "arith, gsm8k, svamp, blimp, choice, cloze, answers, perplexity, requests",
        "TASK",
        "arith",
        PYTEST_ONLY,
    ),
    GateOption("items", WHOLE, "Items, chosen in a seeded order.", "N", 200),
    GateOption("item-seed", WHOLE, "Seed of the choice of items.", "N", 0, PYTEST_ONLY),
    GateOption("noise", TEXT, "Noise specification, or a .toml file with one.", "SPEC", None, PYTEST_ONLY, file=True),
    GateOption("noise-levels", LEVELS, "Fractions, 0 among them.  [default: 0,0.05,0.1]", "L,L,...", None, PYTEST_ONLY),
    GateOption("noise-seeds", WHOLE, "Noise seeds per level above 0.", "N", 5),
    GateOption(
        "temperature",
        NUMBER,
        "Sample answers at this temperature, by keyed draws.  [default: 0, greedy]",
        "T",
        None,
        PYTEST_ONLY,
    ),
    GateOption(
        "top-p", NUMBER, "Sample from the likeliest tokens of this share.  [default: 1]", "P", None, PYTEST_ONLY
    ),
    GateOption(
        "samples",
        WHOLE,
        "Sampled answers to an item at every level; stands for --noise-seeds.",
        "N",
        None,
        PYTEST_ONLY,
    ),
    GateOption(
        "scorer",
        TEXT,
        "strict, flexible, choice, choice_norm, pair, greedy, perplexity, unscored; default: the task's own.",
        "SCORER",
        None,
        PYTEST_ONLY,
    ),
    GateOption("max-new-tokens", WHOLE, "Longest answer; default: the task's own.", "N", None, PYTEST_ONLY),
    GateOption(
        "template-date",
        TEXT,
        "Day that a chat template is told, if it asks.  [default: 2024-07-26]",
        "YYYY-MM-DD",
        None,
        PYTEST_ONLY,
    ),
    GateOption(
        "prefix-token",
        TEXT,
        "What stands for an empty context where log-likelihoods are scored: the text or the number of a token.",
        "TOKEN",
        None,
        PYTEST_ONLY,
    ),
    GateOption("dir", PATH, "Where runs are kept and resumed.", "DIR", ".robustness", PYTEST_ONLY, session=True),
    GateOption(
        "report", PATH, "Folder for robustness.md, .json and .xml (JUnit).", "DIR", None, PYTEST_ONLY, session=True
    ),
    # What has another form in pytest
    GateOption(
        "out", PATH, "Run folder of a checkpoint's evaluation.", "DIR", None, COMMAND_LINE_ONLY, "--robustness-dir"
    ),
    GateOption(
        "budget",
        NUMBER,
        "Seconds of wall time for which items and noise seeds are planned.",
        "SECONDS",
        None,
        COMMAND_LINE_ONLY,
        "--robustness-items and --robustness-noise-seeds",
    ),
    GateOption(
        "from-records",
        SWITCH,
        "Recompute a run's verdict and compare it with the stored one.",
        where=COMMAND_LINE_ONLY,
        instead="--robustness-checkpoint=RUN",
    ),
    GateOption(
        "verbose", SWITCH, "Log every batch.", where=COMMAND_LINE_ONLY, instead="--log-cli-level=DEBUG of pytest"
    ),
    GateOption(
        "json",
        SWITCH,
        "One JSON object on standard output.",
        where=COMMAND_LINE_ONLY,
        instead="--robustness-report=DIR",
    ),
)


def row(name: str) -> GateOption:
    """Return the row called ``name``, spelt with ``-`` or ``_``. Raises :class:`HarnessError` with the nearest name."""
    found = next((each for each in GATE_OPTIONS if each.key == name.replace("-", "_")), None)
    if found is None:
        raise unknown(f"option {name!r}", name, names())
    return found


def unknown(value: str, name: str, known: Iterable[str]) -> HarnessError:
    """Return the error for ``name``, which is none of ``known``; it names the nearest."""
    return HarnessError(value, "there is none of this name", nearest(name, known))


def in_pytest() -> tuple[GateOption, ...]:
    """Return the rows that the plugin has."""
    return tuple(each for each in GATE_OPTIONS if each.where != COMMAND_LINE_ONLY)


def of_marker() -> tuple[GateOption, ...]:
    """Return the rows that are arguments of ``@pytest.mark.robustness``."""
    return tuple(each for each in in_pytest() if not each.session)


def names(rows: Iterable[GateOption] = GATE_OPTIONS) -> tuple[str, ...]:
    """Return the keys of ``rows``."""
    return tuple(each.key for each in rows)
