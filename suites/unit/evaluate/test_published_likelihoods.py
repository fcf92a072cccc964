"""Log-likelihoods of lm-evaluation-harness's own model class on the same checkpoint, item by item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.engines.likelihood import score
from harness.evaluate.prepared import prepare
from harness.evaluate.tasks import requests_of
from harness.spec import EvalSpec

pytestmark = pytest.mark.long
NATS = 1e-4
PAIRS = [(f"The {n} birds sing.", f"The {n} birds sings.") for n in ("two", "three", "four", "many", "some", "few")]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A file for each task."""
    folder = tmp_path_factory.mktemp("data")
    choices = [
        {"question": f"What is {n} plus {n}? ", "choices": [str(2 * n), f"{n} \u00e9", "none"], "answer": n % 3}
        for n in range(6)
    ]
    contexts = [{"context": text, "choices": ["a b", "c"], "answer": 1} for text in ("", "One ", "Two\n\n")]
    return {
        "blimp": write(folder / "blimp", [{"sentence_good": good, "sentence_bad": bad} for good, bad in PAIRS]),
        "choice": write(folder / "choice", choices + contexts),
        "cloze": write(
            folder / "cloze",
            [
                {"text": "Mia has two pens and Tom has three"},
                {"text": "One, two, three, four,  five"},
                {"context": "Mia buys 3 pens. How many?", "answer": "#### 3"},
                {"context": "One \n", "continuation": "two \u00e9"},
            ],
        ),
    }


@pytest.mark.parametrize("checkpoint", ["tiny", "arith"])
@pytest.mark.parametrize("task", ["blimp", "choice", "cloze"])
def test_every_sum_and_every_greedy_flag_is_theirs(
    request: pytest.FixtureRequest, data: dict[str, str], task: str, checkpoint: str
) -> None:
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    path = request.getfixturevalue(checkpoint)
    prepared = prepare(path, EvalSpec(task, data[task], items=None, levels=(0.0,)))
    theirs = huggingface.HFLM(pretrained=str(path), device="cpu", dtype="float32", batch_size=3)
    prompts = [prepared.prompt(item.key, 0) for item in prepared.items]
    found = score(prepared.checkpoint.model, prompts, prepared.decoding.pad)
    for item, own in zip(prepared.items, found, strict=True):
        asked = [
            type("Instance", (), {"args": (each.context, each.continuation)})
            for each in requests_of(prepared.task, item)
        ]
        published = theirs.loglikelihood(asked, disable_tqdm=True)
        for mine, (nats, greedy) in zip(own, published, strict=True):
            assert sum(mine.logprobs) == pytest.approx(nats, abs=NATS) and mine.greedy == greedy
