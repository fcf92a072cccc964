"""The checks of a recipe before anything starts: one small function each, named after the failure that it prevents.

A check returns an empty text where the failure cannot happen, a sentence where it would, and raises
:class:`NotChecked` where this machine cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from harness.checkpoints.there import resembling
from harness.exceptions import HarnessError
from harness.training.book import resolved
from harness.training.estimate import memory_gib, saved_steps, validated_steps
from harness.training.injection import ROLLOUT, VALIDATION
from harness.training.machine import MachineState
from harness.training.recipe import Recipe
from harness.training.render import Place
from harness.training.sections import CPU, CUDA, LORA, MEGATRON
from harness.training.sizes import Sizes

PASSED, REFUSED, OPEN = "ok", "refused", "not checked"
COLUMNS = ("data_source", "prompt", "reward_model")
"""What verl's data set and reward manager read of every row."""

GENERATED = ("arith",)
"""Tasks whose data the harness writes itself."""

HEADS = {CPU: (32, 64, 80, 96, 112, 128, 160, 192, 224, 256), CUDA: (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)}
ADAPTER_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
SHARED_GIB = {CPU: 0.5, CUDA: 4.0}
"""Free in /dev/shm: Ray's store of objects and the buckets in which weights travel."""

UNREACHED = ("matmul", "bmm", "einsum", "softmax", "gelu", "layer_norm")
"""Operators that vLLM runs inside fused kernels, or not at all."""

SOCKET_PATH = 107
_RAY_TAIL = len("/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")


class NotChecked(Exception):
    """This machine cannot tell; the text says why."""


@dataclass(frozen=True)
class Flight:
    """A recipe about to start: its model's sizes, where it will lie, and the machine. ``resumed`` goes on a run."""

    recipe: Recipe
    sizes: Sizes
    place: Place
    machine: MachineState
    resumed: bool = False


@dataclass(frozen=True)
class Finding:
    """What one check found: ``state`` is ok, refused or not checked."""

    check: str
    state: str
    words: str = ""


Check = Callable[[Flight], str]


def aqn_schedule_off(flight: Flight) -> str:
    """Refuse a schedule or multipliers that AQN cannot meet (sigma silently 0 or nan in the sources)."""
    try:
        flight.recipe.aqn_config(flight.sizes.layers)
    except HarnessError as error:
        return str(error)
    return ""


def last_step_not_validated(flight: Flight) -> str:
    """Refuse a run that would end without a validation of what it ends with."""
    steps = validated_steps(flight.recipe)
    if steps and steps[-1] == flight.recipe.total_steps:
        return ""
    return f"validate_every {flight.recipe.run.validate_every} never validates the last step; give a number of steps"


def checkpoint_not_saved(flight: Flight) -> str:
    """Refuse a run whose last weights are lost."""
    steps = saved_steps(flight.recipe)
    if steps and steps[-1] == flight.recipe.total_steps:
        return ""
    return f"save_every {flight.recipe.run.save_every} never saves the last step; give a number of steps"


def results_overwritten(flight: Flight) -> str:
    """Refuse an output folder that holds something, unless a run is resumed."""
    folder = flight.place.folder
    if flight.resumed:
        return "" if folder.is_dir() else f"{folder} does not exist, so nothing can be resumed; use run"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        return f"{folder} exists; a run id is used once: name another, or resume it"
    return ""


def model_missing(flight: Flight) -> str:
    """Refuse a model that is not there."""
    path = flight.recipe.model.path
    found = resolved(path)
    if found is not None:
        return "" if (found / "config.json").is_file() else f"model {path} holds no config.json; give a whole model"
    if flight.recipe.machine.platform == CUDA and "/" in path and not path.startswith((".", "/", "~")):
        raise NotChecked(f"{path} is a name of the hub; --model says where it lies here")
    return f"model {path} is not here; {resembling(Path(path)) or 'give --model FOLDER'}"


def data_without_columns(flight: Flight) -> str:
    """Refuse data files that are missing, or lack what verl and the reward read."""
    data = flight.recipe.data
    if data.task in GENERATED and not (data.train_files or data.validation_files):
        return ""
    if not (data.train_files and data.validation_files):
        if flight.recipe.machine.platform == CUDA and not (data.train_files or data.validation_files):
            raise NotChecked("no data files; give --train-data and --validation-data")
        return "data.train_files and data.validation_files go together; give both"
    for name in (data.train_files, data.validation_files):
        file = resolved(name)
        if file is None:
            return f"data file {name} is not here; check the path"
        if file.is_dir():
            return f"data file {name} is a folder; name the Parquet file in it"
        words = _columns(file)
        if words:
            return words
    return ""


def data_shorter_than_planned(flight: Flight) -> str:
    """Refuse a training file with fewer rows than the recipe counts its steps by."""
    name = flight.recipe.data.train_files
    file = resolved(name) if name else None
    if file is None or file.suffix != ".parquet":
        return ""
    from pyarrow import ArrowException, parquet

    try:
        rows = parquet.read_metadata(file).num_rows
    except (ArrowException, OSError):
        return ""  # data_without_columns says it
    planned = flight.recipe.data.train_items
    return "" if rows >= planned else f"{name} has {rows} rows and data.train_items is {planned}; correct either"


