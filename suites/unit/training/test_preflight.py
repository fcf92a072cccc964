"""Every preflight check: passes on a sound recipe and a free machine, and names its failure where it is planted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from harness.exceptions import HarnessError
from harness.training.book import GPU, TINY, load_recipe
from harness.training.check import place_of
from harness.training.machine import MachineState, look_around
from harness.training.preflight import CHECKS, OPEN, PASSED, REFUSED, Finding, Flight, preflight, refusals, refuse
from harness.training.sizes import sizes_of

FREE = MachineState(memory=64, shared=8, ports=True, rays=(), accelerators=8, cores=2)
ROWS = {"data_source": ["gsm8k"] * 4, "prompt": ["x"] * 4, "reward_model": ["y"] * 4}


@pytest.fixture
def flight(tmp_path: Path) -> Callable[..., Flight]:
    def make(
        changes: Mapping[str, Any] | None = None,
        name: str = "E5b",
        profile: str = TINY,
        machine: MachineState = FREE,
        **other: Any,
    ) -> Flight:
        recipe = load_recipe(name, profile, changes)
        sizes = other.pop("sizes", None) or sizes_of(recipe)
        place = place_of(recipe, other.pop("folder", tmp_path / "run"), other.pop("ray_folder", None))
        return Flight(recipe, sizes, place, machine, **other)

    return make


def found(made: Flight) -> dict[str, Finding]:
    return {each.check: each for each in preflight(made)}


def refused(made: Flight) -> list[str]:
    return [each.check for each in refusals(preflight(made))]


@pytest.mark.parametrize("name", ["E5b", "E12-qerl", "E13h", "E3b-dapo", "E7a-7b"])
def test_a_sound_recipe_on_a_free_machine_passes_every_check(flight: Callable[..., Flight], name: str) -> None:
    assert {each.state for each in preflight(flight(name=name))} == {PASSED}


PLANTED: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("aqn_schedule_off", {"aqn": {"sigma_end": 0.0}}, "above 0"),
    ("aqn_schedule_off", {"aqn": {"epoch_aware": False, "num_stages": 2}}, "two are a warm-up"),
    ("aqn_schedule_off", {"aqn": {"multipliers": "targeted:14-17"}}, "the model has 4"),
    ("last_step_not_validated", {"run": {"validate_every": -1}}, "never validates the last step"),
    ("checkpoint_not_saved", {"run": {"save_every": -1}}, "never saves the last step"),
    ("model_missing", {"model": {"path": "nowhere/model"}}, "give --model"),
    ("data_without_columns", {"data": {"train_files": "a.parquet"}}, "go together"),
    ("validation_not_judged", {"data": {"validation_items": 7}}, "the actor judges 8 at once"),
    ("answers_longer_than_context", {"data": {"max_prompt": 4000}}, "4096 positions"),
    ("tensor_parallel_not_divisible", {"model": {"tensor_parallel": 3}}, "does not divide 4 heads"),
    ("batch_not_divisible", {"machine": {"devices": 3}}, "cannot be spread over 3"),
    ("adapter_rank_not_supported", {"tuning": {"kind": "lora", "rank": 12}}, "vLLM has 1, 8, 16"),
    ("noise_not_reached_in_rollout", {"noise": {"spec": "relative_gaussian(0.05) @ op:matmul"}}, "fused kernels"),
    ("actor_not_watched", {"model": {"engine": "megatron"}}, "on FSDP alone"),
    ("graphs_hide_noise", {"model": {"enforce_eager": False}}, "replay what they captured"),
    ("exclude_means_nothing", {"quantization": {"weights": "mxfp4", "exclude": ["layers.27"]}}, "layers 0 to 3"),
    ("bypass_hides_metrics", {"algorithm": {"correction": {"bypass_mode": True}}}, "skips rollout_corr"),
)


@pytest.mark.parametrize(("check", "changes", "words"), PLANTED, ids=[f"{row[0]}-{n}" for n, row in enumerate(PLANTED)])
def test_a_planted_failure_is_refused_by_name(
    flight: Callable[..., Flight], check: str, changes: dict[str, Any], words: str
) -> None:
    made = flight(changes)
    if check not in ("model_missing",):
        assert refused(made) == [check]
    finding = found(made)[check]
    assert finding.state == REFUSED and words in finding.words
    with pytest.raises(HarnessError, match=check) as caught:
        refuse(made.recipe, (finding,))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("check", "state"),
    [
        ("no_free_port", {"ports": False}),
        ("shared_memory_too_small", {"shared": 0.1}),
        ("memory_too_small", {"memory": 4.0}),
        ("ray_already_running", {"rays": (4711,)}),
    ],
)
def test_a_machine_that_lacks_something_is_refused(
    flight: Callable[..., Flight], check: str, state: dict[str, Any]
) -> None:
    assert refused(flight(machine=replace(FREE, **state))) == [check]


def test_a_cluster_that_is_named_may_run_already(flight: Callable[..., Flight]) -> None:
    joined = flight({"machine": {"ray_address": "head:6379"}}, machine=replace(FREE, rays=(1,), shared=0.0))
    assert refused(joined) == []


def test_a_used_folder_is_refused_and_resuming_needs_one(flight: Callable[..., Flight], tmp_path: Path) -> None:
    folder = tmp_path / "used"
    folder.mkdir()
    assert refused(flight(folder=folder)) == []
    (folder / "metrics.jsonl").write_text("{}")
    assert refused(flight(folder=folder)) == ["results_overwritten"]
    assert refused(flight(folder=folder, resumed=True)) == []
    assert refused(flight(folder=tmp_path / "absent", resumed=True)) == ["results_overwritten"]


def test_head_sizes_that_vllm_has_not(flight: Callable[..., Flight]) -> None:
    sizes = replace(sizes_of(load_recipe("E5b")), head_size=16)
    assert refused(flight(sizes=sizes)) == ["head_size_not_supported"]


def test_the_columns_and_rows_of_data_files(flight: Callable[..., Flight], tmp_path: Path) -> None:
    good, bare, text = tmp_path / "good.parquet", tmp_path / "bare.parquet", tmp_path / "data.jsonl"
    parquet.write_table(pyarrow.table(ROWS), good)
    parquet.write_table(pyarrow.table({"question": ["a"], "answer": ["b"]}), bare)
    text.write_text("{}\n")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(good.read_bytes()[:-9])

    def data(train: Path, items: int = 4) -> Flight:
        files = {"train_files": str(train), "validation_files": str(good), "train_items": items, "train_batch": 4}
        return flight({"data": files, "aqn": False})

    assert refused(data(good)) == []
    assert refused(data(good, 5)) == ["data_shorter_than_planned"]
    for file, words in (
        (bare, "no column data_source; it has question, answer"),
        (text, "Parquet"),
        (broken, "give a whole Parquet file"),
        (tmp_path / "absent.parquet", "not here"),
    ):
        finding = found(data(file))["data_without_columns"]
        assert finding.state == REFUSED and words in finding.words


def test_a_folder_too_long_for_sockets(flight: Callable[..., Flight]) -> None:
    assert refused(flight(ray_folder=Path("/tmp/r"))) == []
    assert refused(flight(ray_folder=Path("/tmp") / ("r" * 80))) == ["ray_folder_too_long"]


def test_what_this_machine_cannot_tell_stops_a_start_and_no_check(flight: Callable[..., Flight]) -> None:
    published = flight(profile=GPU, machine=replace(FREE, accelerators=0))
    states = {name: each.state for name, each in found(published).items()}
    assert {name for name, state in states.items() if state == OPEN} == {
        "model_missing",
        "data_without_columns",
        "memory_too_small",
        "accelerators_missing",
    }
    assert refused(published) == []
    assert {each.check for each in refusals(preflight(published), starting=True)} == {
        "model_missing",
        "data_without_columns",
        "accelerators_missing",
    }


def test_a_folder_that_is_no_model(flight: Callable[..., Flight], tmp_path: Path) -> None:
    finding = found(flight({"model": {"path": str(tmp_path)}}))["model_missing"]
    assert finding.state == REFUSED and "config.json" in finding.words


def test_several_nodes_need_a_cluster(flight: Callable[..., Flight]) -> None:
    alone = flight({"machine": {"nodes": 2}})
    assert "nodes_without_cluster" in refused(alone)
    assert "--ray-address" in found(alone)["nodes_without_cluster"].words
    joined = {"machine": {"nodes": 2, "ray_address": "10.0.0.1:6379"}}
    assert found(flight(joined))["nodes_without_cluster"].state == PASSED


def test_every_check_was_planted() -> None:
    elsewhere = {
        "no_free_port",
        "shared_memory_too_small",
        "memory_too_small",
        "ray_already_running",
        "results_overwritten",
        "head_size_not_supported",
        "data_shorter_than_planned",
        "ray_folder_too_long",
        "accelerators_missing",
        "nodes_without_cluster",
    }
    assert {each.__name__ for each in CHECKS} == {row[0] for row in PLANTED} | elsewhere


def test_the_machine_is_read() -> None:
    state = look_around()
    assert state.memory > 0 and state.cores >= 1 and state.ports


def test_a_misspelt_model_is_told(flight: Callable[..., Flight], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    finding = found(flight({"model": {"path": str(tmp_path / "mien")}}, sizes=sizes_of(load_recipe("E5b", TINY))))
    assert finding["model_missing"].words.endswith(f"did you mean {tmp_path / 'mine'}?")
