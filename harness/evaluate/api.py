"""One call from a checkpoint to a stored run, or to one for each of several tasks.

Behind ``harness eval``, ``harness gate`` and the pytest plugin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.checkpoints.source import AnyCheckpoint, as_source, here
from harness.engines.protocol import EngineContext
from harness.evaluate.checkpoint import Checkpoint
from harness.evaluate.cost import cost_line
from harness.evaluate.early import EarlyStopping
from harness.evaluate.opening import engine_of
from harness.evaluate.prepared import Prepared, prepare
from harness.evaluate.run import evaluate as run_prepared
from harness.evaluate.run import whole
from harness.evaluate.tasks import load_task
from harness.noise import environment
from harness.progress import Silent, Watcher
from harness.runs.loaded import Run, load_run
from harness.runs.several import begin_tasks, check_tasks
from harness.spec import EngineOptions, EvalSpec

STAGE = "records"


def evaluate(
    checkpoint: AnyCheckpoint | str,
    spec: EvalSpec,
    out: Path | str,
    options: EngineOptions | None = None,
    device: str | None = None,
    early: EarlyStopping | None = None,
    watcher: Watcher | None = None,
) -> Run:
    """Evaluate ``checkpoint`` under ``spec`` into the run folder ``out``, or resume it, and return the stored run.

    ``options`` says how it is run; no result depends on that. ``device`` is ``"cpu"``, ``"cuda"``, ... (default: the
    accelerator, else the CPU). With ``early`` it may stop before all items are evaluated. ``watcher`` is told about
    cost and progress. A finished run is returned as it is.

    Raises :class:`harness.exceptions.HarnessError` for bad input, for a folder that holds another run, and in a
    process whose ``HARNESS_NOISE`` would perturb the clean arm too.
    """
    environment.refuse("an evaluation")
    options, watcher, out = options or EngineOptions(), watcher or Silent(), Path(out)
    named = here(Path(checkpoint) if isinstance(checkpoint, str) else checkpoint)
    prepared = prepare(named, spec, device, outline=options.workers > 1)
    return run_prepared_into(prepared, out, options, early, watcher, engine_of(prepared, options, device))


def run_prepared_into(
    prepared: Prepared,
    out: Path,
    options: EngineOptions,
    early: EarlyStopping | None,
    watcher: Watcher,
    engine: EngineContext,
    name: str = STAGE,
) -> Run:
    """Run what is missing of ``prepared`` into the run folder ``out`` with ``engine``, as :func:`evaluate` does, and
    return the stored run; the stage is called ``name``. What it costs is said unless a budget has said it."""
    if early is not None:
        prepared = early.ordered(prepared)
    parts = whole if early is None else early.parts
    advance = _told(watcher, prepared, options, lambda: early is not None and early.finished(load_run(out)), name)
    run_prepared(prepared, out, options.batch_size, advance, parts, engine, options.mixed_code)
    return load_run(out)


def evaluate_tasks(
    checkpoint: AnyCheckpoint | str,
    specs: Mapping[str, EvalSpec],
    out: Path | str | Mapping[str, Path],
    options: EngineOptions | None = None,
    device: str | None = None,
    watcher: Watcher | None = None,
) -> dict[str, Run]:
    """Evaluate ``checkpoint`` on several tasks, ``specs`` (task -> specification), and return task -> its stored run.

    The model is loaded once for all that ask for the same (dtype, attention, engine, quantization). ``out`` is a folder
    that gets one run folder for each task and a list of them, or says where each run goes. Everything is checked before
    anything runs or is written; the same call resumes, task by task. The rest is as in :func:`evaluate`.
    """
    environment.refuse("an evaluation")
    options, watcher, tasks = options or EngineOptions(), watcher or Silent(), tuple(specs)
    if not isinstance(out, Mapping):
        check_tasks(Path(out), tasks)
    for spec in specs.values():
        load_task(spec.task, None if spec.data is None else Path(spec.data)).items()  # before a model is loaded
    source = as_source(Path(checkpoint) if isinstance(checkpoint, str) else checkpoint)
    loaded: dict[tuple[Any, ...], Checkpoint] = {}
    prepared: dict[str, Prepared] = {}
    for task, spec in specs.items():
        model = spec.dtype, spec.attention, spec.engine, spec.noise, spec.quantization
        found = prepare(source, spec, device, outline=options.workers > 1, loaded=loaded.get(model))
        prepared[task] = found
        loaded.setdefault(model, found.checkpoint)
    folders = out if isinstance(out, Mapping) else begin_tasks(Path(out), tasks)
    for task, found in prepared.items():
        engine = engine_of(found, options, device)
        run_prepared_into(found, folders[task], options, None, watcher, engine, f"{task}: {STAGE}")
    return {task: load_run(folders[task]) for task in tasks}


def _told(
    watcher: Watcher, prepared: Prepared, options: EngineOptions, stopped: Callable[[], bool], name: str = STAGE
) -> Callable[[int], None]:
    """Return what tells ``watcher`` of the records there already, then of those of every batch.

    The cost is said once the run folder is known to be good, and only where something is left to do.
    """
    begun = False

    def advance(count: int) -> None:
        nonlocal begun
        if begun:
            watcher.advance(count)
            return
        begun, total = True, prepared.draws
        if count < total and prepared.budget is None and not stopped():
            watcher.cost(cost_line(prepared, total - count, options))
        watcher.stage(name, total, count)

    return advance
