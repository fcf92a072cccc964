"""Weights that are stored quantized: dequantized and said so, told apart in the key, or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.checkpoints.loading import load_model
from harness.checkpoints.source import resolve
from harness.checkpoints.stored_quantization import FIELD, stored_quantization
from harness.evaluate.prepared import prepare
from harness.exceptions import CheckpointError
from harness.gates.keys import key_differences
from harness.spec import EvalSpec, parse_quantization
from suites.unit.checkpoints.quantized_parts import FP8, SCALE, dequantized, in_fp8, rewritten
from suites.unit.conftest import Said

pytestmark = pytest.mark.unit

SPEC = EvalSpec("arith", items=2, levels=(0.0,), max_new_tokens=4)
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def fp8(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint in eight bits."""
    return rewritten(tiny, tmp_path_factory.mktemp("fp8") / "fp8", in_fp8, {FIELD: FP8})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_fp8_file_is_dequantized_to_the_dtype_of_the_evaluation(fp8: Path, dtype: str) -> None:
    model = load_model(fp8, dtype, "eager")
    wanted = dequantized(load_file(fp8 / "model.safetensors"))
    for name, parameter in model.named_parameters():
        assert parameter.dtype == getattr(torch, dtype)
        assert torch.equal(parameter, wanted[name].to(parameter.dtype)), name


def test_the_key_tells_a_quantized_file_from_a_plain_one_and_across_compares_them(
    fp8: Path, tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="harness"):
        ours, theirs = prepare(fp8, SPEC), prepare(tiny, SPEC)
    assert [record.message for record in caplog.records if "stored as" in record.message] == [
        f"checkpoint {fp8}: its weights, stored as fp8, are dequantized to float32; its activations are not quantized"
    ]
    assert theirs.key["quantization"] == "none"  # as before there were such files
    (difference,) = key_differences(ours.key, theirs.key)
    assert "differ in quantization: candidate 'file in fp8 (" in difference
    assert key_differences(ours.key, theirs.key, across="quantization") == ()
    manifest = ours.manifest().to_json()
    assert manifest["checkpoint"][FIELD] == FP8
    assert FIELD not in theirs.manifest().to_json()["checkpoint"]


def test_what_is_asked_for_stands_behind_what_the_file_says(fp8: Path) -> None:
    asked = EvalSpec("arith", items=2, levels=(0.0,), quantization=parse_quantization("activations=mxfp8"))
    key = prepare(fp8, asked).key["quantization"]
    assert key.startswith("file in fp8 (") and "dequantized; fake_quant(format=mxfp8" in key


def test_the_key_holds_what_decides_about_the_weights_and_not_who_wrote_the_file(tmp_path: Path) -> None:
    def text(**changes: Any) -> str:
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"model_type": "qwen2", FIELD: {**FP8, **changes}}))
        found = stored_quantization(file)
        assert found is not None
        return found.text

    assert text(version="0.9") == text(version="1.0") == text()
    assert text(modules_to_not_convert=["lm_head"]) != text()


def _without(tensors: Mapping[str, Tensor], *names: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in in_fp8(dict(tensors)).items() if name not in names}


def _bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in in_fp8(tensors).items() if not name.endswith(SCALE)}


def _integers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: (127 * value).to(torch.int8) if name == UP else value for name, value in tensors.items()}


@pytest.mark.parametrize(
    ("change", "config", "why"),
    [
        (_bare, {FIELD: FP8}, "is stored as F8_E4M3 without scales"),
        (lambda tensors: _without(tensors, UP + SCALE), {FIELD: FP8}, f"{UP} is stored as F8_E4M3 without scales"),
        (_bare, {}, "is stored as F8_E4M3, and its config.json names no quantization"),
        (_integers, {}, f"{UP} is stored as I8, and its config.json names no quantization"),
        (in_fp8, {FIELD: FP8 | {"weight_block_size": [64, 32]}}, "is not whole blocks of [64, 32] with a scale each"),
        (in_fp8, {FIELD: FP8 | {"weight_block_size": [24, 32]}}, "is not whole blocks of [24, 32] with a scale each"),
        (dict, {FIELD: FP8}, "its config.json says fp8, and none of its weights is stored quantized"),
        (dict, {FIELD: {"quant_method": "mxfp4"}}, "says mxfp4, and none of its weights is stored quantized"),
    ],
)
def test_files_that_are_not_what_their_configuration_says(
    tiny: Path, tmp_path: Path, change: Any, config: Any, why: str, refusal: Callable[..., str]
) -> None:
    """Each of these was loaded without a word, the first four as good as random weights."""
    lies = rewritten(tiny, tmp_path / "lies", change, config)
    for outline in (False, True):
        assert why in refusal(partial(load_model, lies, "float32", "eager", outline=outline), kind=CheckpointError)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "bitnet", "torchao", "quanto", "made-up"])
