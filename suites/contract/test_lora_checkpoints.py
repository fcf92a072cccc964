"""LoRA adapters made by peft on the shipped checkpoint: merged, unmerged and peft's own model are one and the same."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from harness.checkpoints.base_record import record_base
from harness.checkpoints.folder import fingerprint_settings, fingerprint_weights
from harness.checkpoints.merging import TOLERANCE
from harness.checkpoints.source import resolve
from harness.checkpoints.unmerged import attach
from harness.cli.main import main
from harness.evaluate.checkpoint import load_checkpoint
from harness.exceptions import CheckpointError
from harness.noise.planner import build_plan
from harness.noise.session import NoiseSession
from harness.spec import parse_noise

pytestmark = pytest.mark.contract

ITEMS = ("a", "b")
IDS = torch.arange(40).view(2, 20)
EVAL = ("--items", 6, "--noise-levels", "0,0.05", "--noise-seeds", 1, "--device", "cpu")


def train(base: Path, out: Path, targets: list[str], dtype: torch.dtype = torch.float32, **config: Any) -> Path:
    """An adapter with random factors, as peft saves it; the update of ``config["still"]`` stays 0."""
    still = config.pop("still", "nothing")
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    adapted = get_peft_model(model, LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": targets, **config}))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name and still not in name:
            parameter.data.normal_(0, 0.03)
    adapted.save_pretrained(out, save_embedding_layers=False)
    return out


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(cache))


@pytest.fixture(scope="module")
def adapter(shipped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = train(shipped, tmp_path_factory.mktemp("lora") / "adapter", ["q_proj", "o_proj", "down_proj"])
    record_base(folder, shipped)
    return folder


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=IDS).logits


def reference(base: Path, adapter: Path, **options: Any) -> Any:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, **options), adapter).eval()


def test_three_ways_to_the_same_logits(shipped: Path, adapter: Path) -> None:
    merged, unmerged = resolve(adapter), resolve(adapter, adapter="unmerged")
    expected, base = logits(reference(shipped, adapter)), logits(load_checkpoint(shipped).model)
    assert torch.equal(logits(load_checkpoint(unmerged).model), expected)
    assert torch.allclose(logits(load_checkpoint(merged).model), expected, atol=1e-4)
    assert float((base - expected).abs().max()) > 0.3
    assert merged.weights == fingerprint_weights(merged.folder) != unmerged.weights
    assert merged.settings == unmerged.settings == fingerprint_settings(shipped)
    assert merged.details["base"] == unmerged.details["base"]
    assert merged.details["base"]["recorded"] == fingerprint_weights(shipped)


def test_what_merging_did_is_noted(adapter: Path) -> None:
    merge = resolve(adapter).details["merge"]
    assert merge["dtype"] == "float32" and merge["changed"]["modules"] == 12
    assert 0.99 * merge["changed"]["elements"] < merge["changed"]["changed"] <= merge["changed"]["elements"]
    assert merge["difference"] < 1e-5 * merge["logit"] < TOLERANCE["float32"] * merge["logit"] < merge["effect"]


def test_a_merge_in_bfloat16_is_held_against_float32(shipped: Path, tmp_path: Path, caplog: Any) -> None:
    base = tmp_path / "base"
    load_checkpoint(shipped, "bfloat16").model.save_pretrained(base)
    for file in (*shipped.glob("token*"), *shipped.glob("*.jinja")):
        (base / file.name).write_bytes(file.read_bytes())
    adapter = train(base, tmp_path / "adapter", ["q_proj", "down_proj"], torch.bfloat16)
    merge = resolve(adapter).details["merge"]
    assert merge["dtype"] == "bfloat16" and "is nearer" not in caplog.text
    assert 1e-4 < merge["difference"] / merge["logit"] < TOLERANCE["bfloat16"]
    model = load_checkpoint(resolve(adapter, adapter="unmerged"), "bfloat16").model
    assert torch.equal(logits(model), logits(reference(base, adapter, dtype=torch.bfloat16)))
    faint = train(base, tmp_path / "faint", ["q_proj", "down_proj"], torch.bfloat16, lora_alpha=0.05)
    with caplog.at_level(logging.WARNING, "harness.checkpoints.merging"):
        resolve(faint)
    assert "--adapter unmerged is nearer" in caplog.text


def test_the_layout_of_gpt2(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=48, n_embd=32, n_layer=2, n_head=2, n_positions=32))
    model.save_pretrained(tmp_path / "base")
    adapter = train(tmp_path / "base", tmp_path / "adapter", ["c_attn", "c_fc"], fan_in_fan_out=True)
    ids = IDS % 48
    beside = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    attach(beside, adapter)
    with torch.no_grad():
        expected = reference(tmp_path / "base", adapter)(input_ids=ids).logits
        assert torch.equal(beside(input_ids=ids).logits, expected)
        merged = AutoModelForCausalLM.from_pretrained(resolve(adapter).folder).eval()
        assert torch.allclose(merged(input_ids=ids).logits, expected, atol=1e-5)
    paths = [site.name for site in build_plan(beside, parse_noise("relative_gaussian @ op:linear")).sites]
    assert paths == [site.name for site in build_plan(merged, parse_noise("relative_gaussian @ op:linear")).sites]


@pytest.mark.parametrize(
    "noise",
    ["op:linear", "profile:matmul", "op:linear,silu,rms_norm,add,mul", "op:linear exclude:lm_head layers:1-2"],
)
def test_sites_are_those_of_the_base(shipped: Path, adapter: Path, noise: str) -> None:
    spec = parse_noise(f"relative_gaussian @ {noise}")
    attention = "eager" if "profile" in noise else "sdpa"
    base = load_checkpoint(shipped, attention=attention).model
    beside = load_checkpoint(resolve(adapter, adapter="unmerged"), attention=attention).model
    expected, found = build_plan(base, spec), build_plan(beside, spec)
    assert found.sites == expected.sites
    more = {path: why for path, why in found.excluded.items() if path not in expected.excluded}
    assert set(found.uncovered) == set(expected.uncovered)
    assert len({path.partition(":")[0] for path in more}) == 2 * 12
    assert all(".lora_A" in path or ".lora_B" in path for path in more)
    if "layers" not in noise:
        assert set(more.values()) == {"part of an adapter that runs beside its linear: left alone"}


def test_draws_are_those_of_the_base_and_the_update_stays_exact(shipped: Path, adapter: Path) -> None:
    """In the first layer the input of q_proj is that of the base, so what its own product becomes is too."""
    spec = parse_noise("relative_gaussian @ op:linear layers:0")
    seen: dict[str, list[torch.Tensor]] = {}
    sources = {"base": resolve(shipped), "beside": resolve(adapter, adapter="unmerged"), "merged": resolve(adapter)}
    for name, source in sources.items():
        model = load_checkpoint(source).model
        query = model.model.layers[0].self_attn.q_proj
        with torch.no_grad(), NoiseSession(model, build_plan(model, spec)) as session:
            watched = query.register_forward_hook(
                lambda _, args, output, name=name: seen.update({name: [args[0], output.clone()]})
            )
            with session.batch(ITEMS, [0, 0], 0.05):
                model(input_ids=IDS)
            watched.remove()
        if name == "beside":
            x = seen[name][0]
            update = (query(x) - torch.nn.functional.linear(x, query.weight, query.bias)).detach()
    assert torch.equal(seen["base"][1], seen["beside"][1])
    assert not torch.equal(seen["merged"][1], seen["beside"][1])
    # merged, the noise scales with the update too: by 5 % of it, with the same draws
    extra = seen["merged"][1] - (seen["beside"][1] + update)
    ratio = float(extra.square().sum().sqrt() / update.square().sum().sqrt())
    assert 0.045 < ratio < 0.055


def cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def records(run: Path, level: float) -> dict[tuple[str, int], str]:
    with sqlite3.connect(run / "records.sqlite") as database:
        rows = database.execute("select item, seed, tokens from records where level = ?", (level,)).fetchall()
    return {(item, seed): tokens for item, seed, tokens in rows}


@pytest.fixture(scope="module")
def runs(adapter: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The adapter evaluated both ways through the command line."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(cache))
        for mode in ("merged", "unmerged"):
            assert cli("eval", adapter, "--adapter", mode, *EVAL, "--out", folder / mode) == 0
    return {mode: folder / mode for mode in ("merged", "unmerged")}


def test_both_runs_are_certified_and_agree_without_noise(runs: dict[str, Path], adapter: Path, shipped: Path) -> None:
    assert records(runs["merged"], 0.0) == records(runs["unmerged"], 0.0)
    manifests = {mode: json.loads((run / "manifest.json").read_text()) for mode, run in runs.items()}
    for mode, manifest in manifests.items():
        found = manifest["checkpoint"]
        assert (found["kind"], found["path"], found["adapter"]["mode"]) == ("lora", str(adapter), mode)
        assert found["base"]["path"] == str(shipped) and found["weights"] == manifest["identity"]["weights"]
    assert manifests["merged"]["plan"]["sites"] == manifests["unmerged"]["plan"]["sites"]
    merged, unmerged = (manifests[mode]["measurement_key"] for mode in ("merged", "unmerged"))
    assert {part for part in merged if merged[part] != unmerged[part]} == {"coverage"}  # no noise on the adapter's own
    assert "lora_A" in unmerged["coverage"] and unmerged["coverage"].startswith("29 sites, 98 %")
    assert manifests["merged"]["identity"]["weights"] != manifests["unmerged"]["identity"]["weights"]


@pytest.mark.parametrize("mode", ["merged", "unmerged"])
def test_a_run_can_be_replayed_and_not_taken_for_the_other(runs: dict[str, Path], adapter: Path, mode: str) -> None:
    item = next(iter(records(runs[mode], 0.0)))[0]
    assert cli("replay", runs[mode], "--item", item, "--level", 0.05, "--device", "cpu") == 0
    other = "merged" if mode == "unmerged" else "unmerged"
    assert cli("eval", adapter, "--adapter", other, *EVAL, "--out", runs[mode]) == 2


def test_an_adapter_is_gated_and_planned(
    runs: dict[str, Path], adapter: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.baselines.book.check_acceptable", lambda run: None)  # random weights are at the floor
    monkeypatch.setattr("harness.library.gate.announce", lambda *_, **__: None)  # where every verdict is foregone
    folder = ("--baselines-dir", tmp_path / "baselines")
    assert cli("baseline", "accept", runs["unmerged"], "--name", "lora", "--reason", "test", *folder) == 0
    given = (
        "--adapter",
        "unmerged",
        "--baseline",
        "lora",
        *folder,
        "--margin",
        0.9,
        "--force",
        "--out",
        tmp_path / "gated",
    )
    capsys.readouterr()
    code = cli("gate", adapter, *given, "--device", "cpu", "--json")
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["verdict"] != "INVALID", verdict["reasons"]
    assert code == verdict["exit_code"]
    assert cli("gate", runs["merged"], "--baseline", "lora", *folder, "--base", adapter) == 2
    capsys.readouterr()
    assert cli("gate", runs["merged"], "--baseline", "lora", *folder) == 4
    assert "coverage" in capsys.readouterr().out
    capsys.readouterr()
    assert cli("plan", adapter, "--adapter", "unmerged", "--device", "cpu", "--json") == 0
    (plan,) = json.loads(capsys.readouterr().out)["plans"]
    assert plan["sites"] == 29 and any("lora_A" in path for path in plan["excluded"])


def test_a_quantized_base_under_an_exact_adapter(adapter: Path, tmp_path: Path) -> None:
    given = ("--adapter", "unmerged", *EVAL, "--quantize", "weights=mxfp4,activations=mxfp8", "--max-new-tokens", 4)
    assert cli("eval", adapter, *given, "--out", tmp_path / "run") == 0
    parts = json.loads((tmp_path / "run" / "manifest.json").read_text())["quantization"]
    assert [len(part["sites"]) for part in parts] == [28, 28]


def test_exit_codes_of_what_does_not_fit(adapter: Path, shipped: Path, tmp_path: Path, capsys: Any) -> None:
    other = tmp_path / "other"
    model = AutoModelForCausalLM.from_pretrained(shipped)
    with torch.no_grad():
        model.model.norm.weight.add_(1e-3)
    model.save_pretrained(other)
    assert cli("eval", adapter, "--base", other, *EVAL, "--out", tmp_path / "run") == 4
    assert "the adapter records" in capsys.readouterr().err
    assert cli("eval", shipped, "--base", other, *EVAL, "--out", tmp_path / "run") == 2
    assert cli("plan", shipped, "--adapter", "unmerged") == 2
    assert not (tmp_path / "run").exists()


def test_an_adapter_that_was_not_trained_is_not_merged(shipped: Path, tmp_path: Path, refusal: Callable) -> None:
    adapter = train(shipped, tmp_path / "adapter", ["q_proj", "v_proj"], still="layers.2.self_attn.v_proj")
    line = refusal(resolve, adapter)
    assert "changed no element of model.layers.2.self_attn.v_proj in float32 (1 of 8 modules" in line
    assert resolve(adapter, adapter="unmerged").details["adapter"]["modules"] == 8


def test_a_wrong_merge_is_caught(
    shipped: Path, tmp_path: Path, refusal: Callable, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    from peft.tuners.lora.layer import Linear

    right = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, name: 1.01 * right(self, name))
    adapter = train(shipped, tmp_path / "adapter", ["q_proj"])
    before = {found.name for found in cache.iterdir() if found.is_dir()}
    assert "merged and unmerged logits differ by" in refusal(resolve, adapter)
    assert {found.name for found in cache.iterdir() if found.is_dir()} == before
    monkeypatch.undo()
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    assert resolve(adapter).kind == "lora"


def test_a_tied_head_is_only_adapted_unmerged(shipped: Path, tmp_path: Path, refusal: Callable) -> None:
    adapter = train(shipped, tmp_path / "adapter", ["lm_head"])
    assert "lm_head is tied to the embedding" in refusal(resolve, adapter)
    model = load_checkpoint(resolve(adapter, adapter="unmerged")).model
    assert torch.equal(logits(model), logits(reference(shipped, adapter)))


def test_without_peft_a_merge_is_refused_and_the_rest_works(
    shipped: Path, tmp_path: Path, refusal: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = train(shipped, tmp_path / "adapter", ["k_proj"])
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    assert "robustness-harness[lora]" in refusal(resolve, adapter)
    assert resolve(adapter, adapter="unmerged").adapter == adapter


@pytest.fixture
def refusal() -> Callable[..., str]:
    """The single line that ``call(*arguments)`` is refused with."""

    def refused(call: Callable[..., Any], *arguments: Any) -> str:
        with pytest.raises(Exception) as caught:
            call(*arguments)
        assert getattr(caught.value, "exit_code", None) == 2, caught.value
        assert isinstance(caught.value, CheckpointError) or "peft" in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refused
