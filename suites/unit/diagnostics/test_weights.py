"""Scanning weights from files: every architecture, dtype and sharding gives what the loaded weights give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2Model

from harness.diagnostics.scan_result import OUTSIDE, ModuleScan, ScanResult
from harness.diagnostics.scan_run import scan
from harness.diagnostics.scan_spec import ScanSpec, parse_recipes
from harness.diagnostics.weight_roles import find_places, group_of, matrices
from harness.diagnostics.weights import UNMATCHED, open_source
from harness.evaluate.checkpoint import fingerprint_weights
from harness.exceptions import CheckpointError, HarnessError
from harness.numerics.quant_measure import measure_quantization
from suites.unit.diagnostics.scan_models import build, save

pytestmark = pytest.mark.long

RECIPES = parse_recipes("mxfp4", "floor")
LINEARS = {"qwen2": 14, "gpt2": 8, "bert": 13, "t5": 32, "vit": 13, "mixtral": 8 + 12, "gpt_oss": 8 + 4}


def scanned(folder: Path, formats: str = "mxfp4", **changes: object) -> ScanResult:
    return scan(ScanSpec(folder, parse_recipes(formats, "floor"), **changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: save(build(kind), root / kind) for kind in LINEARS}


@pytest.mark.parametrize("kind", LINEARS)
def test_every_architecture_is_scanned_as_its_loaded_weights_would_be(folders: dict[str, Path], kind: str) -> None:
    result = scanned(folders[kind])
    assert len(result.modules) == LINEARS[kind]
    assert UNMATCHED not in result.excluded.values()
    assert result.checkpoint["weights"] == fingerprint_weights(folders[kind])
    parameters = dict(build(kind).named_parameters())
    compared = 0
    for module in result.modules:
        weight = parameters.get(f"{module.module}.weight", parameters.get(module.module))
        if weight is None or weight.ndim != 2:
            continue
        matrix = weight.t() if kind == "gpt2" else weight
        assert module.error == measure_quantization(matrix.detach(), RECIPES[0])
        compared += 1
    assert compared >= 8


def test_experts_are_scanned_one_by_one_along_their_inputs(folders: dict[str, Path]) -> None:
    stored = load_file(folders["mixtral"] / "model.safetensors")
    modules = {module.module: module for module in scanned(folders["mixtral"]).modules}
    name = "model.layers.1.block_sparse_moe.experts.0.w2"
    assert modules[name].error == measure_quantization(stored[f"{name}.weight"], RECIPES[0])
    assert modules[name].group == "model.layers.1"
    experts = load_file(folders["gpt_oss"] / "model.safetensors")["model.layers.0.mlp.experts.gate_up_proj"]
    fused = {module.module: module for module in scanned(folders["gpt_oss"]).modules}
    found = fused["model.layers.0.mlp.experts.gate_up_proj"]
    turned = torch.cat([expert.t() for expert in experts])  # stored (experts, in, out)
    assert found.error == measure_quantization(turned, RECIPES[0])
    assert found.shape == tuple(experts.shape)


def test_a_prefix_may_be_there_or_not(tmp_path: Path, folders: dict[str, Path]) -> None:
    whole = scanned(folders["qwen2"])
    tensors = load_file(folders["qwen2"] / "model.safetensors")
    bare = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
    config = json.loads((folders["qwen2"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(bare, tmp_path / "model.safetensors", {"format": "pt"})
    assert [module.to_json() for module in scanned(tmp_path).modules] == [m.to_json() for m in whole.modules]
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": [Qwen2Model.__name__]}))
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    found = scanned(tmp_path)
    assert [module.error for module in found.modules] == [module.error for module in whole.modules]
    assert found.excluded["lm_head.weight"] == UNMATCHED
    assert {module.group for module in found.modules} == {"layers.0", "layers.1"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_every_dtype_and_sharding(tmp_path: Path, dtype: torch.dtype) -> None:
    model = build("qwen2", dtype)
    one, many = save(model, tmp_path / "one"), save(model, tmp_path / "many", "16KB")
    assert len(list(many.glob("*.safetensors"))) > 2
    first, second = scanned(one), scanned(many)
    assert first.checkpoint["weights"] == second.checkpoint["weights"] == fingerprint_weights(many)
    assert first.modules == second.modules
    weight = model.get_parameter("model.layers.0.mlp.up_proj.weight").detach()
    module = next(each for each in first.modules if each.module == "model.layers.0.mlp.up_proj")
    assert module.error == measure_quantization(weight, RECIPES[0])
    assert module.dtype == str(dtype).removeprefix("torch.")


def test_nan_and_infinity_are_counted(tmp_path: Path, folders: dict[str, Path]) -> None:
    tensors = load_file(save(build("qwen2"), tmp_path) / "model.safetensors")
    name = "model.layers.1.self_attn.q_proj.weight"
    tensors[name][0, 0], tensors[name][3, 5] = float("nan"), float("inf")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    result = scanned(tmp_path)
    found = next(module for module in result.modules if f"{module.module}.weight" == name)
    assert (found.nonfinite, found.error.bad_blocks, found.error.spoiled) == (2, 2, 64)
    assert result.checkpoint["weights"] != scanned(folders["qwen2"]).checkpoint["weights"]
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))


def test_what_is_left_out_has_a_reason_and_can_be_brought_in(folders: dict[str, Path]) -> None:
    result = scanned(folders["mixtral"])
    reasons = result.excluded
    assert reasons["lm_head.weight"] == "output head"
    assert reasons["model.embed_tokens.weight"] == "embedding"
    assert reasons["model.norm.weight"] == "norm"
    assert reasons["model.layers.0.block_sparse_moe.gate.weight"].startswith("router")
    brought = scanned(folders["mixtral"], include=("lm_head", "gate"))
    names = {module.module for module in brought.modules} - {module.module for module in result.modules}
    assert names == {"lm_head", "model.layers.0.mlp.gate", "model.layers.1.mlp.gate"}
    assert next(module for module in brought.modules if module.module == "lm_head").group == OUTSIDE
    with pytest.raises(HarnessError, match="matches nothing"):
        scanned(folders["mixtral"], include=("lm_hat",))


def test_a_tied_head_is_brought_in_by_either_name(folders: dict[str, Path]) -> None:
    for name in ("lm_head", "wte"):
        extra = [m for m in scanned(folders["gpt2"], include=(name,)).modules if m.group == OUTSIDE]
        assert [module.module.rpartition(".")[2] for module in extra] == [name]
        assert extra[0].shape == (64, 32)


@pytest.mark.parametrize("damage", ["truncated", "missing shard", "no weights", "no linear", "fp8", "twice"])
def test_damaged_checkpoints_are_one_line(tmp_path: Path, damage: str, refusal) -> None:
    model = build("qwen2")
    folder = save(model, tmp_path / "c", "16KB" if damage in ("missing shard", "twice") else "50GB")
    file = sorted(folder.glob("*.safetensors"))[0]
    tensors = load_file(file)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-10])
    elif damage in ("missing shard", "no weights"):
        file.unlink()
    elif damage == "no linear":
        save_file({"stranger": torch.ones(3)}, file, {"format": "pt"})
    elif damage == "fp8":
        name = "model.layers.0.mlp.up_proj.weight"
        save_file(tensors | {name: tensors[name].to(torch.float8_e4m3fn)}, file, {"format": "pt"})
    else:
        other = sorted(folder.glob("*.safetensors"))[1]
        save_file({**load_file(other), **tensors}, other, {"format": "pt"})
    said = {
        "truncated": "truncated or not safetensors",
        "missing shard": "is missing",
        "no weights": "it has a config but no weights",
        "no linear": "is the weight of a linear",
        "fp8": "stored as torch.float8_e4m3fn",
        "twice": "is in model-",
    }
    assert said[damage] in refusal(scanned, folder, kind=CheckpointError)


def test_a_folder_that_is_none(refusal) -> None:
    assert "no such folder" in refusal(open_source, Path("nowhere"), kind=CheckpointError)


def test_groups_keep_encoder_and_decoder_apart() -> None:
    assert group_of("decoder.block.0.layer.2.DenseReluDense.wi") == "decoder.block.0"
    assert group_of("bert.encoder.layer.11.output.dense") == "bert.encoder.layer.11"
    assert group_of("lm_head") == OUTSIDE
    assert {place.group for place in find_places(build("t5")).values() if place.reason is None} == {
        f"{side}.block.{number}" for side in ("encoder", "decoder") for number in (0, 1)
    }


def test_matrices_of_every_rank() -> None:
    tensor = torch.arange(24.0).view(2, 3, 4)
    assert [tuple(m.shape) for m in matrices(tensor, transposed=True)] == [(4, 3), (4, 3)]
    assert torch.equal(matrices(tensor, transposed=False)[1], tensor[1])
    assert matrices(torch.ones(5), transposed=False)[0].shape == (1, 5)
    assert matrices(torch.ones(2, 3, 4, 5), transposed=False)[0].shape == (2, 60)


def test_results_survive_json(folders: dict[str, Path]) -> None:
    result = scanned(folders["t5"], "mxfp4,int8_channel")
    text = json.dumps(result.to_json(), allow_nan=False)
    assert ScanResult.from_json(json.loads(text)).to_json() == result.to_json()
    first = result.modules[0]
    assert ModuleScan.from_json(json.loads(json.dumps(first.to_json()))) == first