def validation_not_judged(flight: Flight) -> str:
    """Refuse so few validation items that the actor could judge none of their answers, which it takes in whole
    micro-batches: nothing would prove that rollout and actor agree there."""
    recipe = flight.recipe
    needed = recipe.optimizer.micro_batch * recipe.machine.devices * recipe.machine.nodes
    if not recipe.validates_alike or recipe.data.validation_items >= needed:
        return ""
    return f"data.validation_items is {recipe.data.validation_items}, the actor judges {needed} at once; take as many"


def head_size_not_supported(flight: Flight) -> str:
    """Refuse a model that vLLM's attention cannot run."""
    size, known = flight.sizes.head_size, HEADS[flight.recipe.machine.platform]
    return "" if size in known else f"head size {size}: vLLM has {', '.join(map(str, known))}"


def answers_longer_than_context(flight: Flight) -> str:
    """Refuse prompts and answers that do not fit the positions of the model."""
    data = flight.recipe.data
    longest = data.max_prompt + data.max_response
    positions = flight.sizes.positions
    return "" if longest <= positions else f"{longest} tokens of prompt and answer; the model has {positions} positions"


def tensor_parallel_not_divisible(flight: Flight) -> str:
    """Refuse heads that tensor parallel ranks cannot share, and ranks that the machine has not."""
    parallel, machine = flight.recipe.model.tensor_parallel, flight.recipe.machine
    if flight.sizes.heads % parallel:
        return f"tensor_parallel {parallel} does not divide {flight.sizes.heads} heads"
    ranks = machine.devices * machine.nodes
    return "" if ranks % parallel == 0 else f"tensor_parallel {parallel} does not divide {ranks} devices"


def batch_not_divisible(flight: Flight) -> str:
    """Refuse batches that verl cannot spread over the devices."""
    recipe = flight.recipe
    ranks = recipe.machine.devices * recipe.machine.nodes
    answers = recipe.trained_prompts * recipe.algorithm.rollouts
    if answers % ranks:
        return f"{answers} answers a step cannot be spread over {ranks} devices"
    of_update = recipe.optimizer.mini_batch * recipe.algorithm.rollouts
    if of_update % ranks:
        return f"mini_batch {recipe.optimizer.mini_batch} x {recipe.algorithm.rollouts} answers on {ranks} devices"
    return ""


def adapter_rank_not_supported(flight: Flight) -> str:
    """Refuse a rank that vLLM's adapters do not have."""
    tuning = flight.recipe.tuning
    if tuning.kind != LORA or tuning.rank in ADAPTER_RANKS:
        return ""
    return f"tuning.rank {tuning.rank}: vLLM has {', '.join(map(str, ADAPTER_RANKS))}"


def noise_not_reached_in_rollout(flight: Flight) -> str:
    """Refuse operators in a rollout that vLLM runs inside fused kernels: the noise would be in the actor alone."""
    noise = flight.recipe.noise
    if noise is None or not {ROLLOUT, VALIDATION} & set(noise.passes):
        return ""
    spec = noise.spec_in(ROLLOUT if ROLLOUT in noise.passes else VALIDATION)
    hidden = [op for op in spec.asked_ops if op in UNREACHED] if spec is not None else []
    return f"op:{hidden[0]} in the rollout: vLLM runs it inside fused kernels; take op:linear" if hidden else ""


def actor_not_watched(flight: Flight) -> str:
    """Refuse an actor on Megatron: the plugin has its hands in FSDP's engine alone, so this one would stay clean, and
    nobody would report what it did."""
    if flight.recipe.model.engine != MEGATRON:
        return ""
    return 'model.engine megatron: the plugin perturbs and watches actors on FSDP alone; write engine = "fsdp2"'


def graphs_hide_noise(flight: Flight) -> str:
    """Refuse noise or quantization in rollouts under graphs, which replay what they captured."""
    recipe = flight.recipe
    noisy = recipe.quantization is not None or (recipe.noise is not None and recipe.noise.in_rollout)
    if noisy and not recipe.model.enforce_eager:
        return "model.enforce_eager is false and the rollout is perturbed; graphs replay what they captured: set it"
    return ""


def exclude_means_nothing(flight: Flight) -> str:
    """Refuse an exclude of a layer that the model has not: it would leave out nothing, without a word."""
    part, layers = flight.recipe.quantization, flight.sizes.layers
    for pattern in part.exclude if part is not None else ():
        words = pattern.split(".")
        numbers = [int(after) for word, after in pairwise(words) if word == "layers" and after.isdecimal()]
        if any(number >= layers for number in numbers):
            return f"quantization.exclude {pattern}: the model has layers 0 to {layers - 1}"
    return ""


def bypass_hides_metrics(flight: Flight) -> str:
    """Refuse verl's bypass mode: the trainer then returns before the metrics that prove on-policy rollouts."""
    if flight.recipe.algorithm.correction.get("bypass_mode") is True:
        return "algorithm.correction.bypass_mode skips rollout_corr/* and the probability differences; drop it"
    return ""


