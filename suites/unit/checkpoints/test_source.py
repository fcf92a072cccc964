"""What a user names and what is loaded for it: kinds of folders, an adapter's base, settings in force, bad input."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.checkpoints.base_record import BASE_FIELD, record_base
from harness.checkpoints.folder import fingerprint_settings, fingerprint_weights
from harness.checkpoints.source import NOT_RECORDED, as_source, resolve, resolve_again
from harness.evaluate.checkpoint import load_checkpoint
from harness.exceptions import CheckpointError, HarnessError, NotComparableError
from suites.unit.checkpoints.checkpoint_parts import PATHS, PREFIX, tensors

pytestmark = pytest.mark.unit

Make = Callable[..., Path]
Refusal = Callable[..., str]
QUERY_A = f"{PREFIX}.{PATHS['q_proj']}.lora_A.weight"


def unmerged(path: Path, **options: Any) -> Any:
    return resolve(path, adapter="unmerged", **options)


def test_a_hugging_face_folder_is_itself(tiny: Path, cache: Path) -> None:
    source = resolve(tiny)
    assert (source.kind, source.folder, source.settings_folder, source.adapter) == ("hf", tiny, tiny, None)
    assert (source.weights, source.settings) == (fingerprint_weights(tiny), fingerprint_settings(tiny))
    assert source.to_json() == {"path": str(tiny), "weights": source.weights, "kind": "hf"}
    assert as_source(source) is source and as_source(tiny) == source
    assert not cache.exists()


def test_an_unmerged_adapter_is_its_base_and_a_folder_beside_it(tiny: Path, make_adapter: Make, cache: Path) -> None:
    adapter = make_adapter()
    source = unmerged(adapter)
    assert (source.kind, source.folder, source.settings_folder, source.adapter) == ("lora", tiny, tiny, adapter)
    assert source.settings == fingerprint_settings(tiny)
    assert source.weights not in (fingerprint_weights(tiny), source.details["adapter"]["weights"])
    assert source.to_json()["adapter"] | {"weights": ""} == {
        "path": str(adapter),
        "weights": "",
        "mode": "unmerged",
        "modules": 2,
    }
    assert source.to_json()["base"] == {
        "path": str(tiny),
        "weights": fingerprint_weights(tiny),
        "recorded": NOT_RECORDED,
    }
    assert json.loads(json.dumps(source.to_json())) == source.to_json()
    assert not cache.exists()


def test_the_fingerprint_follows_content_alone(make_adapter: Make) -> None:
    first = unmerged(make_adapter()).weights
    assert unmerged(make_adapter(target_modules=["down_proj", "q_proj"])).weights == first
    other = tensors()
    other[QUERY_A][0, 0] += 1
    assert len({first, unmerged(make_adapter(other)).weights, unmerged(make_adapter(lora_alpha=5)).weights}) == 3


def test_the_base_may_lie_relative_to_the_adapter_or_be_given(tiny: Path, make_adapter: Make, refusal: Refusal) -> None:
    adapter = make_adapter(base_model_name_or_path="../base")
    assert "give it with --base FOLDER" in refusal(unmerged, adapter, kind=CheckpointError)
    assert unmerged(adapter, base=tiny).folder == tiny
    shutil.copytree(tiny, adapter.parent / "base")
    assert unmerged(adapter).folder.resolve() == (adapter.parent / "base").resolve()
    assert unmerged(adapter).weights == unmerged(adapter, base=tiny).weights
    missing = adapter.parent / "nowhere"
    assert str(missing) in refusal(lambda: unmerged(adapter, base=missing), kind=CheckpointError)
    assert "is an adapter too" in refusal(lambda: unmerged(adapter, base=make_adapter()), kind=CheckpointError)


def test_a_base_that_is_not_recorded_is_said(make_adapter: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert unmerged(make_adapter()).details["base"]["recorded"] == NOT_RECORDED
    assert BASE_FIELD in caplog.text and "nothing shows" in caplog.text


def training(value: str) -> str:
    names = dict.fromkeys(("data_order", "dataset", "template"), "h")
    numbers = {"seed": 0, "step": 1, "updates": 1, "epochs": 1.0, "initial_losses": [1.0]}
    return json.dumps({"config": {BASE_FIELD: value}, **names, **numbers})


PLACES: dict[str, Callable[[str], str]] = {
    "training.json": training,
    "README.md": lambda value: f"---\nlibrary_name: peft\n{BASE_FIELD}: {value}\n---\n# Card\n",
}


@pytest.mark.parametrize("place", ["adapter_config.json", *PLACES])
def test_a_recorded_base_must_be_the_one_there(
    tiny: Path, make_adapter: Make, refusal: Refusal, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    own, other = fingerprint_weights(tiny), "0" * 64

    def adapter(value: str) -> Path:
        if place == "adapter_config.json":
            return make_adapter(**{BASE_FIELD: value})
        folder = make_adapter()
        (folder / place).write_text(PLACES[place](value))
        return folder

    with caplog.at_level(logging.WARNING):
        assert unmerged(adapter(own)).details["base"]["recorded"] == own
    assert not caplog.text
    line = refusal(unmerged, adapter(other), kind=NotComparableError, code=4)
    assert own[:16] in line and other[:16] in line and "--base" in line
    assert "no SHA-256" in refusal(unmerged, adapter("abc"), kind=CheckpointError)


def test_records_that_disagree_are_refused(tiny: Path, make_adapter: Make, refusal: Refusal) -> None:
    adapter = make_adapter()
    assert record_base(adapter, tiny) == fingerprint_weights(tiny)
    assert unmerged(adapter).details["base"]["recorded"] == fingerprint_weights(tiny)
    (adapter / "README.md").write_text(PLACES["README.md"]("1" * 64))
    assert "correct the one" in refusal(unmerged, adapter, kind=CheckpointError)
    (adapter / "README.md").write_text(f"no front matter\n{BASE_FIELD}: {'1' * 64}\n")
    assert unmerged(adapter).details["base"]["recorded"] == fingerprint_weights(tiny)


def test_settings_of_the_adapter_come_before_those_of_the_base(tiny: Path, make_adapter: Make, cache: Path) -> None:
    adapter = make_adapter()
    (adapter / "chat_template.jinja").write_text("{{ messages[0]['content'] }}!")
    (adapter / "generation_config.json").write_text('{"eos_token_id": [7, 258]}')
    source = unmerged(adapter)
    assert source.settings_folder.parent == cache and source.folder == tiny
    assert source.settings == fingerprint_settings(source.settings_folder) != fingerprint_settings(tiny)
    found = load_checkpoint(source)
    question = [{"role": "user", "content": "2"}]
    assert found.tokenizer.apply_chat_template(question, tokenize=False) == "2!"
    assert found.model.generation_config.eos_token_id == [7, 258]
    (adapter / "chat_template.jinja").write_text("{{ messages[0]['content'] }}?")
    assert unmerged(adapter).settings != source.settings


def test_a_tokenizer_without_a_template_gets_that_of_the_base(tiny: Path, make_adapter: Make) -> None:
    adapter = make_adapter()
    shutil.copy(tiny / "tokenizer.json", adapter)
    inline = json.loads((tiny / "tokenizer_config.json").read_text())
    assert "chat_template" not in inline
    (adapter / "tokenizer_config.json").write_text(json.dumps(inline))
    plain = unmerged(adapter)
    assert load_checkpoint(plain).tokenizer.chat_template == load_checkpoint(tiny).tokenizer.chat_template
    (adapter / "tokenizer_config.json").write_text(json.dumps(inline | {"chat_template": "own"}))
    assert load_checkpoint(unmerged(adapter)).tokenizer.chat_template == "own"


def renamed(old: str, new: str) -> dict[str, torch.Tensor]:
    return {name.replace(old, new): tensor for name, tensor in tensors().items()}


def changed(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: change(tensor) if key == name else tensor for key, tensor in tensors().items()}


def spoilt(tensor: torch.Tensor) -> torch.Tensor:
    tensor[0, 0] = torch.nan
    return tensor


BAD: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "unknown module": (lambda: renamed("down_proj", "sideways_proj"), {}, "fit no linear of Qwen2ForCausalLM"),
    "unknown target": (tensors, {"target_modules": ["q_proj", "down_proj", "w1"]}, "'w1' is not a module"),
    "target without update": (tensors, {"target_modules": ["q_proj", "down_proj", "v_proj"]}, "v_proj is a target"),
    "regex target without update": (tensors, {"target_modules": r".*\.[qvo]_proj|.*down_proj"}, "is a target"),
    "all linears": (tensors, {"target_modules": "all-linear"}, "is a target"),
    "other shape": (lambda: changed(QUERY_A, lambda t: t[:, :32].contiguous()), {}, "has shape [64, 32], the base has"),
    "factors apart": (lambda: changed(QUERY_A, lambda t: t[:1].contiguous()), {}, "do not fit together"),
    "half a pair": (lambda: {n: t for n, t in tensors().items() if n != QUERY_A}, {}, "lora_A.weight is missing"),
    "NaN": (lambda: changed(QUERY_A, spoilt), {}, "holds 1 NaN"),
    "nothing": (dict, {}, "it holds no update"),
    "another kind": (tensors, {"peft_type": "IA3"}, "only plain LoRA"),
    "dora": (tensors, {"use_dora": True}, "use_dora"),
    "whole modules": (tensors, {"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "changed base": (tensors, {"init_lora_weights": "pissa"}, "which changes the base"),
    "no rank": (tensors, {"r": 0}, "r or lora_alpha"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_adapter_that_does_not_fit_is_one_clear_line(make_adapter: Make, refusal: Refusal, kind: str) -> None:
    stored, config, words = BAD[kind]
    assert words in refusal(unmerged, make_adapter(stored(), **config), kind=CheckpointError)


def test_narrower_targets_may_leave_linears_bare(make_adapter: Make) -> None:
    narrow = {"target_modules": ["q_proj", "down_proj", "v_proj"], "exclude_modules": ["v_proj"]}
    assert unmerged(make_adapter(**narrow)).details["adapter"]["modules"] == 2


def test_folders_that_are_two_things_or_none(tiny: Path, make_adapter: Make, refusal: Refusal, tmp_path: Path) -> None:
    adapter = make_adapter()
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "can run code" in refusal(unmerged, adapter, kind=CheckpointError)
    both = make_adapter()
    shutil.copy(tiny / "model.safetensors", both)
    assert "keep them in two folders" in refusal(resolve, both, kind=CheckpointError)
    assert "no such folder" in refusal(resolve, tmp_path / "nowhere", kind=CheckpointError)
    quantized = Path(shutil.copytree(tiny, tmp_path / "quantized"))
    config = json.loads((quantized / "config.json").read_text()) | {"quantization_config": {"quant_method": "fp8"}}
    (quantized / "config.json").write_text(json.dumps(config))
    assert "quantized already" in refusal(lambda: unmerged(make_adapter(), base=quantized), kind=CheckpointError)


def test_options_that_do_not_fit(tiny: Path, refusal: Refusal) -> None:
    assert "it is no adapter" in refusal(lambda: resolve(tiny, base=tiny))
    assert "it is no adapter" in refusal(lambda: resolve(tiny, adapter="unmerged"))
    assert "merged, unmerged" in refusal(lambda: resolve(tiny, adapter="melded"), kind=HarnessError)


def test_a_manifest_leads_back_to_its_source(tiny: Path, make_adapter: Make) -> None:
    adapter = make_adapter(base_model_name_or_path="gone")
    source = unmerged(adapter, base=tiny)
    assert resolve_again(source.to_json()) == source
    moved = adapter.rename(adapter.parent / "moved")
    assert resolve_again(source.to_json(), moved).weights == source.weights
    assert resolve_again(resolve(tiny).to_json()) == resolve(tiny)
    assert resolve_again({"path": str(tiny), "weights": "of an old manifest"}) == resolve(tiny)
