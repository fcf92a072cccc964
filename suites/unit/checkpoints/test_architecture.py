"""What the class of a model can do, read from its configuration."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import PretrainedConfig

from harness.checkpoints.architecture import check_decodable, has_sdpa
from harness.evaluate.attention import choose_attention
from harness.exceptions import CheckpointError

pytestmark = pytest.mark.unit


CACHE, MASKS, ENCODER = "keeps a cache of its own", "it fills masks", "it is an encoder-decoder"
REFUSED = {
    **dict.fromkeys(("Mamba", "Mamba2", "FalconMamba", "Rwkv", "RecurrentGemma", "xLSTM", "XLNet", "OpenAIGPT"), CACHE),
    **dict.fromkeys(("Bert", "Roberta", "Electra", "RoFormer"), MASKS),
    **dict.fromkeys(("Bart", "Marian", "Florence2"), ENCODER),
    **dict.fromkeys(("T5", "CLIP", "ViT"), "no model of it that answers prompts of text"),
}
TAKEN = ("Qwen2", "Llama", "Gemma3", "Mistral3", "Qwen2VL", "Llama4", "GPT2", "Bloom", "FalconH1", "Jamba", "Lfm2")


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_cannot_be_decoded_is_refused_before_it_is_loaded(name: str) -> None:
    config: PretrainedConfig = getattr(transformers, f"{name}Config")()
    with pytest.raises(CheckpointError, match=REFUSED[name]):
        check_decodable(config, Path("a checkpoint"))


@pytest.mark.parametrize("name", TAKEN)
def test_others_are_taken(name: str) -> None:
    check_decodable(getattr(transformers, f"{name}Config")(), Path("a checkpoint"))


def test_bert_as_a_decoder_is_taken() -> None:
    check_decodable(transformers.BertConfig(is_decoder=True), Path("a checkpoint"))


@pytest.mark.parametrize("name", ["Mamba", "T5"])
def test_plan_and_eval_refuse_it_whatever_its_weights_are(tiny: Path, tmp_path: Path, cli: Any, name: str) -> None:
    """A config of another kind beside sound weights: nothing of them is loaded."""
    folder = Path(shutil.copytree(tiny, tmp_path / "lies"))
    getattr(transformers, f"{name}Config")().save_pretrained(folder)
    for words in (["plan", folder], ["plan", "--config", folder], ["eval", folder, "--out", tmp_path / "run"]):
        said = cli(*words)
        assert said.code == 2 and REFUSED[name] in said.line


def test_auto_attention_is_eager_where_there_is_no_sdpa(caplog: pytest.LogCaptureFixture) -> None:
    bloom, qwen = transformers.BloomConfig(), transformers.Qwen2Config()
    assert choose_attention("auto", (), has_sdpa(bloom)) == "eager"
    assert "no SDPA attention" in caplog.text
    assert choose_attention("auto", (), has_sdpa(qwen)) == "sdpa"
    assert choose_attention("sdpa", (), has_sdpa(bloom)) == "sdpa"  # what was asked for is not replaced