def no_free_port(flight: Flight) -> str:
    """Refuse a machine on which no port can be had: Ray and vLLM talk over ports."""
    return "" if flight.machine.ports else "no port can be had on 127.0.0.1; free some"


def shared_memory_too_small(flight: Flight) -> str:
    """Refuse a /dev/shm in which weights and objects do not fit."""
    if flight.recipe.machine.ray_address:
        raise NotChecked("the cluster has its own")
    needed = SHARED_GIB[flight.recipe.machine.platform]
    free = flight.machine.shared
    return "" if free >= needed else f"{free:.1f} GiB free in /dev/shm, {needed:g} are needed; remove stale segments"


def memory_too_small(flight: Flight) -> str:
    """Refuse a machine without the memory that a run takes."""
    recipe = flight.recipe
    if recipe.machine.platform != CPU:
        raise NotChecked("memory of accelerators shows when they start")
    needed = memory_gib(recipe, flight.sizes)
    free = flight.machine.memory
    return "" if free >= needed else f"{free:.1f} GiB of memory free, {needed:.1f} are needed; end other programs"


def ray_already_running(flight: Flight) -> str:
    """Refuse a machine with a Ray of this user: the run would join it without a word."""
    rays = flight.machine.rays
    if flight.recipe.machine.ray_address or not rays:
        return ""
    return f"Ray runs here already (process {rays[0]}); ray stop ends it, --ray-address joins it"


def ray_folder_too_long(flight: Flight) -> str:
    """Refuse a folder whose sockets would have names that the kernel does not take."""
    folder = flight.place.ray_folder
    if folder is None or len(str(folder)) + _RAY_TAIL <= SOCKET_PATH:
        return ""
    return f"Ray's folder {folder} is too long for its sockets ({SOCKET_PATH} characters); set TMPDIR to a short one"


def accelerators_missing(flight: Flight) -> str:
    """Say where a recipe of accelerators meets a machine without them."""
    machine = flight.recipe.machine
    if machine.platform == CPU or machine.ray_address or flight.machine.accelerators >= machine.devices:
        return ""
    raise NotChecked(f"{flight.machine.accelerators} accelerators here, {machine.devices} are asked for")


def nodes_without_cluster(flight: Flight) -> str:
    """Refuse several nodes where a Ray of its own is started, which has one: verl waits for the others for ever."""
    machine = flight.recipe.machine
    if machine.nodes == 1 or machine.ray_address:
        return ""
    return f"machine.nodes {machine.nodes} and no cluster; give --ray-address of the one that has them, or --nodes 1"


CHECKS: tuple[Check, ...] = (
    aqn_schedule_off,
    last_step_not_validated,
    checkpoint_not_saved,
    results_overwritten,
    model_missing,
    data_without_columns,
    data_shorter_than_planned,
    validation_not_judged,
    head_size_not_supported,
    answers_longer_than_context,
    tensor_parallel_not_divisible,
    batch_not_divisible,
    adapter_rank_not_supported,
    noise_not_reached_in_rollout,
    actor_not_watched,
    graphs_hide_noise,
    exclude_means_nothing,
    bypass_hides_metrics,
    no_free_port,
    shared_memory_too_small,
    memory_too_small,
    ray_already_running,
    ray_folder_too_long,
    accelerators_missing,
    nodes_without_cluster,
)


def preflight(flight: Flight) -> tuple[Finding, ...]:
    """Return what every check of :data:`CHECKS` found, in their order."""
    return tuple(_finding(check, flight) for check in CHECKS)


def refusals(findings: tuple[Finding, ...], starting: bool = False) -> tuple[Finding, ...]:
    """Return the findings that stand in the way; a run that is ``starting`` needs its model, data and devices too."""
    needed = (model_missing.__name__, data_without_columns.__name__, accelerators_missing.__name__)
    return tuple(
        each for each in findings if each.state == REFUSED or (starting and each.state == OPEN and each.check in needed)
    )


def refuse(recipe: Recipe, findings: tuple[Finding, ...], starting: bool = False) -> None:
    """Raise one :class:`HarnessError` that names the first refusal and how many there are."""
    found = refusals(findings, starting)
    if found:
        more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
        raise HarnessError(f"recipe {recipe.name} ({recipe.profile}): {found[0].check}: {found[0].words}{more}")


def _finding(check: Check, flight: Flight) -> Finding:
    try:
        words = check(flight)
    except NotChecked as reason:
        return Finding(check.__name__, OPEN, str(reason))
    return Finding(check.__name__, REFUSED if words else PASSED, words)


def _columns(file: Path) -> str:
    from pyarrow import ArrowException, parquet

    if file.suffix != ".parquet":
        return f"data file {file}: verl reads Parquet; convert it"
    try:
        names = parquet.read_schema(file).names
    except (ArrowException, OSError) as error:
        return f"data file {file}: {error}; give a whole Parquet file in verl's layout"
    missing = [name for name in COLUMNS if name not in names]
    return f"data file {file} has no column {missing[0]}; it has {', '.join(names)}" if missing else ""