def test_what_cannot_be_dequantized_is_refused_by_plan_and_eval_before_anything_is_loaded(
    tiny: Path, tmp_path: Path, method: str, cli: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.evaluate.checkpoint.load_model", None)
    folder = rewritten(tiny, tmp_path / "other", dict, {FIELD: {"quant_method": method}})
    why = f"weights quantized with {method} cannot be dequantized here (only fp8, mxfp4, compressed-tensors can)"
    for words in (["plan", folder], ["plan", "--config", folder], ["eval", folder, "--out", tmp_path / "run"]):
        said = cli(*words)
        assert said.code == 2 and why in said.line


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({FIELD: {"bits": 4}}, "it is an object with a quant_method"),
        ({FIELD: [1]}, "it is an object with a quant_method"),
        ({"text_config": {FIELD: FP8}}, "inside another table, which transformers skips"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "of a format that transformers no longer"),
        ({FIELD: FP8 | {"transform_config": {"R1": {}}}}, "transformed as well as quantized"),
    ],
)
def test_entries_that_transformers_would_skip(
    tiny: Path, tmp_path: Path, config: Any, why: str, refusal: Callable[..., str]
) -> None:
    assert why in refusal(resolve, rewritten(tiny, tmp_path / "odd", dict, config), kind=CheckpointError)


def test_null_is_no_quantization(tiny: Path, tmp_path: Path) -> None:
    folder = rewritten(tiny, tmp_path / "null", dict, {FIELD: None})
    assert resolve(folder).quantization is None
    assert load_model(folder, "float32", "eager").dtype == torch.float32


def test_a_plan_says_it(fp8: Path, cli: Callable[..., Said]) -> None:
    for words in (["plan", fp8], ["plan", "--config", fp8]):
        (plan,) = cli(*words, "--json").json["plans"]
        assert "its weights, stored as fp8, are dequantized to float32" in plan["warnings"][0]


def test_four_bits_of_compressed_tensors(tiny: Path, tmp_path: Path) -> None:
    """Packed by hand: eight codes of four bits in an integer, a scale for each group of 32."""
    pytest.importorskip("compressed_tensors")
    wanted: dict[str, Tensor] = {}

    def packed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        found = dict(tensors)
        for name in [name for name in tensors if name.endswith("proj.weight")]:
            weight = found.pop(name)
            groups = weight.reshape(weight.shape[0], -1, 32)
            scales = groups.abs().amax(-1) / 7
            codes = (groups / scales[..., None]).round().reshape(weight.shape)
            wanted[name] = codes * scales.repeat_interleave(32, 1)
            nibbles = (codes.to(torch.int32) + 8).reshape(weight.shape[0], -1, 8)
            found[f"{name}_packed"] = (nibbles << (4 * torch.arange(8, dtype=torch.int32))).sum(-1, dtype=torch.int32)
            found[f"{name}_scale"] = scales
            found[f"{name}_shape"] = torch.tensor(weight.shape)
        return found

    weights = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    config = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }
    folder = rewritten(tiny, tmp_path / "w4a16", packed, {FIELD: config})
    model = load_model(folder, "float32", "eager")
    own = dict(model.named_parameters())
    for name, weight in wanted.items():
        assert torch.equal(own[name], weight), name
    plain = load_model(tiny, "float32", "eager")
    assert set(own) == {name for name, _ in plain.named_parameters()}  # no scales are left beside the weights
    assert all("forward" not in vars(module) for module in model.modules())
    outline = load_model(folder, "float32", "eager", outline=True)
    assert {name for name, _ in outline.named_parameters()} == set(own)
