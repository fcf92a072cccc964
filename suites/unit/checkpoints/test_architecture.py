"""What the class of a model can do, read from its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers
from transformers import PretrainedConfig

from harness.checkpoints.architecture import check_decodable, has_sdpa
from harness.evaluate.attention import choose_attention
from harness.exceptions import CheckpointError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("name", ["MambaConfig", "Mamba2Config", "RwkvConfig", "RecurrentGemmaConfig"])
def test_a_model_with_a_cache_of_its_own_is_refused_before_it_is_loaded(name: str) -> None:
    config: PretrainedConfig = getattr(transformers, name)()
    with pytest.raises(CheckpointError, match="keeps a cache of its own, which batched decoding cannot drive"):
        check_decodable(config, Path("a checkpoint"))


def test_auto_attention_is_eager_where_there_is_no_sdpa(caplog: pytest.LogCaptureFixture) -> None:
    bloom, qwen = transformers.BloomConfig(), transformers.Qwen2Config()
    assert choose_attention("auto", (), has_sdpa(bloom)) == "eager"
    assert "no SDPA attention" in caplog.text
    assert choose_attention("auto", (), has_sdpa(qwen)) == "sdpa"
    assert choose_attention("sdpa", (), has_sdpa(bloom)) == "sdpa"  # what was asked for is not replaced
