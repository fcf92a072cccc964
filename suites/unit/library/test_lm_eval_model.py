"""The model ``harness`` of lm-eval: with stand-ins of its classes what it asks, with the package the same numbers."""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.exceptions import EvidenceError, HarnessError
from harness.runs.loaded import load_run

pytestmark = pytest.mark.unit

MODULE = "harness.library.lm_eval_model"


@dataclass
class Instance:
    """What of a request of lm-eval is read here."""

    args: tuple[Any, ...]
    task_name: str | None = None
    doc_id: int | None = None


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, made with stand-ins of lm-eval's classes."""
    names = {}
    api, registry = types.ModuleType("lm_eval.api.model"), types.ModuleType("lm_eval.api.registry")
    api.LM = type("LM", (), {})  # type: ignore[attr-defined]
    registry.register_model = lambda name: lambda found: names.setdefault(name, found)  # type: ignore[attr-defined]
    for module in (types.ModuleType("lm_eval"), types.ModuleType("lm_eval.api"), api, registry):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    yield importlib.import_module(MODULE)
    assert list(names) == ["harness"]
    sys.modules.pop(MODULE, None)


def test_requests_are_answered_and_the_results_say_by_what(model: Any, two_layers: Path, tmp_path: Path) -> None:
    lm = model.HarnessLM(str(two_layers), str(tmp_path / "o"), level="0.05", batch_size="auto:4", device="cpu")
    assert lm.get_model_info()["harness"]["certificate"] == "nothing was answered"
    pairs = [Instance(("Tom has 3", f" {n}"), "t", n // 2) for n in range(4)]
    answers = lm.loglikelihood(pairs)
    assert len(answers) == 4 and all(nats < 0 and greedy in (True, False) for nats, greedy in answers)
    assert lm.loglikelihood_rolling([Instance(("Tom has 3 pens.",))])[0] < 0
    (text,) = lm.generate_until([Instance(("Tom has", {"until": ["a"], "max_gen_toks": 3}))])
    assert isinstance(text, str)
    told = lm.get_model_info()["harness"]
    assert (told["level"], told["seed"], told["certificate"]) == (0.05, 0, "certified") and "0.05" in told["noise"]
    assert [load_run(Path(run)).arm.certificate.status for run in told["runs"]] == ["certified"] * 3
    assert told["notes"] == []
    json.dumps(told)


def test_the_device_that_lm_eval_gives_by_itself_is_none(model: Any, two_layers: Path, tmp_path: Path) -> None:
    for given, wanted in (("cuda:0", None), (None, None), ("cpu", "cpu"), ("cuda:1", "cuda:1")):
        assert model.HarnessLM(str(two_layers), str(tmp_path / "o"), device=given)._asking.device == wanted


def test_documents_are_told_apart_by_task_and_number(model: Any) -> None:
    assert model._document(Instance((), "t", 3)) == ("t", 3)
    assert model._document(Instance(())) is model._document(Instance((), "t")) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"levle": 0.1}, "did you mean 'levels'"),
        ({"level": "much"}, "level=much; it is a number"),
        ({"seed": 1.5}, "it is a whole number"),
        ({"level": 0.1, "levels": "0+0.05"}, "the levels evaluated are 0, 0.05"),
        ({"noise": "gaussain"}, "gaussain"),
    ],
)
def test_what_it_is_given_is_checked(
    model: Any, two_layers: Path, tmp_path: Path, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(HarnessError, match=words):
        model.HarnessLM(str(two_layers), str(tmp_path / "o"), **given)
    assert not (tmp_path / "o").exists()


def test_neither_a_cache_nor_several_processes_answer(
    model: Any, two_layers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = model.HarnessLM(str(two_layers), str(tmp_path / "o"))
    with pytest.raises(HarnessError, match="answers of a cache have no evidence"):
        lm.set_cache_hook(object())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(HarnessError, match="several processes would answer the same requests"):
        model.HarnessLM(str(two_layers), str(tmp_path / "o"))


def test_chats_are_written_by_the_checkpoints_own_template(model: Any, two_layers: Path, tmp_path: Path) -> None:
    lm = model.HarnessLM(str(two_layers), str(tmp_path / "o"))
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A:"}]
    assert lm.apply_chat_template(said[:1]).endswith("<|im_start|>assistant\n")
    assert lm.apply_chat_template(said, add_generation_prompt=False).endswith("A:")
    assert lm.chat_template(True) == lm.tokenizer.chat_template and lm.chat_template(False) is None
    assert lm.tokenizer_name.startswith("harness__")
    with pytest.raises(HarnessError, match="one chat template"):
        lm.chat_template("tools")
    with pytest.raises(HarnessError, match="its chat template fails"):
        lm.apply_chat_template([{"role": "user"}])


TASKS = {
    "mini_choice": "output_type: multiple_choice\ndoc_to_target: 1\ndoc_to_choice: ['{{a - 1}}', '{{a}}']",
    "mini_answer": "output_type: generate_until\ndoc_to_target: '{{a}}'\n"
    "generation_kwargs: {until: ['.'], max_gen_toks: 6}\n"
    "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]",
    "mini_text": "output_type: loglikelihood_rolling\ndoc_to_target: '{{q}} {{a}}'\n"
    "metric_list: [{metric: word_perplexity}]",
}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    rows = [{"q": f"Tom has {n} pens. He gets {n} more.", "a": 2 * n} for n in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, kind in TASKS.items():
        data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / 'rows.jsonl'}}}}}"
        text = f"task: {name}\n{data}\ntest_split: test\ndoc_to_text: '{{{{q}}}} So'\n{kind}\n"
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_without_noise_lm_eval_reports_what_its_own_class_gives(two_layers: Path, tasks: Path, tmp_path: Path) -> None:
    """Every kind of request at once; with noise the numbers are others, and there are none without evidence."""
    lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval is not installed")
    managers = pytest.importorskip("lm_eval.tasks", reason="lm-eval is not installed")
    model = importlib.import_module(MODULE)

    def samples(lm: Any) -> dict[str, list[dict[str, Any]]]:
        manager = managers.TaskManager(include_path=str(tasks), include_defaults=False)
        found = lm_eval.simple_evaluate(lm, tasks=list(TASKS), task_manager=manager, bootstrap_iters=0)
        return {name: sorted(found["samples"][name], key=lambda each: each["doc_id"]) for name in TASKS}

    def numbers(found: dict[str, list[dict[str, Any]]]) -> list[float]:
        kept = [each for name in ("mini_choice", "mini_text") for each in found[name]]
        return [float(nats) for each in kept for (answer,) in each["resps"] for nats in _flat(answer)]

    theirs = samples(huggingface.HFLM(pretrained=str(two_layers), dtype="float32", device="cpu"))
    lm = model.HarnessLM(str(two_layers), str(tmp_path / "o"), levels=(0.0, 0.05), device="cpu")
    ours = samples(lm)
    assert numbers(ours) == pytest.approx(numbers(theirs), abs=1e-4)
    assert [each["resps"] for each in ours["mini_answer"]] == [each["resps"] for each in theirs["mini_answer"]]
    for name, metric in (("mini_choice", "acc"), ("mini_answer", "exact_match")):
        assert [each[metric] for each in ours[name]] == [each[metric] for each in theirs[name]]
    noisy = samples(model.HarnessLM(str(two_layers), str(tmp_path / "o"), 0.05, device="cpu"))
    assert numbers(noisy) != pytest.approx(numbers(theirs), abs=1e-2)
    for run in (tmp_path / "o").iterdir():
        if (run / "manifest.json").is_file():
            (run / "records.sqlite").write_bytes(b"edited")
    with pytest.raises((EvidenceError, HarnessError)):
        samples(lm)


def _flat(answer: Any) -> list[float]:
    """The numbers of one answer: (nats, greedy) of a continuation, nats of a text."""
    return [answer[0], float(answer[1] in (True, "True"))] if isinstance(answer, tuple | list) else [answer]
